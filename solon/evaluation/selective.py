"""Selective answering: risk-coverage curves, and confidence thresholds with finite-sample guarantees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from solon.errors import InputError


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """The share of answers given and the share of those that are wrong, most confident first. `area` is the
    mean risk over coverages (AURC), `oracle` that of an order with all right answers first, `random` that of
    a random order.
    """

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    area: float
    oracle: float
    random: float


def _checked(confidences: Sequence[float], right: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    scores, wrong = np.asarray(confidences, dtype=np.float64), 1.0 - np.asarray(right, dtype=np.float64)
    if scores.shape != wrong.shape or scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
        raise InputError(
            f"selective answering needs one finite confidence a question; found {scores.shape} and "
            f"{wrong.shape}"
        )
    return scores, wrong


def risk_coverage(confidences: Sequence[float], right: Sequence[bool]) -> RiskCoverage:
    """The risk-coverage curve; equally confident answers are one point. Raises InputError on confidences that
    are not finite.

    >>> risk_coverage([0.9, 0.8, 0.3, 0.1], [True, True, False, True]).risk
    (0.0, 0.0, 0.3333333333333333, 0.25)
    """
    scores, wrong = _checked(confidences, right)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    cumulative, count = np.cumsum(wrong[order]), np.arange(1, scores.size + 1)
    sizes = np.diff(np.append(-1, ends))
    risks = cumulative[ends] / count[ends]
    best = np.maximum(count - (scores.size - wrong.sum()), 0) / count
    return RiskCoverage(
        tuple((count[ends] / scores.size).tolist()),
        tuple(risks.tolist()),
        float((risks * sizes).sum() / scores.size),
        float(best.mean()),
        float(wrong.mean()),
    )


@dataclass(frozen=True, slots=True)
class Threshold:
    """A rule to answer where the confidence is at least `value` (infinite: never), with its coverage and the
    error rate among the answered on `n` calibration questions. `guarantee` is the guarantee in words.
    """

    value: float
    target: float
    coverage: float
    error: float
    n: int
    guarantee: str


def certified_threshold(
    confidences: Sequence[float],
    right: Sequence[bool],
    *,
    target: float,
    reference: Sequence[float],
    failure: float = 0.05,
) -> Threshold:
    """The lowest threshold certified to keep P(wrong | answered) at or below `target`.

    The guarantee has probability 1 - `failure` over the calibration questions, for new questions of their
    distribution. Learn then Test (Angelopoulos et al. 2021, arXiv:2110.01052) with fixed-sequence testing:
    candidates are quantiles of `reference`, the confidences of other questions. Three sequences of lowering
    candidates, each at `failure` / 3, stop at the first whose exact binomial test does not reject an error
    rate above the target. They start where 1.5, 3 and 6 times as many questions are answered as a test
    without an error needs. Where nothing is certified, the threshold is infinite. Raises InputError on a
    target or failure rate outside (0, 1) and without reference confidences.
    """
    scores, wrong = _checked(confidences, right)
    candidates = np.asarray(reference, dtype=np.float64)
    if not 0 < target < 1 or not 0 < failure < 1 or not candidates.size or not np.isfinite(candidates).all():
        raise InputError(
            "a threshold needs a target and a failure rate between 0 and 1, and reference confidences; "
            f"found {target}, {failure}, {candidates.size}"
        )
    fractions = np.linspace(0.02, 1.0, 50)
    levels = np.quantile(candidates, 1 - fractions)
    enough = math.log(failure / 3) / math.log(1 - target) / scores.size
    starts = sorted(
        {int(np.searchsorted(fractions, times * enough)) for times in (1.5, 3, 6)} - {len(fractions)}
    )
    passed = [math.inf]
    for start in starts:
        for level in levels[start:].tolist():
            answered = scores >= level
            n, errors = int(answered.sum()), int(wrong[answered].sum())
            # P(at most this many errors | error rate = target)
            if not n or stats.binom.cdf(errors, n, target) > failure / 3:
                break
            passed.append(level)
    words = (
        f"with probability {1 - failure:g} over the calibration questions, at most {target:g} of the "
        "answers given to new questions of their kind are wrong"
        " (Learn then Test, exact binomial)"
    )
    return _threshold(scores, wrong, min(passed), target, words)


def conformal_threshold(confidences: Sequence[float], right: Sequence[bool], *, target: float) -> Threshold:
    """The lowest threshold at which the expected share of questions that are answered and wrong is at most
    `target`.

    Conformal risk control (Angelopoulos et al. 2022, arXiv:2208.02814): the loss "answered and wrong" falls
    with the threshold and is at most 1, so the lowest one with (wrong answers given + 1) / (n + 1) <= target
    has that expectation over calibration and new questions. The share is of all questions, not of those
    answered. Raises InputError on a target outside (0, 1).
    """
    scores, wrong = _checked(confidences, right)
    if not 0 < target < 1:
        raise InputError(f"a target is between 0 and 1; found {target}")
    best = math.inf
    for level in sorted(set(scores.tolist()), reverse=True):
        if (wrong[scores >= level].sum() + 1) / (scores.size + 1) > target:
            break
        best = level
    words = (
        f"in expectation at most {target:g} of all questions are answered and wrong (conformal risk control)"
    )
    return _threshold(scores, wrong, best, target, words)


def _threshold(scores: np.ndarray, wrong: np.ndarray, value: float, target: float, words: str) -> Threshold:
    answered = scores >= value
    error = float(wrong[answered].mean()) if answered.any() else 0.0
    return Threshold(value, target, float(answered.mean()), error, scores.size, words)
