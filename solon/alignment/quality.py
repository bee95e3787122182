"""The quality of a preference model on held-out comparisons (HH-RLHF, arXiv:2204.05862, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from solon.statistics.calibration import Bin, equal_count_bins, expected_calibration_error
from solon.statistics.intervals import Estimate, bootstrap, correlation, paired_difference, proportion
from solon.words.comparison import Comparison


@dataclass(frozen=True, slots=True)
class ScoredComparison:
    """One comparison with a preference model's scores of both sides (nats). `turn` is the number of human
    turns in the prompt, `dialogue` the cluster, and `longer` the number of words by which the first reply is
    longer.
    """

    first: float
    second: float
    p_first: float
    turn: int
    dialogue: str
    longer: int
    axis: str

    @property
    def right(self) -> bool:
        """Whether the model prefers the reply that the label prefers."""
        return (self.first > self.second) == (self.p_first > 0.5)

    @property
    def confidence(self) -> float:
        """The model's probability of its preferred reply: 1 / (1 + e^-|d|)."""
        return 1 / (1 + math.exp(-abs(self.first - self.second)))


def scored_comparison(comparison: Comparison, first: float, second: float) -> ScoredComparison:
    """A comparison with the scores of both sides, clustered by the first human turn."""
    turns = [turn for turn in comparison.prompt.turns if turn.role == "human"]
    opening = turns[0].text if turns else ""
    longer = len(comparison.first.split()) - len(comparison.second.split())
    return ScoredComparison(first, second, comparison.p_first, len(turns), opening, longer, comparison.axis)


def accuracy(rows: Sequence[ScoredComparison]) -> Estimate:
    """The share of comparisons whose better reply has the higher score, clustered by dialogue."""
    return proportion([row.right for row in rows], clusters=[row.dialogue for row in rows])


def accuracy_difference(first: Sequence[ScoredComparison], second: Sequence[ScoredComparison]) -> Estimate:
    """The accuracy of the first model minus that of the second on the same comparisons, paired and clustered
    by dialogue.
    """
    return paired_difference(
        [float(row.right) for row in first],
        [float(row.right) for row in second],
        clusters=[row.dialogue for row in first],
    )


def accuracy_by_turn(rows: Sequence[ScoredComparison], *, most: int = 4) -> dict[int, Estimate]:
    """Accuracy by turn; the entry of turn `most` includes all later turns."""
    groups: dict[int, list[ScoredComparison]] = {}
    for row in rows:
        groups.setdefault(min(row.turn, most), []).append(row)
    return {turn: accuracy(members) for turn, members in sorted(groups.items())}


def bin_count(rows: Sequence[ScoredComparison]) -> int:
    """Ten, or fewer where bins would have under twenty comparisons each, and at least two."""
    return min(10, max(2, len(rows) // 20))


def calibration_chart(rows: Sequence[ScoredComparison]) -> list[Bin]:
    """Accuracy by confidence in equal-count bins; a calibrated model's accuracy equals its confidence."""
    return equal_count_bins(
        [row.confidence for row in rows], [row.right for row in rows], count=bin_count(rows)
    )


def calibration_error(rows: Sequence[ScoredComparison]) -> Estimate:
    """Expected calibration error of the stated confidences over the bins of `calibration_chart`, with an
    interval by cluster bootstrap over dialogues. Resampling adds noise to every bin, so with few comparisons
    the interval is biased upwards.
    """
    count = bin_count(rows)

    def error(indices: np.ndarray) -> float:
        sample = [rows[int(index)] for index in indices]
        return expected_calibration_error(
            [row.confidence for row in sample], [row.right for row in sample], count=count
        )

    estimate = bootstrap(
        [float(index) for index in range(len(rows))],
        error,
        clusters=[row.dialogue for row in rows],
        resamples=500,
    )
    return replace(estimate, low=min(estimate.low, estimate.value))


def accuracy_above_quantile(
    rows: Sequence[ScoredComparison], *, shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75)
) -> dict[float, Estimate]:
    """Accuracy among comparisons whose sides both score above a quantile of all scores, where a trained
    policy's replies lie. Quantiles with fewer than ten such comparisons are left out.
    """
    scores = [score for row in rows for score in (row.first, row.second)]
    accuracies = {}
    for share in shares:
        border = -math.inf if share == 0 else float(np.quantile(scores, share))
        high = [row for row in rows if min(row.first, row.second) > border]
        if len(high) >= 10:
            accuracies[share] = accuracy(high)
    return accuracies


def length_correlation(rows: Sequence[ScoredComparison]) -> Estimate | None:
    """The correlation of score differences with differences of length in words, about zero, so that the order
    of sides does not matter. None where one of them is constant.
    """
    leaning, longer = [row.first - row.second for row in rows], [float(row.longer) for row in rows]
    varied = len(rows) > 3 and len(set(leaning)) > 1 and len(set(longer)) > 1
    return correlation(leaning, longer, origin=True) if varied else None
