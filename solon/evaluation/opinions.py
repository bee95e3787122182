"""Whose opinions a model's answers resemble (Durmus et al. 2023, arXiv:2306.16388)."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from solon.errors import InputError
from solon.evaluation.measure import Outcome
from solon.statistics import Estimate, mean

BASE = 2  # of the logarithm: disjoint answers then have similarity 0


def similarity(first: Sequence[float], second: Sequence[float]) -> float:
    """1 - the Jensen-Shannon distance in base 2: the root of the divergence, so 1 for equal distributions and 0 for disjoint ones.

    Raises InputError where either is no distribution over the same options.

    >>> similarity([0.5, 0.5], [0.5, 0.5]), similarity([1.0, 0.0], [0.0, 1.0])
    (1.0, 0.0)
    """
    p, q = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if p.shape != q.shape or not p.size:
        raise InputError(f"similarity needs two distributions over the same options; found {p.size} and {q.size}")
    if any(abs(own.sum() - 1) > 1e-6 or not (own >= 0).all() for own in (p, q)):
        raise InputError(f"similarity needs distributions that add up to 1; found {p.sum():.4f} and {q.sum():.4f}")
    middle = (p + q) / 2

    def divergence(own: np.ndarray) -> float:
        held = own > 0
        return float((own[held] * np.log2(own[held] / middle[held])).sum())

    return 1.0 - float(np.sqrt(max(0.0, (divergence(p) + divergence(q)) / 2)))


def entropy(shares: Sequence[float]) -> float:
    """In bits.

    >>> entropy([0.5, 0.5])
    1.0
    """
    p = np.asarray(shares)
    return -float((p[p > 0] * np.log2(p[p > 0])).sum()) + 0.0


def by_country(rows: Sequence[Outcome], *, at_least: int = 10) -> tuple[dict[str, Estimate], int]:
    """The mean similarity to each country over the questions that it answered, t intervals over questions, and how many countries were left out
    for fewer than `at_least` questions. Most similar first.
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        for country, shares in json.loads(row.tags["shares"]).items():
            found.setdefault(country, []).append(similarity(row.belief, shares))
    kept = {country: mean(values) for country, values in found.items() if len(values) >= at_least}
    return dict(sorted(kept.items(), key=lambda item: -item[1].value)), len(found) - len(kept)


def peaked(rows: Sequence[Outcome]) -> Estimate:
    """How peaked the model's answers are: its entropy over that of the countries (mean by question), as a mean ratio; 1 is as spread as people."""
    ratios = []
    for row in rows:
        people = float(np.mean([entropy(shares) for shares in json.loads(row.tags["shares"]).values()]))
        if people > 0:
            ratios.append(entropy(row.belief) / people)
    if not ratios:
        raise InputError("no question on which the countries differ in themselves")
    return mean(ratios)
