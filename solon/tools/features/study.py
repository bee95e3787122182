"""What `solon features` does: which features of a dictionary two models use differently on the same tokens,
such as before and after alignment.

The dictionary is that of the first model. A feature that moves tells where the second reads the same text
otherwise; what the dictionary cannot explain of the second is printed beside it, since a model that has moved
out of the dictionary would look quiet.

Shapes: C conversations, T tokens of one, D channels, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solon.errors import InputError
from solon.interpretability.autoencoder import Autoencoder
from solon.models.activations import activations, layer_sites
from solon.models.base import Tokens, derive
from solon.models.torch_model import TorchModel
from solon.records.codecs import PLAIN
from solon.records.run import Run


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    top: int = 15
    """features shown, of those that rose and of those that fell"""
    examples: int = 3
    """conversations shown of each of the first five of both"""

    def __post_init__(self) -> None:
        if self.top < 1 or self.examples < 0:
            raise InputError("top is at least 1, and examples at least 0")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Two models, a dictionary of the first after a layer, and conversations in tokens, each with a title and
    its prompt. As when the dictionary was learned, the first `skip` tokens are left out, and activations
    longer than `limit`.
    """

    before: TorchModel
    after: TorchModel
    dictionary: Autoencoder
    layer: int
    rows: tuple[Tokens, ...]
    titles: tuple[str, ...]
    prompts: tuple[str, ...]  # rows of one prompt are not independent
    spelled: Callable[[int], str]
    counts: Mapping[str, int] = field(default_factory=dict)
    skip: int = 1
    limit: float = math.inf


@dataclass(frozen=True, slots=True)
class Changes:
    """What `compare` measured: of every conversation (C) and feature (F) the mean activation over its tokens,
    the second model less the first and the higher of both; and the variance that the dictionary explains of
    either model.
    """

    inputs: Inputs  # the models without the layers above the dictionary's
    moved_CF: np.ndarray
    level_CF: np.ndarray
    explained: Mapping[str, float]  # "before", "after"


def compare(run: Run, inputs: Inputs) -> Changes:
    """Mean activations of every conversation by both models, kept and gone on from.

    Raises InputError on a layer that is not there, or a dictionary of another width.
    """
    check(inputs)
    inputs = replace(
        inputs,
        before=first_layers(inputs.before, inputs.layer),
        after=first_layers(inputs.after, inputs.layer),
    )

    def make(batch: Sequence[int]) -> list[dict[str, Any]]:
        return [compare_row(inputs, inputs.rows[index]) for index in batch]

    keys = [f"{index} {derive(0, *row)}" for index, row in enumerate(inputs.rows)]
    rows = run.map("activations", range(len(keys)), make, PLAIN, key=keys.__getitem__, size=8)
    moved_CF, level_CF = np.zeros((2, len(rows), inputs.dictionary.features))
    for number, row in enumerate(rows):
        moved_CF[number, row["features"]] = np.array(row["after"]) - np.array(row["before"])
        level_CF[number, row["features"]] = np.maximum(row["before"], row["after"])
    explained = {
        name: explained_variance([row[f"fit_{name}"] for row in rows]) for name in ("before", "after")
    }
    return Changes(inputs, moved_CF, level_CF, explained)


def check(inputs: Inputs) -> None:
    """Raises InputError where the dictionary cannot be of that layer."""
    sites = layer_sites(inputs.before.module)
    if not 1 <= inputs.layer <= len(sites):
        raise InputError(f"no layer {inputs.layer}; there are 1 to {len(sites)}: {', '.join(sites)}")
    widths = [model.module.width for model in (inputs.before, inputs.after)]
    if set(widths) != {inputs.dictionary.width}:
        raise InputError(
            f"the dictionary is of {inputs.dictionary.width} channels; the models have {widths[0]} and "
            f"{widths[1]}"
        )


def first_layers(model: TorchModel, layer: int) -> TorchModel:
    """The same without the layers above, which change nothing that is looked at; its head is still there."""
    model.module.requires_grad_(False)
    return TorchModel(model.name, model.module.first_layers(layer), model.dialogue)


@torch.inference_mode()
def encode(inputs: Inputs, model: TorchModel, row: Tokens) -> tuple[Tensor, float, Tensor]:
    """(f |decoder row| of every token (T, F), zeros where the activation is too long; squared error;
    activations that count) of one conversation. Raises InputError on activations that are not finite.
    """
    site = layer_sites(model.module)[inputs.layer - 1]
    x_TD = activations(model.module, [row], [site])[site][0, inputs.skip :].float().cpu()
    if not bool(torch.isfinite(x_TD).all()):
        raise InputError(
            f"{model.name} has activations after layer {inputs.layer} that are not finite; try --precision "
            "float32"
        )
    kept_T = x_TD.norm(dim=1) <= inputs.limit
    f_TF = inputs.dictionary.encode(x_TD) * kept_T[:, None]
    error = float((inputs.dictionary.decode(f_TF) - x_TD)[kept_T].square().sum())
    return f_TF * inputs.dictionary.norms_F, error, x_TD[kept_T]


def compare_row(inputs: Inputs, row: Tokens) -> dict[str, Any]:
    """Mean activations over one conversation's tokens of every feature that either model uses there, and what
    is needed for the variance explained.
    """
    before_TF, error_before, kept_before = encode(inputs, inputs.before, row)
    after_TF, error_after, kept_after = encode(inputs, inputs.after, row)
    before_F, after_F = before_TF.mean(dim=0), after_TF.mean(dim=0)
    used = ((before_F > 0) | (after_F > 0)).nonzero()[:, 0]
    return {
        "features": used.tolist(),
        "before": before_F[used].tolist(),
        "after": after_F[used].tolist(),
        "fit_before": moments(error_before, kept_before),
        "fit_after": moments(error_after, kept_after),
    }


def moments(error: float, x_TD: Tensor) -> dict[str, Any]:
    """Squared error, number, sum of squares and sum of activations, to be pooled over conversations."""
    return {
        "error": error,
        "count": len(x_TD),
        "squares": float(x_TD.double().square().sum()),
        "sum": [round(value, 4) for value in x_TD.double().sum(dim=0).tolist()],
    }


def explained_variance(parts: Sequence[Mapping[str, Any]]) -> float:
    """1 - squared error over variance about the mean of all tokens together."""
    count, total_D = sum(part["count"] for part in parts), np.sum([part["sum"] for part in parts], axis=0)
    variance = sum(part["squares"] for part in parts) - float(total_D @ total_D) / count
    return float(1 - sum(part["error"] for part in parts) / variance)
