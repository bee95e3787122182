"""Two models on the same prompts: who wins, paired, with an interval."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from solon.errors import InputError
from solon.statistics.intervals import Estimate, mean, wilson


@dataclass(frozen=True, slots=True)
class WinRate:
    """The rate at which the first wins, ties counting half, and what each prompt gave it."""

    rate: Estimate
    ties: int
    per_prompt: tuple[float, ...]


def paired_win_rate(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    *,
    clusters: Sequence[Hashable] | None = None,
) -> WinRate:
    """`first[i][j]` is the score of the first model's j-th reply to prompt i; each pair of replies to a
    prompt is one game.

    A prompt's games are averaged, and the t interval runs over prompts; with `clusters` (the dialogue that
    each prompt comes from) its error is robust to prompts of one dialogue going the same way.

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
    """The same from a judge's probabilities that the first model's reply is better, one a prompt; a belief
    counts as a share of a win.
    """
    return WinRate(_rate(p_first), sum(p == 0.5 for p in p_first), tuple(p_first))


def _rate(shares: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Estimate:
    """The mean share with its t interval, cut to [0, 1]; where all prompts agree there is no spread, and
    Wilson's is used.
    """
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
