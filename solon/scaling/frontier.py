"""The compute frontier of training runs, and its power law (Scaling Monosemanticity, "Scaling laws")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from solon.errors import InputError
from solon.statistics.intervals import Estimate, regression


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One training run: features, steps, compute (in any unit), and the final loss."""

    features: int
    steps: int
    compute: float
    loss: float


def compute_frontier(attempts: Sequence[TrainingRun]) -> list[TrainingRun]:
    """The runs with a lower loss than every run of as much compute or less, cheapest first.

    >>> runs = [TrainingRun(1, 1, 1, 5), TrainingRun(1, 2, 2, 6), TrainingRun(2, 2, 4, 3)]
    >>> [run.loss for run in compute_frontier(runs)]
    [5, 3]
    """
    best: list[TrainingRun] = []
    for run in sorted(attempts, key=lambda candidate: (candidate.compute, candidate.loss)):
        if not best or run.loss < best[-1].loss:
            best.append(run)
    return best


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """value = scale * compute ** exponent, with the interval of the exponent and R^2 in logarithms."""

    scale: float
    exponent: Estimate
    r_squared: float


def fit_power_law(compute: Sequence[float], values: Sequence[float]) -> PowerLaw:
    """Least squares in logarithms, with the interval of `regression` on the exponent. Raises InputError on
    fewer than three points, and on values that are not above 0.
    """
    if len(compute) < 3 or min(*compute, *values) <= 0:
        raise InputError(f"a power law needs three points above 0; found {len(compute)}")
    x, y = np.log(np.array(compute)), np.log(np.array(values))
    constant, slope = regression(y.tolist(), [[1.0] * len(x), x.tolist()], clusters=range(len(x)))
    left = y - constant.value - slope.value * x
    spread = float(((y - y.mean()) ** 2).sum())
    return PowerLaw(
        float(np.exp(constant.value)), slope, 1 - float((left**2).sum()) / spread if spread > 0 else 1.0
    )
