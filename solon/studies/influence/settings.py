"""What can be changed about the study of influence functions."""

from __future__ import annotations

from dataclasses import dataclass

from solon.errors import InputError
from solon.study.settings import paper, unpublished


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    seeds: int = paper(10, "networks on digits", default=3)
    """networks on digits"""
    rows: int = 500
    """digits that each learns from"""
    questions: int = 10
    """digits that it is asked"""
    points: int = paper(500, "rows whose proximal response is solved for", default=40)
    """rows whose proximal response is solved for"""
    subsets: int = unpublished(60)
    """halves of the rows that are trained on alone"""
    starts: int = unpublished(3)
    """trainings of each half"""
    sequences: int = unpublished(400)
    """of the small language model"""
    queries: int = unpublished(8)
    """of it"""
    ranks: tuple[int, ...] = (1, 2, 4, 8, 16)
    """of the queries' gradients"""

    def __post_init__(self) -> None:
        if (
            min(self.seeds, self.points, self.starts, self.queries) < 1
            or min(self.rows, self.sequences) < 100
            or self.questions < 3
            or self.subsets < 10
        ):
            raise InputError(
                "seeds, points, starts and queries are at least 1, questions 3, subsets 10, rows and "
                "sequences 100"
            )
        if (
            self.points > self.rows
            or self.rows + self.questions > 1797
            or list(self.ranks) != sorted(set(self.ranks))
            or self.ranks[:1] < (1,)
        ):
            raise InputError("points are among the rows, there are 1,797 digits, and ranks rise from 1")


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(rows=300, points=10, subsets=30, starts=2, sequences=200, queries=6)


def full() -> Settings:
    """The numbers that the thresholds were set with."""
    return Settings()
