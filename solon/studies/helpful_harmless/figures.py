"""HH-RLHF's figures, and the root law that one of them draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from solon.alignment.outliers import Separation
from solon.alignment.overoptimisation import SqrtKLLaw, best_of_n_kl, fit_sqrt_kl_law
from solon.alignment.quality import ScoredComparison, calibration_chart
from solon.errors import InputError
from solon.records.report import Figure, Line, number
from solon.studies.helpful_harmless.evidence import AXES, NAMES, Findings
from solon.study.claims import banded, rate


def figures(found: Findings, laws: Mapping[str, SqrtKLLaw | None]) -> list[Figure]:
    made = [growth_figure(found), calibration_figure(found.quality), climb_figure(found, laws)]
    if found.mixtures:
        shares = tuple(found.mixtures)
        lines = tuple(banded(axis, shares, [own[axis] for own in found.mixtures.values()]) for axis in AXES)
        made.append(Figure("Mixtures", "share of harmless comparisons", "accuracy", lines))
    if found.far:
        own = [
            by_layer("distance alone", found.far),
            *([by_layer("a few known outliers", found.exposed)] if found.exposed else []),
        ]
        made.append(
            Figure(
                "Strange prompts",
                "layer",
                "AUROC",
                tuple(own),
                "Bands are one standard deviation over splits.",
            )
        )
    return made


def by_layer(label: str, rows: Sequence[Separation]) -> Line:
    low, high = (tuple(row.mean + side * row.standard_deviation for row in rows) for side in (-1, 1))
    return Line(
        label, tuple(float(row.layer + 1) for row in rows), tuple(row.mean for row in rows), low, high
    )


def growth_figure(found: Findings) -> Figure:
    lines = []
    for depth in sorted({cell.depth for cell in found.cells}):
        cells = sorted((cell for cell in found.cells if cell.depth == depth), key=lambda cell: cell.size)
        estimates = [rate(cell.right, [row.dialogue for row in cell.rows]) for cell in cells]
        x = tuple(math.log10(cell.size) for cell in cells)
        lines.append(banded(f"{depth:.0%} of the layers", x, estimates))
    return Figure("Accuracy over data and size", "log10 of comparisons", "held-out accuracy", tuple(lines))


def calibration_figure(quality: Mapping[str, Sequence[ScoredComparison]]) -> Figure:
    lines = [Line("1/(1+e^-d)", (0.5, 1.0), (0.5, 1.0))]
    for name, rows in quality.items():
        bars = calibration_chart(rows)
        lines.append(
            Line(
                NAMES[name],
                tuple(bar.confidence for bar in bars),
                tuple(bar.accuracy for bar in bars),
                dots=True,
            )
        )
    return Figure("Calibration of score differences", "stated confidence", "accuracy", tuple(lines))


def climb_figure(found: Findings, laws: Mapping[str, SqrtKLLaw | None]) -> Figure:
    x = tuple(math.sqrt(max(row["kl_k3"], 0.0)) for row in found.steps)
    lines = []
    for name, words in NAMES.items():
        lines.append(Line(words, x, tuple(row[name] for row in found.steps), dots=True))
        own = laws[name]
        if own is not None:
            ends = (0.0, math.sqrt(own.bend_kl) if own.bend_kl is not None else max(x))
            lines.append(Line(f"{words}, line", ends, tuple(own.at(end**2) for end in ends)))
    for tight, words in ((True, "log N - (N-1)/N"), (False, "log N")):
        roots = tuple(math.sqrt(best_of_n_kl(count, tight=tight)) for count in found.best)
        lines.append(
            Line(
                f"best of N by test PM, KL {words}",
                roots,
                tuple(own["test_pm"].value for own in found.best.values()),
                dots=not tight,
            )
        )
    return Figure(
        "Scores against the root of the KL",
        "sqrt(KL), nats summed over the reply (k3)",
        "score over the start's",
        tuple(lines),
    )


def law(steps: Sequence[Mapping[str, float]], name: str) -> SqrtKLLaw | None:
    """The root law of one judge's scores over the steps; none where there are too few, or the policy did not
    move.
    """
    try:
        return fit_sqrt_kl_law([max(row["kl_k3"], 0.0) for row in steps], [row[name] for row in steps])
    except InputError:
        return None


def bends(laws: Mapping[str, SqrtKLLaw | None]) -> list[str]:
    return [
        f"The {NAMES[name]}'s line bends down at a KL of {number(own.bend_kl)} nats."
        for name, own in laws.items()
        if own is not None and own.bend_kl is not None
    ]
