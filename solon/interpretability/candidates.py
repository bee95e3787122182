"""Candidate rows for influence by TF-IDF over tokens (Grosse et al. 2023, arXiv:2308.03296, equations 28 and
29), and the tail exponent of influences (equation 32).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from solon.errors import InputError
from solon.models.base import Tokens
from solon.statistics.intervals import Estimate


class TfIdfIndex:
    """An index of rows by token. A row's score for a query is the sum of idf(t) = log((C - n_t + 1/2) / (n_t
    + 1/2) + 1) over the query's distinct tokens t in the row, for C rows of which n_t have t. Counts in a row
    and its length have no effect: with a binary tf the paper's factor (k1 + 1) tf / (k1 + tf) is 1 for every
    k1. Raises InputError without rows.
    """

    def __init__(self, rows: Sequence[Tokens]) -> None:
        if not rows:
            raise InputError("an index needs at least one row")
        holding: dict[int, list[int]] = {}
        for index, row in enumerate(rows):
            for token in set(row):
                holding.setdefault(token, []).append(index)
        self.rows = len(rows)
        self.rows_by_token = {token: np.array(indices, dtype=np.int64) for token, indices in holding.items()}

    def scores(self, query: Tokens) -> np.ndarray:
        """The score of every row, (N,). A token in no row adds nothing."""
        scores = np.zeros(self.rows)
        for token in set(query):
            if token in self.rows_by_token:
                count = len(self.rows_by_token[token])
                scores[self.rows_by_token[token]] += math.log((self.rows - count + 0.5) / (count + 0.5) + 1)
        return scores

    def nearest(self, query: Tokens, count: int) -> list[int]:
        """The indices of the `count` rows of highest score, best first; of equals the earlier."""
        scores = self.scores(query)
        return [int(index) for index in np.argsort(-scores, kind="stable")[:count]]


def recall_at_top(chosen: Sequence[int], scores: np.ndarray, *, top: int = 100) -> float:
    """The share of the `top` rows by `scores` that are among the chosen."""
    best = np.argsort(-np.asarray(scores), kind="stable")[:top]
    return len(set(chosen) & set(map(int, best))) / len(best)


def tail_exponent(scores: Sequence[float], *, share: float = 0.01) -> Estimate:
    """The exponent a of P(score > x) = (x / x_min)^-a over the highest `share` of scores, by maximum
    likelihood (Hill 1975), with its asymptotic interval a (1 +- 1.96 / sqrt n). A smaller exponent means that
    fewer rows have most of the influence. Raises InputError on fewer than ten positive scores in that share.

    >>> tail_exponent([2.0 ** (n / 8) for n in range(1000)], share=0.1).n
    99
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64))[::-1]
    high = ordered[: int(len(ordered) * share)]
    high = high[high > 0]
    if not np.isfinite(ordered).all() or len(high) < 10:
        raise InputError(
            f"a tail needs at least ten finite scores above 0 in the highest {share:.2%}; found "
            f"{len(high)} of {len(ordered)}"
        )
    above = np.log(high[:-1] / high[-1])
    value, count = float(1 / above.mean()), len(above)
    half = 1.96 / math.sqrt(count)
    return Estimate(value, value * (1 - half), value * (1 + half), "Hill", count, count)
