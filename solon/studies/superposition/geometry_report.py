"""At which fractions of a dimension features gather, as they get sparse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from solon.records.report import Claim, Figure, Line, Section, Table, number
from solon.statistics.intervals import Floats
from solon.studies.superposition.geometry import LINES, dimensionality, on_line, per_dimension
from solon.studies.superposition.toy_model import Levels
from solon.study.claims import exactly

STICKY = 0.03  # of D* around a half
FEWEST = 3  # levels there
SEPARATE = 0.95  # D* below which features share dimensions


def geometry_section(levels: Levels) -> Section:
    """The fractions of a dimension at which features gather as they get sparse."""
    dimensions = [1 / per_dimension(models.weights_KNM[0]) for models in levels]
    every = [dimensionality(models.weights_KNM[0]) for models in levels]
    sharing = [values for values, d in zip(every, dimensions, strict=True) if d < SEPARATE]
    pooled = np.concatenate(sharing) if sharing else np.zeros(0)
    x = tuple(models.plan.sparsity for models in levels)
    repeated = tuple(place for place, values in zip(x, every, strict=True) for _ in values)
    span = (min(x), max(x))
    return Section(
        claims=tuple(geometry_claims(dimensions, pooled)),
        tables=(line_table(pooled),),
        figures=(
            Figure(
                "Dimensions per feature, D*",
                "-log10 density",
                "D*",
                (
                    Line("dimensions per feature", x, tuple(dimensions)),
                    Line("1/2", (x[0], x[-1]), (0.5, 0.5)),
                ),
            ),
            Figure(
                "Dimensionality of every feature",
                "-log10 density",
                "dimensions",
                (
                    Line("features", repeated, tuple(np.concatenate(every).tolist()), dots=True),
                    *(Line(name, span, (value, value)) for name, value in LINES.items()),
                ),
            ),
        ),
    )


def geometry_claims(dimensions: Sequence[float], pooled: Floats) -> Iterator[Claim]:
    """Of D* by density, and the dimensionalities of all features that share dimensions."""
    near = sum(abs(d - 0.5) <= STICKY for d in dimensions)
    yield Claim.of(
        "geometry/sticky",
        "Densities at which features have half a dimension on average, D* within 0.03 of it (3 asked for)",
        exactly(near, "counted", len(dimensions)),
        near >= FEWEST,
    )
    lines = [name for name, line in LINES.items() if on_line(pooled, line)]
    half, others = "1/2" in lines, [name for name in lines if name != "1/2"]
    yield Claim.of(
        "geometry/half",
        "Features gather at a dimensionality of 1/2, as antipodal pairs (1: so)",
        exactly(float(half), "counted", len(pooled)),
        half,
    )
    yield Claim.of(
        "geometry/lines",
        f"Other fractions at which they gather ({', '.join(others) or 'none'}; one of 3/4, 2/3, 2/5, 3/8 "
        "asked for)",
        exactly(len(others), "counted", len(pooled)),
        bool(others),
    )


def line_table(pooled: Floats) -> Table:
    """How many features lie at each fraction, and beside it."""

    def count(middle: float) -> str:
        return str(int((np.abs(pooled - middle) <= 0.005).sum()))

    rows = tuple(
        (
            name,
            number(line),
            count(line),
            count(line - 0.0125),
            count(line + 0.0125),
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
    note = f"{len(pooled)} features of the densities at which dimensions are shared."
    return Table("Where features gather", columns, rows, note)
