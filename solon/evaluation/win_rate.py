"""Win rates of one model over another on the same prompts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from solon.errors import InputError
from solon.statistics.intervals import Estimate, mean, wilson


@dataclass(frozen=True, slots=True)
class WinRate:
    """The first model's win rate with ties counting half, the number of ties, and its rate on each prompt."""

    rate: Estimate
    ties: int
    per_prompt: tuple[float, ...]


def paired_win_rate(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    *,
    clusters: Sequence[Hashable] | None = None,
) -> WinRate:
    """The win rate by scores: `first[i][j]` is the score of the first model's j-th reply to prompt i, and
    each pair of replies to a prompt is one comparison.

    Comparisons are averaged by prompt, and the t interval is over prompts; with `clusters` (the dialogue of
    each prompt) it is cluster-robust. Raises InputError unless both models have a reply to every prompt.

    >>> print(paired_win_rate([[1.0], [2.0], [3.0]], [[0.0], [2.0], [1.0]]).rate)
    0.833 [0.116, 1.000] (n=3, t over prompts)
    """
    if len(first) != len(second) or not first:
        raise InputError(f"a duel needs the same prompts on both sides; found {len(first)} and {len(second)}")
    if any(not scores or not other_scores for scores, other_scores in zip(first, second, strict=True)):
        raise InputError(
            "a duel needs at least one scored reply of each model to each prompt; count the others apart"
        )
    shares, ties = [], 0
    for scores, other_scores in zip(first, second, strict=True):
        games = [0.5 if a == b else float(a > b) for a in scores for b in other_scores]
        ties += sum(game == 0.5 for game in games)
        shares.append(sum(games) / len(games))
    return WinRate(_rate(shares, clusters), ties, tuple(shares))


def win_rate_of_labels(p_first: Sequence[float]) -> WinRate:
    """The win rate by a judge's probability, for each prompt, that the first model's reply is better."""
    return WinRate(_rate(p_first), sum(p == 0.5 for p in p_first), tuple(p_first))


def _rate(shares: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Estimate:
    """The mean share with its t interval, cut to [0, 1]; Wilson's interval where all shares are equal."""
    if len(set(shares)) == 1:
        return wilson(sum(shares), len(shares))
    estimate = mean(list(shares), clusters=clusters)
    return Estimate(
        estimate.value,
        max(0.0, estimate.low),
        min(1.0, estimate.high),
        f"{estimate.method} over prompts",
        estimate.n,
        estimate.clusters,
    )
