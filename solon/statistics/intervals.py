"""Interval estimates, and paired tests between two models on the same items.

Every estimate names its method, the number of observations and the number of clusters. `level` is the
coverage of an interval. No value is dropped: NaN and empty samples raise InputError.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from solon.errors import InputError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval. `clusters` equals `n` where observations are independent."""

    value: float
    low: float
    high: float
    method: str
    n: int
    clusters: int

    def __neg__(self) -> Estimate:
        """The estimate of minus the quantity: the ends change sign and places.

        >>> print(-Estimate(0.25, -0.5, 1.0, "Student", 4, 4))
        -0.250 [-1.000, 0.500] (n=4, Student)
        """
        return replace(self, value=-self.value, low=-self.high, high=-self.low)

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n={self.n}, {self.method})"


def _sample(values: Sequence[float] | Floats, name: str = "values") -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise InputError(f"{name} must be a list of at least one number; found shape {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(
            f"{name} holds {int((~np.isfinite(array)).sum())} values that are NaN or infinite; count them "
            "separately"
        )
    return array


def _groups(clusters: Sequence[Hashable] | None, n: int) -> npt.NDArray[np.int64]:
    """The cluster number of each row, from 0."""
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise InputError(f"{n} values need {n} cluster names; found {len(clusters)}")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in clusters])


def wilson(successes: float, n: float, *, level: float = 0.95) -> Estimate:
    """The Wilson score interval of a proportion (Wilson 1927). Counts may be fractions: a tie is half a
    success. Raises InputError unless 0 <= successes <= n and n > 0.

    >>> print(wilson(8, 10))
    0.800 [0.490, 0.943] (n=10, Wilson)
    """
    if n <= 0 or not 0 <= successes <= n:
        raise InputError(f"a proportion needs 0 <= successes <= n and n > 0; found {successes} of {n}")
    z = float(stats.norm.ppf(0.5 + level / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(
        share, max(0.0, float(centre - half)), min(1.0, float(centre + half)), "Wilson", round(n), round(n)
    )


def difference_of_proportions(
    first: Sequence[bool], second: Sequence[bool], *, level: float = 0.95
) -> Estimate:
    """The proportion in the first sample minus that in the second, of independent items, with Newcombe's
    hybrid of Wilson intervals (1998, method 10), which also covers small samples and proportions of 0 or 1.

    >>> print(difference_of_proportions([True] * 56 + [False] * 14, [True] * 48 + [False] * 32))
    0.200 [0.052, 0.334] (n=150, Newcombe)
    """
    a, b = (wilson(sum(sample), len(sample), level=level) for sample in (first, second))
    low = float(np.hypot(a.value - a.low, b.high - b.value))
    high = float(np.hypot(a.high - a.value, b.value - b.low))
    return Estimate(
        a.value - b.value, a.value - b.value - low, a.value - b.value + high, "Newcombe", a.n + b.n, a.n + b.n
    )


def proportion(flags: Sequence[bool], *, clusters: Sequence[Hashable], level: float = 0.95) -> Estimate:
    """The Wilson interval of a proportion of clustered rows. Its n is divided by the design effect, the ratio
    of the cluster-robust variance to the binomial one (Kish 1965), where that exceeds 1. One cluster alone
    gives [0, 1].

    >>> print(proportion([True] * 8 + [False] * 2, clusters=range(10)))
    0.800 [0.490, 0.943] (n=10, Wilson)
    >>> print(proportion([True] * 8 + [False] * 2, clusters=[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]))
    0.800 [0.223, 0.982] (n=10, cluster-robust Wilson)
    """
    array = _sample([float(flag) for flag in flags], "flags")
    group = _groups(clusters, array.size)
    count, n = int(group.max()) + 1, array.size
    share = wilson(float(array.sum()), n, level=level)
    if count == n:
        return share
    binomial = share.value * (1 - share.value) / n
    sums = np.bincount(group, weights=array - share.value, minlength=count)
    if count == 1:
        # one cluster has no spread
        return Estimate(share.value, 0.0, 1.0, "cluster-robust Wilson", n, 1)
    robust = count / (count - 1) * float(np.square(sums).sum()) / n**2
    # few clusters: t, not z
    wider = float(stats.t.ppf(0.5 + level / 2, count - 1) / stats.norm.ppf(0.5 + level / 2)) ** 2
    # without spread the design effect is unknown: each cluster counts as one row
    effect = max(1.0, wider * robust / binomial) if binomial else n / count
    fewer = wilson(share.value * n / effect, n / effect, level=level)
    return Estimate(share.value, fewer.low, fewer.high, "cluster-robust Wilson", n, count)


def mean(
    values: Sequence[float], *, clusters: Sequence[Hashable] | None = None, level: float = 0.95
) -> Estimate:
    """A mean with its t interval; with `clusters`, the cluster-robust standard error and clusters - 1 degrees
    of freedom.

    The robust variance is G/(G-1) * sum_g (sum_{i in g} (x_i - mean))^2 / n^2, which is s^2/n where every row
    is a cluster of its own. One cluster alone gives an infinite interval.
    """
    array = _sample(values)
    group = _groups(clusters, array.size)
    count = int(group.max()) + 1
    centre = float(array.mean())
    method = "t" if clusters is None else "cluster-robust t"
    if count == 1:
        return Estimate(centre, -np.inf, np.inf, method, array.size, 1)
    sums = np.bincount(group, weights=array - centre, minlength=count)
    error = np.sqrt(count / (count - 1) * np.square(sums).sum()) / array.size
    half = float(stats.t.ppf(0.5 + level / 2, count - 1) * error)
    return Estimate(centre, centre - half, centre + half, method, array.size, count)


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Estimate:
    """mean(first - second) over the same items, with its (cluster-robust) t interval. Raises InputError on
    lists of different lengths.

    >>> print(paired_difference([1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 3.0, 2.0]))
    1.000 [-0.299, 2.299] (n=4, paired t)
    """
    a, b = _sample(first, "first"), _sample(second, "second")
    if a.size != b.size:
        raise InputError(
            f"a paired difference needs the same items on both sides; found {a.size} and {b.size}"
        )
    difference = mean(list(a - b), clusters=clusters, level=level)
    return Estimate(
        difference.value,
        difference.low,
        difference.high,
        f"paired {difference.method}",
        difference.n,
        difference.clusters,
    )


def bootstrap(
    values: Sequence[float],
    statistic: Callable[[Floats], float] = lambda sample: float(np.mean(sample)),
    *,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """The percentile bootstrap interval of a statistic of one list of numbers, its mean unless another is
    given; with `clusters`, whole clusters are resampled.
    """
    array = _sample(values)
    group = _groups(clusters, array.size)
    count = int(group.max()) + 1
    rows = [np.flatnonzero(group == number) for number in range(count)]
    rng = np.random.default_rng(seed)
    draws = (np.concatenate([rows[g] for g in rng.integers(0, count, count)]) for _ in range(resamples))
    statistics = np.array([statistic(array[draw]) for draw in draws])
    low, high = np.quantile(statistics, [0.5 - level / 2, 0.5 + level / 2])
    method = f"{'bootstrap' if clusters is None else 'cluster bootstrap'}, {resamples} resamples"
    return Estimate(statistic(array), float(low), float(high), method, array.size, count)


@dataclass(frozen=True, slots=True)
class McNemar:
    """Counts of items that only one model has right, and the exact two-sided p-value of equal accuracy."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """McNemar's exact binomial test on the same items. Without discordant items p is 1.

    >>> mcnemar([True, True, True, True, False], [False, False, False, True, True])
    McNemar(only_first=3, only_second=1, p_value=0.625)
    """
    if len(first) != len(second) or not first:
        raise InputError(
            f"McNemar's test needs the same items on both sides; found {len(first)} and {len(second)}"
        )
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    n = only_first + only_second
    p_value = float(stats.binomtest(only_first, n, 0.5).pvalue) if n else 1.0
    return McNemar(only_first, only_second, p_value)


def correlation(
    first: Sequence[float], second: Sequence[float], *, origin: bool = False, level: float = 0.95
) -> Estimate:
    """Pearson's r with Fisher's z interval. With `origin` the means are taken as zero, for differences whose
    sign says only which side was written first. Raises InputError on fewer than four pairs and where one
    side is constant.
    """
    a, b = _sample(first, "first"), _sample(second, "second")
    if a.size != b.size or a.size < 4:
        raise InputError(
            f"a correlation needs two lists of equal length above 3; found {a.size} and {b.size}"
        )
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise InputError("a correlation needs spread on both sides; one side is constant")
    plain = float(a @ b / np.sqrt((a @ a) * (b @ b))) if origin else float(np.corrcoef(a, b)[0, 1])
    r = float(np.clip(plain, -1.0, 1.0))
    half = float(stats.norm.ppf(0.5 + level / 2) / np.sqrt(a.size - 3))
    z = float(np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)))
    return Estimate(r, float(np.tanh(z - half)), float(np.tanh(z + half)), "Fisher z", a.size, a.size)


def regression(
    values: Sequence[float],
    columns: Sequence[Sequence[float]],
    *,
    clusters: Sequence[Hashable],
    level: float = 0.95,
) -> list[Estimate]:
    """Least squares of `values` on `columns`, one of them of ones for an intercept. Each coefficient has an
    interval from the cluster jackknife (CR3: Bell and McCaffrey 2002), t on clusters - 1 degrees of freedom;
    the plain sandwich (CR1) is too narrow with few clusters. On an intercept alone it is `mean`'s interval
    where every row is a cluster of its own.

    Raises InputError where columns are linearly dependent, with or without any one cluster, where rows do not
    outnumber columns, and where there is one cluster.

    >>> print(regression([1.0, 2.0, 3.0, 4.1], [[1.0] * 4, [0.0, 1.0, 2.0, 3.0]], clusters=range(4))[1])
    1.030 [0.929, 1.131] (n=4, cluster-jackknife regression)
    """
    y, x = _sample(values), np.column_stack([_sample(column, "a column") for column in columns])
    group = _groups(clusters, y.size)
    n, k, count = y.size, x.shape[1], int(group.max()) + 1
    if n <= k or count < 2 or np.linalg.matrix_rank(x) < k:
        raise InputError(
            f"{n} rows in {count} clusters do not give {k} coefficients: columns are linearly dependent, or "
            "rows or clusters are too few"
        )
    inverse = np.linalg.inv(x.T @ x)
    fitted = inverse @ x.T @ y
    residual = y - x @ fitted
    shifts = []  # how far the coefficients move when a cluster is left out
    for members in (np.flatnonzero(group == number) for number in range(count)):
        if np.linalg.matrix_rank(np.delete(x, members, axis=0)) < k:
            raise InputError(
                "one cluster alone determines a coefficient, so its spread is unknown: give more clusters"
            )
        leverage = np.eye(len(members)) - x[members] @ inverse @ x[members].T
        shifts.append(inverse @ x[members].T @ np.linalg.solve(leverage, residual[members]))
    error = np.sqrt((count - 1) / count * np.square(shifts).sum(axis=0))
    half = float(stats.t.ppf(0.5 + level / 2, count - 1)) * error
    return [
        Estimate(float(b), float(b - h), float(b + h), "cluster-jackknife regression", n, count)
        for b, h in zip(fitted, half, strict=True)
    ]
