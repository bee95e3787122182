"""What the toy models of superposition did, section by section, beside the paper's claims and what theory
says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from solon.records.report import Claim, Figure, Line, Report, Section, Table, number
from solon.statistics.intervals import Estimate, Floats, correlation, mean, proportion
from solon.studies.superposition.geometry import (
    LINES,
    dimensionality,
    largest_share,
    on_line,
    per_dimension,
    polytopes,
)
from solon.studies.superposition.geometry_report import geometry_section
from solon.studies.superposition.phase_report import DIAGRAMS, phase_section
from solon.studies.superposition.settings import Settings
from solon.studies.superposition.toy_model import Levels, ToyModels
from solon.study.claims import banded, exactly
from solon.study.settings import constants, deviations

JUMP = 0.15  # of a dimension


@dataclass(frozen=True, slots=True)
class Attack:
    """A model's mean squared error on inputs as they come, and moved to where it is worst."""

    plain: float
    worst: float

    @property
    def added(self) -> float:
        return self.worst - self.plain


def report(settings: Settings, models: Mapping[str, Levels], attacks: Sequence[Attack]) -> Report:
    """One section a topic. `attacks` are on the models of the geometry, in their order."""
    trained = sum(model.plan.instances for levels in models.values() for model in levels)
    summary = (
        f"{trained} toy models: {settings.features} features in {settings.hidden} dimensions at "
        f"{settings.levels} densities, two in one and three in two on grids of {settings.cells} x "
        f"{settings.cells} cells, tied features, learning, attacks, and absolute values."
    )
    return Report.of(
        "Toy models of superposition",
        [summary],
        [
            Section(claims=shape_claims()),
            introduction_section(models["introduction"], models["linear"]),
            geometry_section(models["geometry"]),
            Section(claims=tuple(tied_claims(models))),
            *(phase_section(name, models[name]) for name in DIAGRAMS),
            learning_section(models["watched"][0]),
            attack_section(models["geometry"], attacks),
            absolute_section(models["absolute"]),
        ],
        deviations=(
            "Attacks are found by ascent from one start, so that vulnerability is a lower bound; the paper's "
            "are optimal for the linear part.",
            f"Absolute values are of {settings.absolute_features} features by as many neurons, the paper's "
            "figures of up to 100 by 40.",
            "Of three features in two dimensions theory compares the arrangements that the paper draws and "
            "the triangle, not every set of weights.",
            *deviations(settings),
        ),
        constants=constants(settings),
    )


def shape_claims() -> tuple[Claim, Claim]:
    """The measure itself, on shapes made by hand; and the test for lines on controls that must fail it."""
    shapes = polytopes()
    error = max(float(np.abs(dimensionality(rows) - fraction).max()) for rows, fraction in shapes.values())
    text = "Dimensionality of polytopes made by hand: the largest error (below 1e-12)"
    uniform = np.linspace(0.3, 0.8, 4000)
    blurred = np.random.default_rng(0).normal(0.5, 0.05, 4000)
    failed = not any(on_line(values, line) for values in (uniform, blurred) for line in LINES.values())
    return (
        Claim.of("shapes", text, exactly(error, "exact", len(shapes)), error < 1e-12),
        Claim.of(
            "controls",
            "A uniform and a blurred control show no line (1: so)",
            exactly(float(failed), "counted", 2),
            failed,
        ),
    )


def introduction_section(levels: Levels, linear: Levels) -> Section:
    """Five features in two dimensions: more are represented as they get sparse, and only with the ReLU."""
    dense, sparse = levels[0], levels[-1]
    first_two = [
        {int(feature) for feature in (weights.norm(dim=1) > 0.5).nonzero()[:, 0]} == {0, 1}
        for weights in dense.weights_KNM
    ]
    at_most_two = [count <= 2 for models in linear for count in represented(models)]
    apart = float(np.abs(dimensionality(sparse.weights_KNM[sparse.best]) - 2 / 5).max())
    rows = tuple(
        (
            number(models.plan.density),
            ", ".join(map(str, represented(models))),
            number(min(models.loss)),
            ", ".join(number(float(share)) for share in dimensionality(models.weights_KNM[models.best])),
        )
        for models in levels
    )
    columns = (
        "density",
        "features represented, by start",
        "lowest loss",
        "dimensionality of each, best start",
    )
    return Section(
        claims=(
            Claim.above(
                "intro/dense",
                "Dense: models that represent two features, the most important, in two dimensions",
                each_alone(first_two),
                0.5,
            ),
            Claim.above(
                "intro/sparse",
                "Sparse (a twentieth): features that a model represents in two dimensions (above 2 asked "
                "for)",
                mean([float(count) for count in represented(sparse)]),
                2.0,
            ),
            Claim.above(
                "intro/linear",
                "Without the ReLU: models that represent two features at the most, dense or sparse",
                each_alone(at_most_two),
                0.5,
            ),
            Claim.of(
                "intro/pentagon",
                "Sparse, the best start: how far its five features are from 2/5 of a dimension each",
                exactly(apart, "counted", 5),
                apart < 0.05,
            ),
        ),
        tables=(Table("Five features in two dimensions", columns, rows),),
    )


def represented(models: ToyModels) -> list[int]:
    """How many features each instance represents."""
    return [int((weights.norm(dim=1) > 0.5).sum()) for weights in models.weights_KNM]


def each_alone(hits: Sequence[bool]) -> Estimate:
    """A share of instances, each of which stands for itself."""
    return proportion(hits, clusters=range(len(hits)))


def tied_claims(models: Mapping[str, Levels]) -> Iterator[Claim]:
    """How features that are tied lie, in the starts that ended within a tenth of the lowest loss: the others
    are stuck in worse arrangements.
    """
    orthogonal = pairs(models["correlated"][0], -0.3, 0.3)
    if orthogonal is not None:
        yield Claim.above(
            "tied/correlated",
            "Features that come together: pairs that are orthogonal (cosine within 0.3 of 0; two in three by "
            "chance), of the best starts",
            orthogonal,
            2 / 3,
        )
    opposite = pairs(models["anticorrelated"][0], -np.inf, -0.8)
    if opposite is not None:
        yield Claim.above(
            "tied/anticorrelated",
            "Features that never come together: pairs that are opposite (cosine below -0.8), of the best "
            "starts",
            opposite,
            0.5,
        )
    untied = pairs(models["independent"][0], -np.inf, -0.8)
    if untied is not None:
        yield Claim.of(
            "tied/independent",
            "Features that are not tied: pairs that are opposite (one in three by chance), of the best "
            "starts",
            untied,
            None,
        )


def pairs(models: ToyModels, low: float, high: float) -> Estimate | None:
    """The share of the two pairs of features whose cosine lies between two borders, of the best starts; None
    where there is one start.
    """
    hits, starts = list[bool](), list[int]()
    for start, (weights, loss) in enumerate(zip(models.weights_KNM, models.loss, strict=True)):
        if loss <= 1.1 * min(models.loss) + 1e-4:
            unit = weights / weights.norm(dim=1, keepdim=True).clamp(min=1e-12)
            hits += [low < float(unit[first] @ unit[first + 1]) < high for first in (0, 2)]
            starts += [start] * 2
    return proportion(hits, clusters=starts) if len(set(starts)) > 1 else None


def learning_section(watched: ToyModels) -> Section:
    """Features jump: from one look (a hundredth of the steps) to the next, one has another share of a
    dimension, long after the loss has come down.
    """

    def path(instance: int, first: int = 0) -> Floats:
        return np.array([dimensionality(step) for step in watched.snapshots_SKNM[first:, instance]])

    fifth = len(watched.steps) // 5
    jumps = [
        bool(np.abs(np.diff(path(instance, fifth), axis=0)).max() > JUMP)
        for instance in range(watched.plan.instances)
    ]
    text = (
        f"Learning, after the first fifth: models in which a feature's dimensionality moves by {JUMP:g} "
        "within a hundredth of the steps"
    )
    steps, best = tuple(map(float, watched.steps)), path(watched.best)
    lines = tuple(
        Line(f"feature {feature}", steps, tuple(map(float, best[:, feature])))
        for feature in range(min(8, watched.plan.features))
    )
    note = "The best start; eight of its features."
    return Section(
        claims=(Claim.above("learning/jumps", text, each_alone(jumps), 0.5),),
        figures=(Figure("Dimensionality as it is learned", "step", "dimensions", lines, note),),
    )


def attack_section(levels: Levels, attacks: Sequence[Attack]) -> Section:
    """Whether models are the more vulnerable, the more features share a dimension."""
    sharing = [per_dimension(models.weights_KNM[0]) for models in levels]
    added = [attack.added for attack in attacks]
    text = (
        "Over densities: correlation of features per dimension with what an attack adds to the error (0.8 "
        "asked for)"
    )
    points = Line("densities", tuple(sharing), tuple(added), dots=True)
    return Section(
        claims=(Claim.above("attacks", text, correlation(sharing, added), 0.8),),
        figures=(Figure("Attacks", "features per dimension", "error that an attack adds", (points,)),),
    )


def absolute_section(levels: Levels) -> Section:
    """Neurons that compute absolute values: of one feature where inputs are dense."""
    shares = [first_shares(models) for models in levels]
    dense, sparse = shares[0], shares[-1]
    gap = float(np.mean(dense)) - float(np.mean(sparse))
    half = 1.96 * float(np.sqrt(np.var(dense, ddof=1) / len(dense) + np.var(sparse, ddof=1) / len(sparse)))
    count = len(dense) + len(sparse)
    estimate = Estimate(gap, gap - half, gap + half, "normal, over neurons", count, count)
    text = "share of a neuron's weights that its first feature has"
    line = banded("neurons", [models.plan.sparsity for models in levels], [mean(values) for values in shares])
    return Section(
        claims=(
            Claim.of("absolute/dense", f"Absolute values, dense: {text}", mean(dense), None),
            Claim.of("absolute/sparse", f"Absolute values, sparse: {text}", mean(sparse), None),
            Claim.above(
                "absolute/gap",
                "Neurons are of one feature where inputs are dense, of several where they are sparse "
                "(difference)",
                estimate,
            ),
        ),
        figures=(
            Figure(
                "Absolute values: how much of a neuron is one feature",
                "-log10 density",
                "share of its first feature",
                (line,),
            ),
        ),
    )


def first_shares(models: ToyModels) -> list[float]:
    """Of each neuron that is used, the share of its first feature."""
    neurons = models.weights_KNM[0].T
    return [largest_share(neuron.tolist()) for neuron in neurons if float(neuron.norm()) > 0.3]
