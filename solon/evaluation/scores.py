"""Scores of kept outcomes: accuracy, behaviour, calibration, and the one temperature that repairs it. None
needs a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize

from solon.errors import InputError
from solon.evaluation.measure import Outcome, ReplyOutcome
from solon.statistics.calibration import Bin, calibration_interval, equal_count_bins, rms_calibration_error
from solon.statistics.intervals import Estimate, mean, proportion

UNJUDGED_LIMIT = 0.01  # of rows that could not be scored: above it an interval holds both extremes


def accuracy(rows: Sequence[Outcome | ReplyOutcome]) -> Estimate:
    """The share that is right, by the default cluster of the task. What could not be judged counts as wrong;
    where that is more than one row in a hundred the interval reaches from all of it wrong to all of it right,
    and says so.

    Raises InputError where no row has a right answer.
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
    """What guessing among the options would get right."""
    return float(np.mean([1 / len(row.options) for row in rows]))


def behaviour_match(rows: Sequence[Outcome]) -> tuple[Estimate, Estimate]:
    """Of a behaviour: the share of answers that match it, and the mean probability of the one that does."""
    keyed = [row for row in rows if row.right is not None]
    clusters = [row.cluster for row in keyed]
    return accuracy(keyed), mean(
        [row.belief[row.right] for row in keyed if row.right is not None], clusters=clusters
    )


def gold_log_probability(rows: Sequence[Outcome]) -> Estimate:
    """The mean log-probability (nats) of the right option among the options: the smooth companion of
    accuracy.
    """
    pairs = [
        (np.log(max(row.belief[row.right], 1e-300)), row.cluster) for row in rows if row.right is not None
    ]
    return mean([float(value) for value, _ in pairs], clusters=[cluster for _, cluster in pairs])


def with_temperature(row: Outcome, temperature: float) -> Outcome:
    """The same outcome with its log-probabilities, renormalised over the options, divided by a
    temperature.
    """
    return replace(row, logprobs=tuple(float(np.log(max(p, 1e-300))) / temperature for p in row.belief))


def fit_temperature(rows: Sequence[Outcome]) -> float:
    """The one temperature of least mean loss of the right options (Kadavath et al. 2022, section 3.3: T = 2.5
    for their RLHF policy), within [0.05, 20]. It belongs on other rows than those it was fitted on.
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
    """How well probabilities come true. `error` is of the top prediction on ten equal-count bins, unweighted;
    its interval holds 0 where a calibrated model would often seem as far off. `chart` holds every option of
    every row, as the paper's charts do.
    """

    error: Estimate
    rms: float
    chart: tuple[Bin, ...]


def calibration(rows: Sequence[Outcome], *, seed: int = 0) -> Calibration:
    """Kadavath et al. 2022, arXiv:2207.05221: ECE on the top prediction, chart on all options."""
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
    """The same of stated probabilities; the chart is of them unless another is given."""
    error = calibration_interval(confidences, right, clusters=clusters, seed=seed)
    points = list(chart) or list(zip(confidences, right, strict=True))
    return Calibration(
        error,
        rms_calibration_error(confidences, right),
        tuple(equal_count_bins([confidence for confidence, _ in points], [outcome for _, outcome in points])),
    )


def group_by(rows: Sequence[Outcome], name: Callable[[Outcome], str]) -> dict[str, list[Outcome]]:
    """Rows in groups, in the order in which the groups first come."""
    groups: dict[str, list[Outcome]] = {}
    for row in rows:
        groups.setdefault(name(row), []).append(row)
    return groups
