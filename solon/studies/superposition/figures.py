"""The pictures of the toy models of superposition."""

from __future__ import annotations

import numpy as np
import torch

from solon.records.report import Figure, Line, Map, number
from solon.statistics.intervals import mean
from solon.studies.superposition.geometry import LINES, dimensionality, per_dimension
from solon.studies.superposition.results import DIAGRAMS, Findings, grid, mono


def figures(found: Findings) -> tuple[Figure, ...]:
    return (
        _sharing_figure(found),
        _dimensions_figure(found),
        _learning_figure(found),
        _attack_figure(found),
        _absolute_figure(found),
    )


def _sharing_figure(found: Findings) -> Figure:
    levels = found.levels("geometry")
    x = tuple(float(-np.log10(own.plan.density)) for own in levels)
    line = Line("dimensions per feature", x, tuple(1 / per_dimension(own.weights_KNM[0]) for own in levels))
    half = Line("1/2", (x[0], x[-1]), (0.5, 0.5))
    return Figure("Dimensions per feature, D*", "-log10 density", "D*", (line, half))


def _dimensions_figure(found: Findings) -> Figure:
    x, y = list[float](), list[float]()
    for own in found.levels("geometry"):
        values = dimensionality(own.weights_KNM[0])
        x += [float(-np.log10(own.plan.density))] * len(values)
        y += values.tolist()
    span = (min(x), max(x))
    return Figure(
        "Dimensionality of every feature",
        "-log10 density",
        "dimensions",
        (
            Line("features", tuple(x), tuple(y), dots=True),
            *(Line(name, span, (value, value)) for name, value in LINES.items()),
        ),
    )


def _learning_figure(found: Findings) -> Figure:
    (own,) = found.models["watched"]
    place = own.best
    way = np.array(own.way)[:, place]
    levels = [dimensionality(torch.as_tensor(step)) for step in way]
    steps = tuple(map(float, own.steps))
    lines = tuple(
        Line(f"feature {number_}", steps, tuple(float(row[number_]) for row in levels))
        for number_ in range(min(8, own.plan.features))
    )
    return Figure(
        "Dimensionality as it is learned",
        "step",
        "dimensions",
        lines,
        "The best start; eight of its features.",
    )


def _attack_figure(found: Findings) -> Figure:
    levels = found.levels("geometry")
    x = tuple(per_dimension(own.weights_KNM[0]) for own in levels)
    y = tuple(own["worst"] - own["plain"] for own in found.attacks)
    return Figure(
        "Attacks",
        "features per dimension",
        "error that an attack adds",
        (Line("densities", x, y, dots=True),),
    )


def _absolute_figure(found: Findings) -> Figure:
    levels = found.levels("absolute")
    x = tuple(float(-np.log10(own.plan.density)) for own in levels)
    estimates = [mean(mono(own)) for own in levels]
    line = Line(
        "neurons",
        x,
        tuple(e.value for e in estimates),
        tuple(e.low for e in estimates),
        tuple(e.high for e in estimates),
    )
    return Figure(
        "Absolute values: how much of a neuron is one feature",
        "-log10 density",
        "share of its first feature",
        (line,),
    )


def phase_maps(found: Findings) -> tuple[Map, ...]:
    """Each diagram as it was found, and as theory has it: cells by importance of the last feature (right: it
    matters more) and density (up: sparser).
    """
    maps = []
    for name, diagram in DIAGRAMS.items():
        cells, levels = grid(found, name), found.levels(name)
        codes = {kind: float(code) for code, kind in enumerate(diagram.meanings)}
        key = ", ".join(f"{codes[kind]:g}: {words}" for kind, words in diagram.meanings.items())
        for which, way in ((0, "trained"), (1, "analytic")):
            outlines: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {}
            values: dict[str, float] = {}
            for y, row in enumerate(cells):
                for x, cell in enumerate(row):
                    label = f"density {number(levels[y].plan.density)}, cell {x + 1}"
                    outlines[label] = (
                        (
                            (40.0 * x, 40.0 * y),
                            (40.0 * x + 40, 40.0 * y),
                            (40.0 * x + 40, 40.0 * y + 40),
                            (40.0 * x, 40.0 * y + 40),
                        ),
                    )
                    if cell[which] in codes:
                        values[label] = codes[cell[which]]
            title = f"Phase diagram, {diagram.title}, {way}"
            maps.append(
                Map(
                    title,
                    outlines,
                    values,
                    0.0,
                    2.0,
                    f"{key}. Right: the last feature is more important; up: sparser.",
                )
            )
    return tuple(maps)
