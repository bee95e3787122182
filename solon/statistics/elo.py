"""Elo ratings by maximum likelihood, with intervals (HH-RLHF, arXiv:2204.05862, appendix B.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats
from scipy.sparse.csgraph import connected_components

from solon.errors import InputError

ELO_PER_NAT = 400 / math.log(10)  # 173.7: a preference-model score difference of 1 nat, in Elo


def win_rate(elo_difference: float) -> float:
    """The probability that the side ahead by `elo_difference` wins: 1 / (1 + 10^(-difference / 400)).

    >>> round(win_rate(400), 3)
    0.909
    """
    return 1 / (1 + 10 ** (-elo_difference / 400))


@dataclass(frozen=True, slots=True)
class Rating:
    """A player's Elo relative to the reference, its interval, and how many games it played. The reference is
    0 by definition and has no error.
    """

    elo: float
    low: float
    high: float
    games: float


def elo_ratings(
    wins: Mapping[tuple[str, str], float], *, reference: str, ties: float = 0.0, level: float = 0.95
) -> dict[str, Rating]:
    """Maximum-likelihood Elo (the Bradley-Terry model) from `wins[winner, loser]`. Intervals are normal, from
    the Fisher information.

    Counts may be fractions, such as a judge's probabilities. "Unsure" votes are not games and are left out;
    `ties` says how many, for the error message alone. Raises InputError where the likelihood has no finite
    maximum: a group of players that never lost to the others, or never met them.
    """
    players = sorted({player for pair in wins for player in pair} | {reference})
    if reference not in {player for pair in wins for player in pair}:
        raise InputError(
            f"the reference {reference!r} played no game; players are {players}, {ties:g} ties were left out"
        )
    index = {player: number for number, player in enumerate(players)}
    won = np.zeros((len(players), len(players)))
    for (winner, loser), count in wins.items():
        if winner == loser or count < 0:
            raise InputError(
                f"wins must be non-negative counts between two players; found {count} for {winner!r} over "
                f"{loser!r}"
            )
        won[index[winner], index[loser]] += count
    parts, _ = connected_components(won > 0, connection="strong")
    if parts > 1:
        raise InputError(
            "Elo has no finite maximum: some group of players never lost to, or never met, the rest"
        )
    free = [number for player, number in index.items() if player != reference]

    def negative_log_likelihood(scores: np.ndarray) -> float:
        r = np.zeros(len(players))
        r[free] = scores
        return float((won * np.logaddexp(0.0, r[None, :] - r[:, None])).sum())

    fitted = optimize.minimize(
        negative_log_likelihood, np.zeros(len(free)), method="BFGS", options={"gtol": 1e-8}
    )
    r = np.zeros(len(players))
    r[free] = fitted.x
    error = np.zeros(len(players))
    error[free] = np.sqrt(np.diag(np.linalg.inv(_information(won, r)[np.ix_(free, free)])))
    games = won.sum(axis=0) + won.sum(axis=1)
    z = float(stats.norm.ppf(0.5 + level / 2))
    rows = zip(players, r * ELO_PER_NAT, error * ELO_PER_NAT * z, games, strict=True)
    return {
        player: Rating(float(elo), float(elo - e), float(elo + e), float(count))
        for player, elo, e, count in rows
    }


def _information(won: np.ndarray, r: np.ndarray) -> np.ndarray:
    """The Fisher information of the scores: each game adds p(1 - p) to its two players."""
    p = 1 / (1 + np.exp(r[None, :] - r[:, None]))
    weight = (won + won.T) * p * (1 - p)
    return np.asarray(np.diag(weight.sum(axis=1)) - weight)


def win_counts(pairs: Sequence[tuple[str, str, float]]) -> dict[tuple[str, str], float]:
    """`wins[winner, loser]` from rows (first, second, p_first). Each row is one game, of which `p_first`
    counts as won by the first.
    """
    wins: dict[tuple[str, str], float] = {}
    for first, second, p_first in pairs:
        wins[first, second] = wins.get((first, second), 0.0) + p_first
        wins[second, first] = wins.get((second, first), 0.0) + 1 - p_first
    return wins
