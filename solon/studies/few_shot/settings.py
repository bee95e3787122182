"""What can be changed about the study of few examples."""

from __future__ import annotations

from dataclasses import dataclass

from solon.errors import InputError
from solon.studies.few_shot.scoring import SCORINGS


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    shots: tuple[int, ...] = (0, 1, 32)
    """worked examples before each problem"""
    draws: int = 1
    """different sets of examples for each number of them above 0"""
    problems: int = 0
    """of each task, drawn by content; 0 takes all"""
    scoring: str = "per token"
    """the score that claims are about: sum, per token, per character or over unconditional; all are in the
    tables
    """

    def __post_init__(self) -> None:
        if not self.shots or list(self.shots) != sorted(set(self.shots)) or self.shots[0] < 0:
            raise InputError(f"shots must rise from 0 or more; found {self.shots}")
        if self.scoring not in SCORINGS or self.draws < 1 or self.problems < 0:
            raise InputError(
                f"scoring is one of {', '.join(SCORINGS)}, draws at least 1, problems at least 0; found "
                f"{self.scoring!r}"
            )


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(shots=(0, 1, 5), problems=100)


def full() -> Settings:
    """The paper's shape."""
    return Settings(draws=3)


def toy() -> Settings:
    """The planted world, where four examples teach all there is."""
    return Settings(shots=(0, 1, 4))
