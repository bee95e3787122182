"""Preference models over data and size, over mixtures of both kinds of comparisons, and over weights of one
(HH-RLHF sections 3.2 to 3.4).

Shapes: N comparisons of two replies each, C the width of a state.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from solon.alignment.preference import PreferenceModel, end_states, ridge_head
from solon.alignment.quality import ScoredComparison, accuracy, scored_comparison
from solon.data.published import first_human_text
from solon.errors import InputError
from solon.models.base import derive
from solon.models.scalar import ScalarModel
from solon.models.torch_model import TorchModel
from solon.models.weights import load_tensors, save_tensors
from solon.records.run import Run
from solon.statistics.intervals import Estimate
from solon.studies.helpful_harmless.inputs import Inputs
from solon.studies.helpful_harmless.settings import Settings
from solon.study.claims import rate
from solon.study.stages import (
    alternated,
    by_dialogue,
    first_layers,
    new_preference_model,
    score_comparisons,
    train_preference_model,
)
from solon.words.comparison import Comparison

AXES = ("helpful", "harmless")
CHUNK = 128  # comparisons whose states are kept in one file
ByAxis = dict[str, Estimate]  # accuracy on helpful and on harmless comparisons


@dataclass(frozen=True, slots=True)
class Cell:
    """Preference models of one number of comparisons on one depth: how often each held-out comparison was
    judged right over the draws, and the dialogue that it comes from.
    """

    size: int
    depth: float
    right: tuple[float, ...]
    dialogues: tuple[str, ...]

    @property
    def accuracy(self) -> Estimate:
        """Over held-out dialogues."""
        return rate(self.right, self.dialogues)


def split_by_dialogue(
    base: TorchModel, inputs: Inputs, settings: Settings, seed: int, counts: dict[str, int]
) -> tuple[list[Comparison], list[Comparison]]:
    """Decided comparisons that fit the context, split by dialogue: to measure with and to learn from, in a
    drawn order. Those of dialogues that are held out only measure, those of dialogues that are reinforced on
    are only learned from. Raises InputError where either are too few.
    """
    reader = PreferenceModel("", ScalarModel(base.module), base.dialogue)
    decided = [c for c in inputs.comparisons if c.p_first != 0.5]
    fitting = [c for c in decided if reader.fits_context(c)]
    dialogues = by_dialogue(fitting)
    reinforced, held = (
        {first_human_text(prompt) for prompt in prompts} for prompts in (inputs.prompts, inputs.held_out)
    )
    test = [comparison for name in sorted(held & set(dialogues)) for comparison in dialogues[name]]
    pool: list[Comparison] = []
    rest = sorted(set(dialogues) - held)
    for name in random.Random(derive(seed, "parted")).sample(rest, len(rest)):
        (test if len(test) < settings.measured and name not in reinforced else pool).extend(dialogues[name])
    if len(test) < 20 or len(pool) < 2 * settings.sizes[0]:
        raise InputError(
            f"{len(inputs.comparisons)} comparisons give {len(test)} to measure with (of dialogues that are "
            f"not among the prompts) and {len(pool)} to learn from; at least 20 and {2 * settings.sizes[0]} "
            "are needed"
        )
    order = random.Random(derive(seed, "pool")).sample(pool, len(pool))
    learned = order[: settings.learned or None]
    counts |= {
        "comparisons that were ties, left out": len(inputs.comparisons) - len(decided),
        "comparisons too long for the context, left out": len(decided) - len(fitting),
        "comparisons over `learned`, left out": len(pool) - len(learned),
        "comparisons to measure with": len(test),
        "comparisons to learn from": len(learned),
    }
    return alternated(test), alternated(learned)


def mixable(pool: Sequence[Comparison], test: Sequence[Comparison]) -> bool:
    """Whether there are enough of both kinds, to learn from and to measure with."""
    return all(sum(c.axis == axis for c in part) >= 8 for part in (pool, test) for axis in AXES)


def measure_cell(
    run: Run,
    base: TorchModel,
    depth: float,
    size: int,
    pool: Sequence[Comparison],
    *,
    test: Sequence[Comparison],
    states_N2C: np.ndarray | None,
    settings: Settings,
) -> Cell:
    """`draws` preference models of one size, on held-out comparisons: trained through, or heads on the states
    of pool and test.
    """

    def score(draw: int) -> list[ScoredComparison]:
        chosen = random.Random(derive(run.seed, "draw", size, draw)).sample(range(len(pool)), size)
        if states_N2C is not None:
            return score_head(states_N2C, pool, test, chosen)
        model = new_preference_model(base, depth, name=f"pm_{depth:g}_{size}_{draw}")
        trained = train_preference_model(run, model, [pool[index] for index in chosen], settings)
        return score_comparisons(run, f"scores_{model.name}", test, trained.score)

    draws = [score(draw) for draw in range(settings.draws)]
    right = tuple(sum(row.right for row in rows) / len(rows) for rows in zip(*draws, strict=True))
    return Cell(size, depth, right, tuple(row.dialogue for row in draws[0]))


def score_head(
    states_N2C: np.ndarray,
    pool: Sequence[Comparison],
    test: Sequence[Comparison],
    chosen: Sequence[int],
    weight_N: np.ndarray | None = None,
) -> list[ScoredComparison]:
    """What a ridge head that learned from the chosen rows of the pool gives the test, whose states follow the
    pool's.
    """
    p_first_N = np.array([pool[index].p_first for index in chosen])
    scores_N2 = states_N2C[len(pool) :] @ ridge_head(states_N2C[list(chosen)], p_first_N, weight_N)
    return [
        scored_comparison(comparison, float(first), float(second))
        for comparison, (first, second) in zip(test, scores_N2, strict=True)
    ]


def keep_states(run: Run, base: TorchModel, depth: float, comparisons: Sequence[Comparison]) -> np.ndarray:
    """The states that a head on the first layers reads for both replies of every comparison, (N, 2, C), kept
    in chunks.
    """
    model = PreferenceModel("", ScalarModel(first_layers(base.module, depth)), base.dialogue)
    parts, meter = [], run.progress(f"states_{depth:g}", len(comparisons), 0)
    for start in range(0, len(comparisons), CHUNK):
        chunk = comparisons[start : start + CHUNK]
        digest = f"{derive(0, *(comparison.key for comparison in chunk)) % 16**8:08x}"

        def write(path: Path, chunk: Sequence[Comparison] = chunk) -> None:
            save_tensors({"states": torch.from_numpy(end_states(model, chunk))}, path)

        path = run.artefact(f"states/{depth:g}-{start // CHUNK:03d}-{digest}.safetensors", write)
        parts.append(load_tensors(path)["states"].numpy())
        meter(min(start + CHUNK, len(comparisons)))
    return np.concatenate(parts)


def measure_mixtures(
    pool: Sequence[Comparison],
    test: Sequence[Comparison],
    states_N2C: np.ndarray,
    shares: Sequence[float],
    *,
    seed: int,
) -> dict[float, ByAxis]:
    """Accuracy on each axis of a head that learned from a share of harmless comparisons, their number being
    the same.
    """
    indices = {axis: [index for index, c in enumerate(pool) if c.axis == axis] for axis in AXES}
    total = min(map(len, indices.values()))
    results = {}
    for share in shares:
        harmless = round(share * total)
        rng = random.Random(derive(seed, "mixture", share))
        chosen = rng.sample(indices["harmless"], harmless) + rng.sample(indices["helpful"], total - harmless)
        results[share] = accuracy_by_axis(score_head(states_N2C, pool, test, chosen))
    return results


def measure_weights(
    pool: Sequence[Comparison],
    test: Sequence[Comparison],
    states_N2C: np.ndarray,
    lambdas: Sequence[float],
) -> dict[float, ByAxis]:
    """The same over lambda, the weight of the harmless part of the loss, on all comparisons."""
    results = {}
    for weight in lambdas:
        weight_N = np.array([weight if c.axis == "harmless" else 1.0 for c in pool])
        rows = score_head(states_N2C, pool, test, range(len(pool)), weight_N)
        results[weight] = accuracy_by_axis(rows)
    return results


def accuracy_by_axis(rows: Sequence[ScoredComparison]) -> ByAxis:
    """Accuracy on the comparisons of each axis."""
    return {axis: accuracy([row for row in rows if row.axis == axis]) for axis in AXES}
