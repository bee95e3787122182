"""Phase diagrams: what became of the last feature at every importance and density, beside what theory says of
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from solon.records.report import Claim, Map, Section, number
from solon.statistics.intervals import proportion
from solon.studies.superposition.geometry import (
    best,
    expected_loss,
    phase_of,
    phase_of_third,
    phases,
    phases_of_three,
)
from solon.studies.superposition.toy_model import Levels, ToyModels


@dataclass(frozen=True, slots=True)
class Diagram:
    """A phase diagram: `theory` gives the loss of each arrangement at a density and importance of the last
    feature, `phase` what weights came to be, one of `meanings` or something else.
    """

    title: str
    theory: Callable[[float, float], Mapping[str, float]]
    phase: Callable[[Tensor], str]
    meanings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """What was trained at one importance and density, and what theory expects there."""

    trained: str
    analytic: str


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
Cells = Sequence[Sequence[Cell]]  # by density, the densest first, and importance of the last feature


def phase_section(name: str, levels: Levels) -> Section:
    """A diagram as it was trained, and as theory has it."""
    diagram = DIAGRAMS[name]
    cells = [list(_row(diagram, models)) for models in levels]
    return Section(
        claims=phase_claims(name, diagram.title, cells),
        maps=tuple(phase_maps(diagram, cells, [models.plan.density for models in levels])),
    )


def _row(diagram: Diagram, models: ToyModels) -> Iterator[Cell]:
    """The cells of one density: of each importance the start with the lowest loss counts."""
    density, importances = models.plan.density, models.plan.importance
    kinds = list(dict.fromkeys(importances))
    starts = len(importances) // len(kinds)
    for index, importance in enumerate(kinds):
        instances = range(index * starts, (index + 1) * starts)
        lowest = min(instances, key=lambda instance: _expected(models, instance))
        theory = diagram.theory(density, importance[-1])
        yield Cell(diagram.phase(models.weights_KNM[lowest]), best(theory))


def _expected(models: ToyModels, instance: int) -> float:
    """By integration: what sparse inputs say of a loss is mostly noise."""
    weights, bias = (tensor[instance].double().numpy() for tensor in (models.weights_KNM, models.bias_KN))
    importance = np.array(models.plan.importance[instance])
    return expected_loss(weights, bias, importance, models.plan.density)


def phase_claims(name: str, title: str, cells: Cells) -> tuple[Claim, Claim]:
    """How many cells are as theory says: those off its borders, and all."""
    agree, inner = list[bool](), list[bool]()
    for y, row in enumerate(cells):
        for x, cell in enumerate(row):
            near = {
                cells[b][a].analytic
                for a in (x - 1, x, x + 1)
                for b in (y - 1, y, y + 1)
                if 0 <= a < len(row) and 0 <= b < len(cells)
            }
            agree.append(cell.trained == cell.analytic)
            if len(near) == 1:
                inner.append(agree[-1])
    kinds = {cell.analytic for row in cells for cell in row}
    text = (
        f"Cells a step or more from a border of the analytic diagram of {title} ({len(kinds)} phases) that "
        "agree with it (0.9 asked for)"
    )
    within, whole = (proportion(hits, clusters=range(len(hits))) for hits in (inner, agree))
    return (
        Claim.above(f"{name}/inner", text, within, 0.9),
        Claim.of(f"{name}/all", f"All cells of {title} that agree with it", whole, None),
    )


def phase_maps(diagram: Diagram, cells: Cells, densities: Sequence[float]) -> Iterator[Map]:
    """The diagram as it was trained, and as theory has it: cells by importance of the last feature (right: it
    matters more) and density (up: sparser).
    """
    codes = {phase: float(code) for code, phase in enumerate(diagram.meanings)}
    key = ", ".join(f"{codes[phase]:g}: {words}" for phase, words in diagram.meanings.items())
    note = f"{key}. Right: the last feature is more important; up: sparser."
    labels = [
        [f"density {number(density)}, cell {x + 1}" for x in range(len(row))]
        for density, row in zip(densities, cells, strict=True)
    ]
    outlines = {
        label: (_square(40.0 * x, 40.0 * y),) for y, row in enumerate(labels) for x, label in enumerate(row)
    }
    for kind in ("trained", "analytic"):
        values = {
            label: codes[phase]
            for names, row in zip(labels, cells, strict=True)
            for label, cell in zip(names, row, strict=True)
            if (phase := cell.trained if kind == "trained" else cell.analytic) in codes
        }
        yield Map(f"Phase diagram, {diagram.title}, {kind}", outlines, values, 0.0, 2.0, note)


def _square(x: float, y: float) -> tuple[tuple[float, float], ...]:
    return (x, y), (x + 40, y), (x + 40, y + 40), (x, y + 40)
