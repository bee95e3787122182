"""How good a preference model is on comparisons that it never saw (HH-RLHF section 3, which all of this is
from).
"""

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
    """One comparison and what a preference model gave each side, in nats. `turn` counts the human's turns up
    to the replies; `dialogue` names what it is clustered by; `longer` is by how many words the first reply is
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
        return (self.first > self.second) == (self.p_first > 0.5)

    @property
    def confidence(self) -> float:
        """What the model says of its own choice: 1 / (1 + e^-|d|)."""
        return 1 / (1 + math.exp(-abs(self.first - self.second)))


def scored_comparison(comparison: Comparison, first: float, second: float) -> ScoredComparison:
    turns = [turn for turn in comparison.prompt.turns if turn.role == "human"]
    opening = turns[0].text if turns else ""
    longer = len(comparison.first.split()) - len(comparison.second.split())
    return ScoredComparison(first, second, comparison.p_first, len(turns), opening, longer, comparison.axis)


def accuracy(rows: Sequence[ScoredComparison]) -> Estimate:
    """How often the better reply has the higher score, clustered by dialogue."""
    return proportion([row.right for row in rows], clusters=[row.dialogue for row in rows])


def accuracy_difference(first: Sequence[ScoredComparison], second: Sequence[ScoredComparison]) -> Estimate:
    """How much more often the first model is right than the second on the same comparisons, paired and
    clustered by dialogue.
    """
    return paired_difference(
        [float(row.right) for row in first],
        [float(row.right) for row in second],
        clusters=[row.dialogue for row in first],
    )


def accuracy_by_turn(rows: Sequence[ScoredComparison], *, most: int = 4) -> dict[int, Estimate]:
    """Accuracy by the turn compared; the last entry is of that turn and all later ones."""
    groups: dict[int, list[ScoredComparison]] = {}
    for row in rows:
        groups.setdefault(min(row.turn, most), []).append(row)
    return {turn: accuracy(own) for turn, own in sorted(groups.items())}


def bin_count(rows: Sequence[ScoredComparison]) -> int:
    """Ten, or fewer where they would hold under twenty comparisons each."""
    return min(10, max(2, len(rows) // 20))


def calibration_chart(rows: Sequence[ScoredComparison]) -> list[Bin]:
    """Accuracy against stated confidence in equal-count bins: calibrated where it is 1 / (1 + e^-d)."""
    return equal_count_bins(
        [row.confidence for row in rows], [row.right for row in rows], count=bin_count(rows)
    )


def calibration_error(rows: Sequence[ScoredComparison]) -> Estimate:
    """Expected calibration error of the stated confidences over the bins of `calibration_chart`, with an
    interval by cluster bootstrap over dialogues. Resampling adds noise to every bin, so with few comparisons
    the interval is biased upwards.
    """
    count = bin_count(rows)

    def error(places: np.ndarray) -> float:
        some = [rows[int(place)] for place in places]
        return expected_calibration_error(
            [row.confidence for row in some], [row.right for row in some], count=count
        )

    found = bootstrap(
        [float(place) for place in range(len(rows))],
        error,
        clusters=[row.dialogue for row in rows],
        resamples=500,
    )
    return replace(found, low=min(found.low, found.value))


def accuracy_above_quantile(
    rows: Sequence[ScoredComparison], *, shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75)
) -> dict[float, Estimate]:
    """Accuracy among the comparisons of which both sides score above a quantile of all scores: where a policy
    that climbs the model will have to tell replies apart. Quantiles with fewer than ten comparisons above
    them are left out.
    """
    scores = [score for row in rows for score in (row.first, row.second)]
    found = {}
    for share in shares:
        border = -math.inf if share == 0 else float(np.quantile(scores, share))
        high = [row for row in rows if min(row.first, row.second) > border]
        if len(high) >= 10:
            found[share] = accuracy(high)
    return found


def length_correlation(rows: Sequence[ScoredComparison]) -> Estimate | None:
    """Of score differences with differences of length in words, about zero: which side comes first does not
    matter. None where one of them never varies.
    """
    leaning, longer = [row.first - row.second for row in rows], [float(row.longer) for row in rows]
    varied = len(rows) > 3 and len(set(leaning)) > 1 and len(set(longer)) > 1
    return correlation(leaning, longer, origin=True) if varied else None
