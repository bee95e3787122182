"""Whether stated probabilities come true: expected calibration error, Brier score, AUROC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from solon.errors import InputError
from solon.statistics import Estimate

Floats = npt.NDArray[np.float64]
FEW = 300  # under this many items a calibration error is mostly noise; reports say so


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar of a calibration chart."""

    low: float
    high: float
    confidence: float
    accuracy: float
    n: int


def _pairs(confidences: Sequence[float], outcomes: Sequence[float]) -> tuple[Floats, Floats]:
    p, y = np.asarray(confidences, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if p.shape != y.shape or p.ndim != 1 or p.size == 0:
        raise InputError(f"calibration needs as many outcomes as confidences; found {p.shape} and {y.shape}")
    if not ((p >= 0) & (p <= 1)).all() or not ((y >= 0) & (y <= 1)).all():
        raise InputError("confidences and outcomes must lie in [0, 1] and not be NaN")
    return p, y


def bins(confidences: Sequence[float], outcomes: Sequence[float], *, count: int = 10) -> list[Bin]:
    """Equal-count bins in order of confidence; ties keep their order (stable sort), empty bins are left out."""
    p, y = _pairs(confidences, outcomes)
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, count) if part.size]
    return [Bin(float(p[i].min()), float(p[i].max()), float(p[i].mean()), float(y[i].mean()), i.size) for i in parts]


def expected_calibration_error(confidences: Sequence[float], outcomes: Sequence[float], *, count: int = 10) -> float:
    """Mean over equal-count bins of |mean confidence - accuracy| (Kadavath et al. 2022, arXiv:2207.05221: 10 bins, the top prediction only).

    Most libraries default to 15 equal-width bins weighted by count instead; the two are not comparable.

    >>> expected_calibration_error([0.5, 0.5, 1.0, 1.0], [0, 1, 1, 1], count=2)
    0.0
    """
    return float(np.mean([abs(b.confidence - b.accuracy) for b in bins(confidences, outcomes, count=count)]))


def fixed_bin_calibration_error(confidences: Sequence[float], outcomes: Sequence[float]) -> float:
    """|accuracy - centre| averaged, unweighted, over the bins centred 25, 42, 60, 80 and 100% that hold anything
    (Bowman et al. 2022, arXiv:2211.03540, footnote 8). Each confidence goes to its nearest centre.
    """
    p, y = _pairs(confidences, outcomes)
    centres = np.array([0.25, 0.42, 0.60, 0.80, 1.00])
    nearest = np.abs(p[:, None] - centres[None, :]).argmin(axis=1)
    return float(np.mean([abs(y[nearest == i].mean() - centres[i]) for i in np.unique(nearest)]))


def brier(confidences: Sequence[float], outcomes: Sequence[float]) -> float:
    """Mean (p - y)^2 of the binary form: 0 is perfect, always saying one half scores 0.25."""
    p, y = _pairs(confidences, outcomes)
    return float(np.square(p - y).mean())


def auroc(scores: Sequence[float], positives: Sequence[bool], *, level: float = 0.95) -> Estimate:
    """The chance that a positive outscores a negative, ties counting half, with DeLong's interval.

    Raises InputError unless both classes are there.

    >>> auroc([0.1, 0.4, 0.35, 0.8], [False, False, True, True]).value
    0.75
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(positives, dtype=bool)
    if s.shape != y.shape or s.ndim != 1 or not np.isfinite(s).all():
        raise InputError(f"AUROC needs one finite score a label; found shapes {s.shape} and {y.shape}")
    up, down = s[y], s[~y]
    if not up.size or not down.size:
        raise InputError(f"AUROC needs both classes; found {up.size} positives and {down.size} negatives")
    ranks = stats.rankdata(s)
    among_up, among_down = stats.rankdata(up), stats.rankdata(down)
    above = (ranks[y] - among_up) / down.size  # for each positive, the share of negatives below it
    below = 1 - (ranks[~y] - among_down) / up.size  # for each negative, the share of positives above it
    value = float(above.mean())
    variance = sum(float(part.var(ddof=1)) / part.size for part in (above, below) if part.size > 1)
    half = float(stats.norm.ppf(0.5 + level / 2)) * np.sqrt(variance)
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), "DeLong", s.size, s.size)
