"""What the toy models of superposition ended on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from solon.studies.superposition.geometry import (
    best,
    expected,
    phase_of,
    phase_of_third,
    phases,
    phases_of_three,
    shares,
)
from solon.studies.superposition.toy_model import Plan


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
    """Everything the report prints: models by section, and attacks on those of the geometry, densest
    first.
    """

    models: Mapping[str, list[Model]]
    attacks: list[dict[str, float]] = field(default_factory=list)

    def levels(self, name: str) -> list[Model]:
        """Densest first."""
        return sorted(self.models[name], key=lambda own: -own.plan.density)


@dataclass(frozen=True, slots=True)
class Diagram:
    """A phase diagram: `theory` gives the loss of each arrangement at a density and importance of the last
    feature, `seen` what weights came to be, one of `meanings` or something else.
    """

    title: str
    theory: Callable[[float, float], Mapping[str, float]]
    seen: Callable[[Tensor], str]
    meanings: Mapping[str, str]


DIAGRAMS = {
    "phases": Diagram(
        "two features in one dimension",
        phases,
        phase_of,
        {"first": "the first feature alone", "second": "the second alone", "both": "both, opposite"},
    ),
    "phases_of_three": Diagram(
        "three features in two dimensions",
        phases_of_three,
        phase_of_third,
        {
            "absent": "the third feature is absent",
            "shared": "it shares a dimension",
            "dedicated": "it has one of its own",
        },
    ),
}


def grid(found: Findings, name: str) -> list[list[tuple[str, str]]]:
    """(what was found, what theory says) of every cell, by density and importance of the last feature."""
    diagram, rows = DIAGRAMS[name], []
    for own in found.levels(name):
        kinds = list(dict.fromkeys(own.plan.importance))
        restarts = len(own.plan.importance) // len(kinds)
        row = []
        for place, importance in enumerate(kinds):
            some = range(place * restarts, (place + 1) * restarts)
            least = min(some, key=lambda number_: _expected(own, number_))
            row.append(
                (diagram.seen(own.weights_KNM[least]), best(diagram.theory(own.plan.density, importance[-1])))
            )
        rows.append(row)
    return rows


def _expected(own: Model, instance: int) -> float:
    """By integration: what sparse inputs say of a loss is mostly noise."""
    weights, bias = own.weights_KNM[instance].double().numpy(), own.bias_KN[instance].double().numpy()
    return expected(weights, bias, np.array(own.plan.importance[instance]), own.plan.density)


def mono(own: Model) -> list[float]:
    """Of each neuron that is used, the share of its first feature."""
    weights = own.weights_KNM[0].T
    return [shares(row.tolist()) for row in weights if float(row.norm()) > 0.3]
