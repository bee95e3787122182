"""What the toy models of superposition ended on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from solon.interpretability.superposition import phase_of, phases, shares
from solon.interpretability.toy_superposition import Plan


@dataclass(frozen=True, slots=True)
class Model:
    """One plan's instances as they ended, and what was kept on the way."""

    name: str
    plan: Plan
    weights_KNM: Tensor
    bias_KN: Tensor
    loss: list[float]
    steps: list[int]
    way: list[Any]

    @property
    def best(self) -> int:
        return int(np.argmin(self.loss))


@dataclass(slots=True)
class Findings:
    """Everything the report prints: models by section, and attacks on those of the geometry, densest first."""

    models: Mapping[str, list[Model]]
    attacks: list[dict[str, float]] = field(default_factory=list)

    def levels(self, name: str) -> list[Model]:
        """Densest first."""
        return sorted(self.models[name], key=lambda own: -own.plan.density)


def grid(found: Findings) -> list[list[tuple[str, str]]]:
    """(what was found, what theory says) of every cell, by density and importance."""
    rows = []
    for own in found.levels("phases"):
        pairs = list(dict.fromkeys(own.plan.importance))
        restarts = len(own.plan.importance) // len(pairs)
        row = []
        for place, (_, second) in enumerate(pairs):
            some = range(place * restarts, (place + 1) * restarts)
            best = min(some, key=lambda number_: own.loss[number_])
            row.append((phase_of(own.weights_KNM[best]), phases(own.plan.density, second).best))
        rows.append(row)
    return rows


def mono(own: Model) -> list[float]:
    """Of each neuron that is used, the share of its first feature."""
    weights = own.weights_KNM[0].T
    return [shares(row.tolist()) for row in weights if float(row.norm()) > 0.3]
