"""What the toy models of superposition did, section by section, beside the paper's claims and what theory
says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from solon.records.report import Claim, Report, Table, number
from solon.statistics.intervals import Estimate, correlation, mean, proportion
from solon.studies.superposition.figures import figures, phase_maps
from solon.studies.superposition.geometry import LINES, dimensionality, on_line, per_dimension, polytopes
from solon.studies.superposition.results import DIAGRAMS, Findings, Model, grid, mono
from solon.study.claims import sign

STICKY = 0.03  # of D* around a half
FEWEST = 3  # levels there
JUMP = 0.15  # of a dimension
SEPARATE = 0.95  # D* below which features share dimensions


def report(settings: Mapping[str, Any], found: Findings) -> Report:
    trained = sum(own.plan.instances for some in found.models.values() for own in some)
    summary = (
        f"{trained} toy models: {settings['features']} features in {settings['hidden']} dimensions at "
        f"{settings['levels']} densities, two in one and three in two on grids of "
        f"{settings['cells']} x {settings['cells']} cells, tied features, learning, attacks, and absolute "
        "values.",
    )
    claims = [
        *_shape_claims(),
        *_intro_claims(found),
        *_geometry_claims(found),
        *_tied_claims(found),
        *_phase_claims(found),
        *_learning_claims(found),
        *_late_claims(found),
    ]
    return Report(
        "Toy models of superposition",
        summary,
        tuple(claims),
        (),
        (_line_table(found), _intro_table(found)),
        figures(found),
        (),
        {},
        DEVIATIONS,
        {},
        phase_maps(found),
    )


DEVIATIONS = (
    "Attacks are found by ascent from one start, so that vulnerability is a lower bound; the paper's are "
    "optimal for the linear part.",
    "Absolute values are of 20 features by as many neurons, the paper's figures of up to 100 by 40.",
    "Of three features in two dimensions theory compares the arrangements that the paper draws and the "
    "triangle, not every set of weights.",
)


def _shape_claims() -> list[Claim]:
    """The measure itself, on shapes made by hand; and the test for lines on controls that must fail it."""
    error = max(
        float(np.abs(dimensionality(rows) - fraction).max()) for rows, fraction in polytopes().values()
    )
    text = "Dimensionality of polytopes made by hand: the largest error (below 1e-12)"
    uniform = np.linspace(0.3, 0.8, 4000)
    blurred = np.random.default_rng(0).normal(0.5, 0.05, 4000)
    failed = not any(on_line(values, line) for values in (uniform, blurred) for line in LINES.values())
    return [
        Claim("shapes", text, error, error, error, len(polytopes()), error < 1e-12, "exact"),
        Claim(
            "controls",
            "A uniform and a blurred control show no line (1: so)",
            float(failed),
            float(failed),
            float(failed),
            2,
            failed,
            "counted",
        ),
    ]


def _shown(own: Model) -> list[int]:
    """How many features each instance represents."""
    return [int((weights.norm(dim=1) > 0.5).sum()) for weights in own.weights_KNM]


def _intro_claims(found: Findings) -> list[Claim]:
    dense, sparse = found.levels("introduction")[0], found.levels("introduction")[-1]
    flat = [count for own in found.models["linear"] for count in _shown(own)]
    first_two = [
        {int(place) for place in (weights.norm(dim=1) > 0.5).nonzero()[:, 0]} == {0, 1}
        for weights in dense.weights_KNM
    ]
    few, many = (
        proportion(first_two, clusters=range(dense.plan.instances)),
        mean([float(own) for own in _shown(sparse)]),
    )
    line = proportion([own <= 2 for own in flat], clusters=range(len(flat)))
    pentagon = dimensionality(sparse.weights_KNM[sparse.best])
    apart = float(np.abs(pentagon - 2 / 5).max())
    return [
        Claim.of(
            "intro/dense",
            "Dense: models that represent two features, the most important, in two dimensions",
            few,
            sign(few, 0.5),
        ),
        Claim.of(
            "intro/sparse",
            "Sparse (a twentieth): features that a model represents in two dimensions (above 2 asked for)",
            many,
            sign(many, 2.0),
        ),
        Claim.of(
            "intro/linear",
            "Without the ReLU: models that represent two features at the most, dense or sparse",
            line,
            sign(line, 0.5),
        ),
        Claim(
            "intro/pentagon",
            "Sparse, the best start: how far its five features are from 2/5 of a dimension each",
            apart,
            apart,
            apart,
            5,
            apart < 0.05,
            "counted",
        ),
    ]


def _geometry_claims(found: Findings) -> list[Claim]:
    stars = [1 / per_dimension(own.weights_KNM[0]) for own in found.levels("geometry")]
    near = sum(abs(own - 0.5) <= STICKY for own in stars)
    pooled = _pooled(found)
    there = [name for name, line in LINES.items() if on_line(pooled, line)]
    half, others = "1/2" in there, [own for own in there if own != "1/2"]
    return [
        Claim(
            "geometry/sticky",
            "Densities at which features have half a dimension on average, D* within 0.03 of it (3 asked "
            "for)",
            near,
            near,
            near,
            len(stars),
            near >= FEWEST,
            "counted",
        ),
        Claim(
            "geometry/half",
            "Features gather at a dimensionality of 1/2, as antipodal pairs (1: so)",
            float(half),
            float(half),
            float(half),
            len(pooled),
            half,
            "counted",
        ),
        Claim(
            "geometry/lines",
            f"Other fractions at which they gather ({', '.join(others) or 'none'}; one of 3/4, 2/3, 2/5, "
            "3/8 asked for)",
            len(others),
            len(others),
            len(others),
            len(pooled),
            bool(others),
            "counted",
        ),
    ]


def _pooled(found: Findings) -> np.ndarray:
    """The dimensionalities of all features of the levels where they share dimensions."""
    some = [
        own.weights_KNM[0]
        for own in found.levels("geometry")
        if 1 / per_dimension(own.weights_KNM[0]) < SEPARATE
    ]
    return np.concatenate([dimensionality(weights) for weights in some]) if some else np.zeros(0)


def _tied_claims(found: Findings) -> list[Claim]:
    """Of the starts that ended within a tenth of the lowest loss: the others are stuck in worse
    arrangements.
    """
    claims = []
    kinds: tuple[tuple[str, str, Callable[[float], bool]], ...] = (
        (
            "correlated",
            "Features that come together: pairs that are orthogonal (cosine within 0.3 of 0; two in three "
            "by chance)",
            lambda c: abs(c) < 0.3,
        ),
        (
            "anticorrelated",
            "Features that never come together: pairs that are opposite (cosine below -0.8)",
            lambda c: c < -0.8,
        ),
        (
            "independent",
            "Features that are not tied: pairs that are opposite (one in three by chance)",
            lambda c: c < -0.8,
        ),
    )
    for name, words, wanted in kinds:
        (own,) = found.models[name]
        hits, which = list[bool](), list[int]()
        for number_, (weights, loss) in enumerate(zip(own.weights_KNM, own.loss, strict=True)):
            if loss > 1.1 * min(own.loss) + 1e-4:
                continue
            unit = weights / weights.norm(dim=1, keepdim=True).clamp(min=1e-12)
            hits += [wanted(float(unit[first] @ unit[first + 1])) for first in (0, 2)]
            which += [number_] * 2
        if len(set(which)) > 1:
            share = proportion(hits, clusters=which)
            claims.append(
                Claim.of(
                    f"tied/{name}",
                    f"{words}, of the best starts",
                    share,
                    sign(share, 2 / 3 if name == "correlated" else 0.5) if name != "independent" else None,
                )
            )
    return claims


def _phase_claims(found: Findings) -> list[Claim]:
    claims = list[Claim]()
    for name, diagram in DIAGRAMS.items():
        cells = grid(found, name)
        agree, inner = list[bool](), list[bool]()
        for y, row in enumerate(cells):
            for x, (seen, told) in enumerate(row):
                near = [
                    cells[b][a][1]
                    for a in (x - 1, x, x + 1)
                    for b in (y - 1, y, y + 1)
                    if 0 <= a < len(row) and 0 <= b < len(cells)
                ]
                (inner if len(set(near)) == 1 else []).append(seen == told)
                agree.append(seen == told)
        whole, within = (proportion(own, clusters=range(len(own))) for own in (agree, inner))
        kinds = {told for row in cells for _, told in row}
        text = (
            f"Cells a step or more from a border of the analytic diagram of {diagram.title} "
            f"({len(kinds)} phases) that agree with it (0.9 asked for)"
        )
        claims += [
            Claim.of(f"{name}/inner", text, within, sign(within, 0.9)),
            Claim.of(f"{name}/all", f"All cells of {diagram.title} that agree with it", whole, None),
        ]
    return claims


def _learning_claims(found: Findings) -> list[Claim]:
    """Features jump: from one look (a hundredth of the steps) to the next, one has another share of a
    dimension, long after the loss has come down.
    """
    (own,) = found.models["watched"]
    way = np.array(own.way)
    jumped = []
    for instance in range(own.plan.instances):
        levels = np.array([dimensionality(torch.as_tensor(step[instance])) for step in way[len(way) // 5 :]])
        jumped.append(bool(np.abs(np.diff(levels, axis=0)).max() > JUMP))
    share = proportion(jumped, clusters=range(len(jumped)))
    text = (
        f"Learning, after the first fifth: models in which a feature's dimensionality moves by {JUMP:g} "
        "within a hundredth of the steps"
    )
    return [Claim.of("learning/jumps", text, share, sign(share, 0.5))]


def _late_claims(found: Findings) -> list[Claim]:
    stars = [per_dimension(own.weights_KNM[0]) for own in found.levels("geometry")]
    rise = [own["worst"] - own["plain"] for own in found.attacks]
    tracks = correlation(stars, rise)
    claims = [
        Claim.of(
            "attacks",
            "Over densities: correlation of features per dimension with what an attack adds to the error "
            "(0.8 asked for)",
            tracks,
            sign(tracks, 0.8),
        )
    ]
    levels = found.levels("absolute")
    ends = [mono(own) for own in (levels[0], levels[-1])]
    for name, values in zip(("dense", "sparse"), ends, strict=True):
        claims.append(
            Claim.of(
                f"absolute/{name}",
                f"Absolute values, {name}: share of a neuron's weights that its first feature has",
                mean(values),
                None,
            )
        )
    gap = float(np.mean(ends[0])) - float(np.mean(ends[1]))
    spread = float(np.sqrt(np.var(ends[0], ddof=1) / len(ends[0]) + np.var(ends[1], ddof=1) / len(ends[1])))
    apart = Estimate(
        gap,
        gap - 1.96 * spread,
        gap + 1.96 * spread,
        "normal, over neurons",
        sum(map(len, ends)),
        sum(map(len, ends)),
    )
    claims.append(
        Claim.of(
            "absolute/gap",
            "Neurons are of one feature where inputs are dense, of several where they are sparse "
            "(difference)",
            apart,
            sign(apart),
        )
    )
    return claims


def _line_table(found: Findings) -> Table:
    pooled = _pooled(found)
    rows = tuple(
        (
            name,
            number(line),
            str(int((np.abs(pooled - line) <= 0.005).sum())),
            str(int((np.abs(pooled - line + 0.0125) <= 0.005).sum())),
            str(int((np.abs(pooled - line - 0.0125) <= 0.005).sum())),
            "yes" if on_line(pooled, line) else "no",
        )
        for name, line in LINES.items()
    )
    columns = (
        "fraction",
        "value",
        "features within 0.005",
        "in the band below",
        "in the band above",
        "a line",
    )
    return Table(
        "Where features gather",
        columns,
        rows,
        f"{len(pooled)} features of the densities at which dimensions are shared.",
    )


def _intro_table(found: Findings) -> Table:
    rows = tuple(
        (
            number(own.plan.density),
            ", ".join(map(str, _shown(own))),
            number(min(own.loss)),
            ", ".join(number(float(d)) for d in dimensionality(own.weights_KNM[own.best])),
        )
        for own in found.levels("introduction")
    )
    return Table(
        "Five features in two dimensions",
        ("density", "features represented, by start", "lowest loss", "dimensionality of each, best start"),
        rows,
    )
