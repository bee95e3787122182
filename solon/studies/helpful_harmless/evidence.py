"""What HH-RLHF's study finds, and the preference-model part of it: data, size, mixtures, weights."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from solon.alignment.outliers import Separation
from solon.alignment.preference import PreferenceModel, end_states, ridge_head
from solon.alignment.quality import ScoredComparison, accuracy, scored_comparison
from solon.data.published import first_human_text
from solon.errors import InputError
from solon.models.base import Sample, derive
from solon.models.scalar import ScalarModel
from solon.models.torch_model import TorchModel
from solon.models.weights import load_tensors, save_tensors
from solon.records.run import Run
from solon.statistics.intervals import Estimate
from solon.studies.helpful_harmless.settings import Inputs, Settings
from solon.study.stages import alternated, first_layers, score_comparisons, train_preference_model
from solon.words.comparison import Comparison

AXES = ("helpful", "harmless")
NAMES = {"train_pm": "train PM", "test_pm": "test PM"}
BASELINE = 4  # replies of the start to each prompt of reinforcement, which the policy's are set against
CHUNK = 128  # comparisons whose states are kept in one file


@dataclass(frozen=True, slots=True)
class Cell:
    """Preference models of one number of comparisons on one depth: how often each held-out comparison was
    judged right over the draws, and the scores that the first draw gave.
    """

    size: int
    depth: float
    right: tuple[float, ...]
    rows: tuple[ScoredComparison, ...]


@dataclass(slots=True)
class Findings:
    """Everything the report prints; what was not made is empty."""

    cells: list[Cell] = field(default_factory=list)
    mixtures: dict[float, dict[str, Estimate]] = field(default_factory=dict)
    lambdas: dict[float, dict[str, Estimate]] = field(default_factory=dict)
    quality: dict[str, list[ScoredComparison]] = field(default_factory=dict)
    steps: Sequence[Mapping[str, float]] = ()
    best: dict[int, dict[str, Estimate]] = field(default_factory=dict)
    # player -> first reply to each held-out prompt
    said: dict[str, list[Sample]] = field(default_factory=dict)
    # player -> judge -> of those replies
    scores: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    games: dict[tuple[str, str], list[Comparison]] = field(default_factory=dict)  # by the annotator
    gained: list[tuple[str, float]] = field(
        default_factory=list
    )  # prompt and train-PM scores of the last steps' rollouts over the start's on the same prompts
    far: list[Separation] = field(default_factory=list)
    exposed: list[Separation] = field(default_factory=list)
    unsure: float = 0.0  # an annotator's probability this near to one half is no game
    counts: dict[str, int] = field(default_factory=dict)


def split_by_dialogue(
    base: TorchModel, inputs: Inputs, settings: Settings, seed: int, counts: dict[str, int]
) -> tuple[list[Comparison], list[Comparison]]:
    """Decided comparisons that fit the context, parted by dialogue: to measure with and to learn from, in a
    drawn order. Those of dialogues that are held out only measure, those of dialogues that are practised on
    are only learned from.
    """
    reader = PreferenceModel("", ScalarModel(base.module), base.dialogue)
    decided = [c for c in inputs.comparisons if c.p_first != 0.5]
    fitting = [c for c in decided if reader.fits_context(c)]
    counts["comparisons that were ties, left out"] = len(inputs.comparisons) - len(decided)
    counts["comparisons too long for the context, left out"] = len(decided) - len(fitting)
    dialogues: dict[str, list[Comparison]] = {}
    for comparison in fitting:
        dialogues.setdefault(first_human_text(comparison.prompt), []).append(comparison)
    practised, held = (
        {first_human_text(prompt) for prompt in prompts} for prompts in (inputs.prompts, inputs.held_out)
    )
    test = [comparison for name in sorted(held & set(dialogues)) for comparison in dialogues[name]]
    pool: list[Comparison] = []
    rest = sorted(set(dialogues) - held)
    for name in random.Random(derive(seed, "parted")).sample(rest, len(rest)):
        (test if len(test) < settings.measured and name not in practised else pool).extend(dialogues[name])
    if len(test) < 20 or len(pool) < 2 * settings.sizes[0]:
        raise InputError(
            f"{len(inputs.comparisons)} comparisons give {len(test)} to measure with (of dialogues that "
            f"are not among the prompts) and {len(pool)} to "
            f"learn from; at least 20 and {2 * settings.sizes[0]} are needed"
        )
    pool = random.Random(derive(seed, "pool")).sample(pool, len(pool))
    counts["comparisons over `learned`, left out"] = len(pool) - len(pool[: settings.learned or None])
    return alternated(test), alternated(pool[: settings.learned or None])


def mixable(pool: Sequence[Comparison], test: Sequence[Comparison]) -> bool:
    """Whether there are enough of both kinds, to learn from and to measure with."""
    return all(sum(c.axis == axis for c in part) >= 8 for part in (pool, test) for axis in AXES)


def sizes(pool: Sequence[Comparison], settings: Settings, counts: dict[str, int]) -> list[int]:
    """Those that the pool allows; the others are counted."""
    found = [size for size in settings.sizes if size <= len(pool)]
    counts["sizes over the number of comparisons, left out"] = len(settings.sizes) - len(found)
    return found


def cell(
    run: Run,
    base: TorchModel,
    depth: float,
    size: int,
    pool: Sequence[Comparison],
    test: Sequence[Comparison],
    states_N2C: np.ndarray | None,
    settings: Settings,
) -> Cell:
    """`draws` preference models of one size, on held-out comparisons: trained through, or heads on the states
    of pool and test.
    """
    draws = []
    for draw in range(settings.draws):
        chosen = random.Random(derive(run.seed, "draw", size, draw)).sample(range(len(pool)), size)
        if settings.finetuned or states_N2C is None:
            name = f"pm_{depth:g}_{size}_{draw}"
            unlearned = PreferenceModel(
                name, ScalarModel(first_layers(base.copy().module, depth)), base.dialogue
            )
            draws.append(
                score_comparisons(
                    run,
                    f"scores_{name}",
                    test,
                    train_preference_model(run, unlearned, [pool[place] for place in chosen], settings).score,
                )
            )
        else:
            head_C = ridge_head(states_N2C[chosen], np.array([pool[place].p_first for place in chosen]))
            draws.append(rows_of(test, states_N2C[len(pool) :] @ head_C))
    right = [sum(rows[place].right for rows in draws) / len(draws) for place in range(len(test))]
    return Cell(size, depth, tuple(right), tuple(draws[0]))


def rows_of(test: Sequence[Comparison], scores_N2: np.ndarray) -> list[ScoredComparison]:
    return [
        scored_comparison(comparison, float(first), float(second))
        for comparison, (first, second) in zip(test, scores_N2, strict=True)
    ]


def kept_states(run: Run, base: TorchModel, depth: float, comparisons: Sequence[Comparison]) -> np.ndarray:
    """The states that a head on the first layers reads for both replies of every comparison, (N, 2, C), kept
    in chunks.
    """
    model = PreferenceModel("", ScalarModel(first_layers(base.module, depth)), base.dialogue)
    parts, meter = [], run.progress(f"states_{depth:g}", len(comparisons), 0)
    for start in range(0, len(comparisons), CHUNK):
        some = comparisons[start : start + CHUNK]
        name = f"states/{depth:g}-{start // CHUNK:03d}-{row_key(some)}.safetensors"

        def write(path: Path, some: Sequence[Comparison] = some) -> None:
            save_tensors({"states": torch.from_numpy(end_states(model, some))}, path)

        path = run.artefact(name, write)
        parts.append(load_tensors(path)["states"].numpy())
        meter(min(start + CHUNK, len(comparisons)))
    return np.concatenate(parts)


def row_key(comparisons: Sequence[Comparison]) -> str:
    return f"{derive(0, *(comparison.key for comparison in comparisons)) % 16**8:08x}"


def mixtures(
    pool: Sequence[Comparison],
    test: Sequence[Comparison],
    states_N2C: np.ndarray,
    settings: Settings,
    seed: int,
) -> dict[float, Any]:
    """Accuracy on each axis of a head that learned from a share of harmless comparisons, their number being
    the same.
    """
    places = {axis: [place for place, c in enumerate(pool) if c.axis == axis] for axis in AXES}
    total = min(map(len, places.values()))
    found = {}
    for share in settings.mixtures:
        harmless = round(share * total)
        rng = random.Random(derive(seed, "mixture", share))
        chosen = rng.sample(places["harmless"], harmless) + rng.sample(places["helpful"], total - harmless)
        head_C = ridge_head(states_N2C[chosen], np.array([pool[place].p_first for place in chosen]))
        found[share] = by_axis(rows_of(test, states_N2C[len(pool) :] @ head_C))
    return found


def weighings(
    pool: Sequence[Comparison], test: Sequence[Comparison], states_N2C: np.ndarray, settings: Settings
) -> dict[float, Any]:
    """The same over lambda, the weight of the harmless part of the loss, on all comparisons."""
    p_first_N = np.array([c.p_first for c in pool])
    found = {}
    for weight in settings.lambdas:
        weight_N = np.array([weight if c.axis == "harmless" else 1.0 for c in pool])
        found[weight] = by_axis(
            rows_of(test, states_N2C[len(pool) :] @ ridge_head(states_N2C[: len(pool)], p_first_N, weight_N))
        )
    return found


def by_axis(rows: Sequence[ScoredComparison]) -> dict[str, Estimate]:
    return {axis: accuracy([row for row in rows if row.axis == axis]) for axis in AXES}
