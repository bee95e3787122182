"""Calibration of stated probabilities: expected calibration error, Brier score, AUROC.

`confidences` and `outcomes` are lists of equal length of numbers in [0, 1]; an outcome is 1 where what was
stated is true. Anything else raises InputError.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from solon.errors import InputError
from solon.statistics.intervals import Estimate, mean

Floats = npt.NDArray[np.float64]
MIN_ITEMS = 300  # under this many items a calibration error is mostly noise; reports say so


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a calibration chart: the range of its confidences, their mean, the mean outcome, and n."""

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


def equal_count_bins(
    confidences: Sequence[float], outcomes: Sequence[float], *, count: int = 10
) -> list[Bin]:
    """Bins of equal count in order of confidence. Ties keep their order (stable sort); empty bins are left
    out.
    """
    p, y = _pairs(confidences, outcomes)
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, count) if part.size]
    return [
        Bin(float(p[i].min()), float(p[i].max()), float(p[i].mean()), float(y[i].mean()), i.size)
        for i in parts
    ]


def expected_calibration_error(
    confidences: Sequence[float], outcomes: Sequence[float], *, count: int = 10
) -> float:
    """The unweighted mean over equal-count bins of |mean confidence - accuracy|, as Kadavath et al. 2022
    (arXiv:2207.05221) compute it with 10 bins on the top prediction.

    Most libraries default to 15 equal-width bins weighted by count instead; the two are not comparable.

    >>> expected_calibration_error([0.5, 0.5, 1.0, 1.0], [0, 1, 1, 1], count=2)
    0.0
    """
    return float(
        np.mean(
            [abs(b.confidence - b.accuracy) for b in equal_count_bins(confidences, outcomes, count=count)]
        )
    )


def calibration_interval(
    confidences: Sequence[float],
    outcomes: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    count: int = 10,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """`expected_calibration_error` with an interval that contains 0 where a calibrated model would often have
    as large an error.

    Noise alone makes a mean of absolute gaps positive, and a bootstrap adds more, so both would call every
    model miscalibrated. Here the observed gaps are scaled by s in [0, 2] and noise of each bin's variance,
    times the clusters' design effect, is added; the interval spans those s * error under which the observed
    error lies within the central `level` of `draws` simulations. The method is ours, not a paper's.

    >>> right = [1, 0, 0, 0, 1, 0, 0, 0] + [1, 1, 0, 1, 1, 1, 0, 1]
    >>> print(calibration_interval([0.25] * 8 + [0.75] * 8, right, count=2))
    0.000 [0.000, 0.000] (n=16, inverted over scaled bin gaps)
    """
    p, y = _pairs(confidences, outcomes)
    parts = [part for part in np.array_split(np.argsort(p, kind="stable"), count) if part.size]
    gaps = np.array([float((p[part] - y[part]).mean()) for part in parts])
    binomial = np.array([float((p[part] * (1 - p[part])).mean()) / part.size for part in parts])
    spread = np.array([float((p[part] - y[part]).var()) / part.size for part in parts])
    effect, groups = _design_effect(p - y, clusters)
    noise = np.random.default_rng(seed).standard_normal((draws, len(parts))) * np.sqrt(
        effect * np.maximum(binomial, spread)
    )
    error = float(np.abs(gaps).mean())
    low, high = 0.5 - level / 2, 0.5 + level / 2
    scales = np.linspace(0.0, 2.0, 201)
    quantiles = [np.quantile(np.abs(scale * gaps + noise).mean(axis=1), [low, high]) for scale in scales]
    accepted = [
        scale for scale, (below, above) in zip(scales, quantiles, strict=True) if below <= error <= above
    ]
    ends = (min(accepted), max(accepted)) if accepted else (0.0, 0.0)
    return Estimate(
        error,
        min(error, ends[0] * error),
        max(error, ends[1] * error),
        "inverted over scaled bin gaps",
        p.size,
        groups,
    )


def _design_effect(gaps: Floats, clusters: Sequence[Hashable] | None) -> tuple[float, int]:
    """The design effect of clusters on the variance of a mean gap, at least 1, and the number of clusters."""
    if clusters is None:
        return 1.0, gaps.size
    clustered = mean(list(gaps), clusters=clusters)
    plain = mean(list(gaps))
    ratio = (clustered.high - clustered.low) / (plain.high - plain.low) if plain.high > plain.low else 1.0
    return max(1.0, float(ratio**2) if np.isfinite(ratio) else float(gaps.size)), clustered.clusters


def rms_calibration_error(
    confidences: Sequence[float], outcomes: Sequence[float], *, count: int = 10
) -> float:
    """The root mean square of mean confidence - accuracy over the bins of `equal_count_bins`. Kadavath et al.
    2022 (arXiv:2207.05221) name this score.

    >>> rms_calibration_error([0.5, 0.5, 1.0, 1.0], [0, 1, 1, 1], count=2)
    0.0
    """
    return float(
        np.sqrt(
            np.mean(
                [
                    (b.confidence - b.accuracy) ** 2
                    for b in equal_count_bins(confidences, outcomes, count=count)
                ]
            )
        )
    )


def fixed_bin_calibration_error(confidences: Sequence[float], outcomes: Sequence[float]) -> float:
    """The unweighted mean of |accuracy - centre| over the non-empty bins centred at 25, 42, 60, 80 and 100%
    (Bowman et al. 2022, arXiv:2211.03540, footnote 8). Each confidence falls into the bin of its nearest
    centre.
    """
    p, y = _pairs(confidences, outcomes)
    centres = np.array([0.25, 0.42, 0.60, 0.80, 1.00])
    nearest = np.abs(p[:, None] - centres[None, :]).argmin(axis=1)
    return float(np.mean([abs(y[nearest == i].mean() - centres[i]) for i in np.unique(nearest)]))


def brier_score(confidences: Sequence[float], outcomes: Sequence[float]) -> float:
    """The mean of (p - y)^2: 0 is perfect, and a constant confidence of one half scores 0.25."""
    p, y = _pairs(confidences, outcomes)
    return float(np.square(p - y).mean())


def auroc(scores: Sequence[float], positives: Sequence[bool], *, level: float = 0.95) -> Estimate:
    """The probability that a positive scores above a negative, ties counting half, with DeLong's interval.

    Where no pair is misordered, the interval is that of an exact binomial over as many independent pairs as
    the smaller class has; one row of a class gives [0, 1]. Raises InputError unless both classes occur.

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
    value, fewer = float(above.mean()), min(up.size, down.size)
    if fewer == 1:
        return Estimate(value, 0.0, 1.0, "DeLong; one row of a class shows no spread", s.size, s.size)
    if value in (0.0, 1.0):  # no variance to estimate from
        end = (0.5 - level / 2) ** (1 / fewer)
        return Estimate(
            value,
            end if value else 0.0,
            1.0 if value else 1 - end,
            "DeLong; exact where none is misplaced",
            s.size,
            s.size,
        )
    variance = sum(float(part.var(ddof=1)) / part.size for part in (above, below))
    half = float(stats.norm.ppf(0.5 + level / 2)) * np.sqrt(variance)
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), "DeLong", s.size, s.size)
