"""Tests for two models on the same items, corrections for several tests, and the detectable difference."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy import stats

from solon.errors import InputError
from solon.statistics.intervals import Estimate


def sign_flip_test(
    differences: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> float:
    """The two-sided p-value of a mean paired difference under random signs of the differences; with
    `clusters`, of each cluster's sum.

    Exact where 2^clusters is at most `draws`. Otherwise (1 + draws at least as extreme) / (1 + draws), which
    is never 0. Raises InputError on differences that are not finite.

    >>> sign_flip_test([1.0, 1.0, 1.0, 1.0])
    0.125
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise InputError(f"a sign-flip test needs a list of finite differences; found shape {values.shape}")
    if clusters is not None and len(clusters) != values.size:
        raise InputError(f"{values.size} differences need {values.size} cluster names; found {len(clusters)}")
    names: dict[Hashable, int] = {}
    group = np.array(
        [
            names.setdefault(name, len(names))
            for name in (clusters if clusters is not None else range(values.size))
        ]
    )
    sums = np.bincount(group, weights=values)
    observed, tolerance = abs(sums.sum()), 1e-12 * np.abs(sums).sum()
    if 2**sums.size <= draws:
        signs = 1.0 - 2.0 * ((np.arange(2**sums.size)[:, None] >> np.arange(sums.size)) & 1)
        return float(np.mean(np.abs(signs @ sums) >= observed - tolerance))
    rng, further, done = np.random.default_rng(seed), 0, 0
    while done < draws:
        part = min(draws - done, max(1, 4_000_000 // sums.size))
        signs = rng.integers(0, 2, (part, sums.size)) * 2.0 - 1.0
        further += int((np.abs(signs @ sums) >= observed - tolerance).sum())
        done += part
    return (1 + further) / (1 + draws)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that bound the probability of any false positive in the family (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = _p(p_values)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    return _placed(stepped, order)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that bound the false discovery rate (Benjamini and Hochberg 1995).

    >>> benjamini_hochberg([0.01, 0.04, 0.03])
    [0.03, 0.04, 0.04]
    """
    p = _p(p_values)
    order = np.argsort(p, kind="stable")
    stepped = np.minimum.accumulate((p[order] * p.size / np.arange(1, p.size + 1))[::-1])[::-1]
    return _placed(stepped, order)


def _p(p_values: Sequence[float]) -> np.ndarray:
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not p.size or not ((p >= 0) & (p <= 1)).all():
        raise InputError("a family of tests needs p-values in [0, 1], at least one and none NaN")
    return p


def _placed(stepped: np.ndarray, order: np.ndarray) -> list[float]:
    adjusted = np.empty_like(stepped)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [round(float(value), 15) for value in adjusted]


def detectable_difference(difference: Estimate, *, level: float = 0.95, power: float = 0.8) -> float:
    """The smallest true difference that a paired comparison as noisy as this one detects with that power:
    (t_level + t_power) standard errors, t on clusters - 1 degrees of freedom. `level` must be that of the
    estimate's interval. Infinite where there is one cluster.

    >>> round(detectable_difference(Estimate(0.0, -0.1, 0.1, "paired t", 1000, 1000)), 3)
    0.143
    """
    freedom = difference.clusters - 1
    if freedom < 1 or not np.isfinite(difference.high - difference.low):
        return float("inf")
    wide = float(stats.t.ppf(0.5 + level / 2, freedom))
    error = (difference.high - difference.low) / 2 / wide
    return (wide + float(stats.t.ppf(power, freedom))) * error
