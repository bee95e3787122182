"""Reward over-optimisation (HH-RLHF, arXiv:2204.05862, sections 4.2 and 4.3).

Two preference models are trained on disjoint halves of the comparisons. The policy is trained against one,
and the other measures whether its reward is real. Reward is about linear in the root of the KL until it is
over-optimised; best-of-N, whose KL is known, serves as a reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from solon.errors import InputError
from solon.statistics.intervals import Estimate
from solon.training.rollouts import Reward
from solon.training.steps import Step
from solon.words.conversation import Conversation


def with_judge_scores(
    steps: Iterator[Step], judges: Mapping[str, Reward], offset: Callable[[str, Conversation], float]
) -> Iterator[Step]:
    """The steps with each judge's mean score of the rollouts, minus `offset(judge, prompt)`, among their
    metrics. The offset is the judge's mean on a fixed set, which makes two preference models comparable
    (appendix B.2), or its mean over other replies to the prompt, which also removes differences of prompts.
    """
    for step in steps:
        prompts = [rollout.prompt for rollout in step.rollouts]
        samples = [rollout.sample for rollout in step.rollouts]
        less = {name: sum(offset(name, prompt) for prompt in prompts) for name in judges}
        scores = {
            name: (sum(judge(prompts, samples)) - less[name]) / len(samples) for name, judge in judges.items()
        }
        yield replace(step, metrics={**step.metrics, **scores})


def overoptimisation_warning(
    train: Sequence[float], test: Sequence[float], *, shortest: int = 8, threshold: float = 3.0
) -> str | None:
    """A warning where the train score rose while the test score fell over some window of steps; else None.

    Windows have `shortest`, twice as many, four times as many ... steps, and all. Both fitted slopes must be
    more than `threshold` standard errors from 0. The longest such window is named, the latest of several.

    >>> overoptimisation_warning(range(20), range(20)) is None
    True
    >>> print(overoptimisation_warning([0, 1, 2, 3, 4, 5, 6, 7.1], [0, -1, -2, -3, -4, -5, -6, -7.1]))
    over-optimising: from step 1 to 8 the reward model's score rose by 7.06 nats while ...
    """
    lengths = {len(train)} | {shortest * 2**power for power in range(16) if shortest * 2**power < len(train)}
    for length in sorted(lengths, reverse=True):
        for start in range(len(train) - length, -1, -1):
            if length < shortest:
                continue
            rise, rise_t = _trend(train[start : start + length])
            fall, fall_t = _trend(test[start : start + length])
            if rise_t > threshold and fall_t < -threshold:
                return (
                    f"over-optimising: from step {start + 1} to {start + length} the reward model's score "
                    f"rose by {rise:.2f} nats while "
                    f"the held-out model's fell by {-fall:.2f}; stop earlier or raise the KL coefficient"
                )
    return None


def _trend(values: Sequence[float]) -> tuple[float, float]:
    """The fitted change from first to last value, and its slope in standard errors."""
    fitted = stats.linregress(range(len(values)), values)
    size = float(fitted.slope) / max(float(fitted.stderr), 1e-12)
    return float(fitted.slope) * (len(values) - 1), size


@dataclass(frozen=True, slots=True)
class SqrtKLLaw:
    """reward = a + b sqrt(KL), fitted to `n` points. `bend_kl` is the KL (nats) at which the line bends down;
    None where the points show no bend.
    """

    a: float
    b: Estimate
    bend_kl: float | None
    n: int

    def at(self, kl: float) -> float:
        """The line's reward at a KL in nats."""
        return self.a + self.b.value * math.sqrt(kl)


def fit_sqrt_kl_law(
    kl: Sequence[float], reward: Sequence[float], *, shortest: int = 6, level: float = 0.01
) -> SqrtKLLaw:
    """Least squares of reward on sqrt(KL), the KL summed over the reply, in nats (HH-RLHF section 4.3), with
    Student's t interval on b.

    The bend is the knot of the best broken line, y = a + b x - c max(0, x - knot), with at least `shortest`
    points before it and three after, where c > 0 by an F test at `level` divided by the number of knots
    (Bonferroni); a and b are then those before the knot. Raises InputError on fewer than `shortest` points, a
    negative KL, or a constant KL.
    """
    x, y = np.sqrt(np.maximum(np.asarray(kl, dtype=np.float64), 0.0)), np.asarray(reward, dtype=np.float64)
    if (
        x.shape != y.shape
        or len(x) < shortest
        or not np.isfinite(x + y).all()
        or min(kl, default=0.0) < -1e-6
    ):
        raise InputError(
            f"the law needs at least {shortest} points of a KL of 0 or more and a reward; found {len(kl)} "
            f"and {len(reward)}"
        )
    if np.ptp(x) == 0:
        raise InputError("the KL never changes, so no law of the reward can be fitted")
    straight = _least_squares(x, y, None)
    knots = (
        [float(knot) for knot in np.unique(np.sort(x)[shortest - 1 : -3])] if len(x) > shortest + 3 else []
    )
    broken, knot = min(
        ((_least_squares(x, y, candidate), candidate) for candidate in knots),
        key=lambda pair: pair[0].error,
        default=(straight, None),
    )
    f = (straight.error - broken.error) / max(broken.error / (len(x) - 3), 1e-300)
    bends = (
        knot is not None
        and broken.weights[2] < 0
        and float(stats.f.sf(f, 1, len(x) - 3)) < level / len(knots)
    )
    fitted = broken if bends else straight
    half = float(stats.t.ppf(0.975, len(x) - len(fitted.weights)) * fitted.slope_error)
    slope = float(fitted.weights[1])
    return SqrtKLLaw(
        float(fitted.weights[0]),
        Estimate(slope, slope - half, slope + half, "t, least squares", len(x), len(x)),
        knot**2 if bends and knot is not None else None,
        len(x),
    )


@dataclass(frozen=True, slots=True)
class _Fitted:
    weights: np.ndarray
    error: float  # the residual sum of squares
    slope_error: float


def _least_squares(x: np.ndarray, y: np.ndarray, knot: float | None) -> _Fitted:
    """A straight line, or one that bends at a knot."""
    columns = [np.ones_like(x), x, *([] if knot is None else [np.maximum(x - knot, 0.0)])]
    design = np.stack(columns, axis=1)
    weights = np.linalg.lstsq(design, y, rcond=None)[0]
    error = float(np.square(y - design @ weights).sum())
    variance = error / max(len(x) - len(columns), 1) * np.linalg.pinv(design.T @ design)[1, 1]
    return _Fitted(weights, error, float(np.sqrt(max(variance, 0.0))))


def expected_best_of_n(
    scores: Sequence[float], values: Sequence[float], counts: Sequence[int]
) -> list[float]:
    """The expected `values` of the sample with the best of N `scores`, for each N in `counts`: the exact mean
    over all subsets of the samples, by order statistics. Equal scores share their mean value. Raises
    InputError where N is not from 1 to the number of samples.

    >>> expected_best_of_n([1.0, 2.0, 3.0], [10.0, 20.0, 60.0], [1, 2, 3])
    [30.0, 46.666666666666664, 60.0]
    """
    if len(scores) != len(values) or not scores or not 1 <= min(counts) <= max(counts) <= len(scores):
        raise InputError(
            f"best-of-N needs N from 1 to the {len(scores)} samples of a prompt; found {list(counts)}"
        )
    order = np.argsort(np.asarray(scores), kind="stable")
    sorted_scores, sorted_values = np.asarray(scores)[order], np.asarray(values, dtype=np.float64)[order]
    for tie in np.unique(sorted_scores):
        same = sorted_scores == tie
        sorted_values[same] = sorted_values[same].mean()
    size = len(scores)
    return [
        sum(math.comb(rank, n - 1) * float(value) for rank, value in enumerate(sorted_values))
        / math.comb(size, n)
        for n in counts
    ]


def best_of_n_kl(count: int, *, tight: bool) -> float:
    """The KL (nats) of best-of-N from the policy it samples: log N - (N - 1) / N with `tight`, exact where no
    two replies have one score; else log N, as in HH-RLHF's figures.

    >>> round(best_of_n_kl(16, tight=True), 2), round(best_of_n_kl(16, tight=False), 2)
    (1.84, 2.77)
    """
    return math.log(count) - ((count - 1) / count if tight else 0.0)
