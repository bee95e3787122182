"""Scores of stored outcomes: accuracy, behaviour, calibration, and the temperature that repairs
calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize

from solon.errors import InputError
from solon.evaluation.measure import Outcome, ReplyOutcome
from solon.statistics.calibration import Bin, calibration_interval, equal_count_bins, rms_calibration_error
from solon.statistics.intervals import Estimate, mean, proportion

UNJUDGED_LIMIT = 0.01  # share of rows without a grade, above which an interval covers both extremes


def accuracy(rows: Sequence[Outcome | ReplyOutcome]) -> Estimate:
    """The share of right rows, with a cluster-robust Wilson interval. Ungraded rows count as wrong; where
    they are more than 1% of rows, the interval reaches from all of them wrong to all of them right, and its
    method says so. Raises InputError where no row has a right answer.
    """
    keyed = [row for row in rows if isinstance(row, ReplyOutcome) or row.right is not None]
    if not keyed:
        raise InputError(f"accuracy needs right answers; none of {len(rows)} rows has one")
    clusters = [row.cluster for row in keyed]
    low = proportion([bool(row.correct) for row in keyed], clusters=clusters)
    unjudged = sum(row.correct is None for row in keyed)
    if unjudged <= UNJUDGED_LIMIT * len(keyed):
        return low
    high = proportion([row.correct is not False for row in keyed], clusters=clusters)
    return replace(low, high=high.high, method=f"{low.method}, {unjudged} unjudged taken as wrong to right")


def chance_accuracy(rows: Sequence[Outcome]) -> float:
    """The expected accuracy of a uniform guess among the options."""
    return float(np.mean([1 / len(row.options) for row in rows]))


def behaviour_match(rows: Sequence[Outcome]) -> tuple[Estimate, Estimate]:
    """The share of answers that match the behaviour, and the mean probability of the matching answer."""
    keyed = [row for row in rows if row.right is not None]
    clusters = [row.cluster for row in keyed]
    return accuracy(keyed), mean(
        [row.belief[row.right] for row in keyed if row.right is not None], clusters=clusters
    )


def gold_log_probability(rows: Sequence[Outcome]) -> Estimate:
    """The mean log-probability (nats) of the right option, renormalised over the options."""
    pairs = [
        (np.log(max(row.belief[row.right], 1e-300)), row.cluster) for row in rows if row.right is not None
    ]
    return mean([float(value) for value, _ in pairs], clusters=[cluster for _, cluster in pairs])


def with_temperature(row: Outcome, temperature: float) -> Outcome:
    """The outcome with its log-probabilities renormalised over the options and divided by a temperature."""
    return replace(row, logprobs=tuple(float(np.log(max(p, 1e-300))) / temperature for p in row.belief))


def fit_temperature(rows: Sequence[Outcome]) -> float:
    """The temperature in [0.05, 20] with the least mean loss of the right options (Kadavath et al. 2022,
    arXiv:2207.05221, section 3.3: T = 2.5 for their RLHF policy). Evaluate it on other rows than these.
    Raises InputError where no row has a right answer.
    """
    keyed = [row for row in rows if row.right is not None]
    if not keyed:
        raise InputError("a temperature needs rows with right answers")
    logs = [np.log(np.maximum(row.belief, 1e-300)) for row in keyed]

    def loss(log_temperature: float) -> float:
        scaled = [log_p / np.exp(log_temperature) for log_p in logs]
        right = [
            log_p[row.right] - np.logaddexp.reduce(log_p) for log_p, row in zip(scaled, keyed, strict=True)
        ]
        return -float(np.mean(right))

    return float(
        np.exp(optimize.minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x)
    )


@dataclass(frozen=True, slots=True)
class Calibration:
    """`error` is the expected calibration error of the top prediction over ten equal-count bins, with the
    interval of `calibration_interval`; `rms` is the root-mean-square error over the same bins. `chart` has
    bins over every option of every row, as in the paper.
    """

    error: Estimate
    rms: float
    chart: tuple[Bin, ...]


def calibration(rows: Sequence[Outcome], *, seed: int = 0) -> Calibration:
    """The calibration of outcomes (Kadavath et al. 2022, arXiv:2207.05221): ECE on the top prediction, chart
    on all options. Raises InputError where no row has a right answer.
    """
    keyed = [row for row in rows if row.right is not None]
    if not keyed:
        raise InputError("calibration needs rows with right answers")
    top, right = [max(row.belief) for row in keyed], [float(bool(row.correct)) for row in keyed]
    every = [(p, float(index == row.right)) for row in keyed for index, p in enumerate(row.belief)]
    return confidence_calibration(top, right, clusters=[row.cluster for row in keyed], chart=every, seed=seed)


def confidence_calibration(
    confidences: Sequence[float],
    right: Sequence[float],
    *,
    clusters: Sequence[str],
    chart: Sequence[tuple[float, float]] = (),
    seed: int = 0,
) -> Calibration:
    """The calibration of stated probabilities; `chart` has (confidence, outcome) points of its own, where
    they differ.
    """
    error = calibration_interval(confidences, right, clusters=clusters, seed=seed)
    points = list(chart) or list(zip(confidences, right, strict=True))
    return Calibration(
        error,
        rms_calibration_error(confidences, right),
        tuple(equal_count_bins([confidence for confidence, _ in points], [outcome for _, outcome in points])),
    )
