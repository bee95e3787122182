"""HH-RLHF's prompts out of distribution, told apart by what each layer makes of them (section 5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from solon.alignment.outliers import Separation, detector_aurocs, exposure_aurocs, prompt_states
from solon.models.base import derive
from solon.models.torch_model import TorchModel
from solon.models.weights import load_tensors, save_tensors
from solon.records.report import Claim, Figure, Line, Section, Table
from solon.records.run import Run
from solon.studies.helpful_harmless.inputs import Inputs
from solon.words.conversation import Conversation

FEWEST = 16  # in-distribution prompts: half of them fit the detector


def tell_apart(run: Run, inputs: Inputs, examples: int) -> tuple[list[Separation], list[Separation]]:
    """How well each layer tells out-of-distribution prompts apart: by distance alone, and with a few known
    ones. Nothing where there are too few prompts.
    """
    if len(inputs.in_distribution) < FEWEST or not inputs.out_of_distribution:
        return [], []
    inside = layer_states(run, "in_distribution", inputs.start, inputs.in_distribution)
    outside = layer_states(run, "out_of_distribution", inputs.start, inputs.out_of_distribution)
    by_distance = detector_aurocs(inside, outside, seed=run.seed)
    if len(outside) > examples <= len(inside) // 2:
        return by_distance, exposure_aurocs(inside, outside, examples=examples, seed=run.seed)
    return by_distance, []


def layer_states(run: Run, name: str, start: TorchModel, prompts: Sequence[Conversation]) -> np.ndarray:
    """Every layer's mean over each prompt's tokens, (N, L, C), kept."""
    tokens = [start.dialogue.prompt(prompt) for prompt in prompts]
    path = run.artefact(
        f"layers_{name}-{derive(0, *tokens) % 16**8:08x}.safetensors",
        lambda path: save_tensors(
            {"states": torch.from_numpy(prompt_states(start.module, tokens)).float()}, path
        ),
    )
    return np.asarray(load_tensors(path)["states"].double().numpy())


def outlier_section(
    by_distance: Sequence[Separation], by_exposure: Sequence[Separation], inputs: Inputs
) -> Section:
    """How well each layer tells out-of-distribution prompts apart. The claim is of the middle layer, named
    before looking: the best of all layers would be chosen by its luck.
    """
    if not by_distance:
        return Section(
            warnings=(
                f"{len(inputs.in_distribution)} in-distribution and {len(inputs.out_of_distribution)} "
                f"out-of-distribution prompts are too few: they were not told apart ({FEWEST} "
                "in-distribution ones).",
            )
        )
    ways = {"far": ("distance alone", by_distance), "exposed": ("a few known outliers", by_exposure)}
    claims, lines, columns = [], [], []
    for name, (way, rows) in ways.items():
        columns.append([f"{row.mean:.3f} (sd {row.standard_deviation:.3f})" for row in rows])
        if rows:
            text = (
                "AUROC of out-of-distribution prompts over in-distribution ones at the middle layer, by "
                f"{way}"
            )
            claims.append(Claim.above(f"outliers_{name}", text, rows[len(rows) // 2].estimate, 0.5))
            low, high = (tuple(row.mean + side * row.standard_deviation for row in rows) for side in (-1, 1))
            x, y = tuple(float(row.layer + 1) for row in rows), tuple(row.mean for row in rows)
            lines.append(Line(way, x, y, low, high))
    cells = zip(columns[0], columns[1] or ["not measured"] * len(by_distance), strict=True)
    table = Table(
        "Out-of-distribution prompts among in-distribution ones, AUROC by layer",
        ("layer", "distance alone", "a few known outliers"),
        tuple((str(layer), *pair) for layer, pair in enumerate(cells, start=1)),
    )
    note = "Bands are one standard deviation over splits."
    figure = Figure("Out-of-distribution prompts", "layer", "AUROC", tuple(lines), note)
    return Section(claims=tuple(claims), tables=(table,), figures=(figure,))
