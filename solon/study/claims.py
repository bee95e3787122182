"""How studies show what they found: verdicts, shares, intervals in words, curves with bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from solon.records.report import Line, number
from solon.statistics.intervals import Estimate, mean, proportion


def sign(estimate: Estimate, border: float = 0.0) -> bool | None:
    """Whether a number is shown to be above a border, below it, or neither."""
    return True if estimate.low > border else False if estimate.high < border else None


def exactly(value: float, method: str, count: int) -> Estimate:
    """A number without an interval; `method` says how it came to be ("counted", "exact").

    >>> exactly(3, "counted", 20).low
    3
    """
    return Estimate(value, value, value, method, count, count)


def interval(estimate: Estimate | None) -> str:
    return (
        "not measured"
        if estimate is None
        else f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"
    )


def rate(right: Sequence[float], dialogues: Sequence[str]) -> Estimate:
    """A mean share with its cluster-robust interval, cut to [0, 1]; where all agree there is no spread, and
    Wilson's is used.
    """
    if len(set(right)) == 1 and right[0] in (0.0, 1.0):
        return proportion([bool(own) for own in right], clusters=dialogues)
    found = mean(list(right), clusters=dialogues)
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))


def banded(label: str, x: Sequence[float], estimates: Sequence[Estimate]) -> Line:
    """A curve of estimates with their intervals."""
    return Line(
        label,
        tuple(x),
        tuple(e.value for e in estimates),
        tuple(e.low for e in estimates),
        tuple(e.high for e in estimates),
    )
