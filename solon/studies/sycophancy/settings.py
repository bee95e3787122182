"""What can be changed about the study of sycophancy."""

from __future__ import annotations

from dataclasses import dataclass, replace

from solon.errors import InputError
from solon.study.settings import paper


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    problems: int = 300
    """of multiple choice, drawn by content"""
    max_tokens: int = 128
    """of a reply"""
    best_of: tuple[int, ...] = paper(
        (1, 2, 4, 8, 16, 32), "numbers of replies that the preference model chooses from"
    )
    """replies that the preference model chooses from"""
    scales: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
    """of the Laplace prior; the one that makes a held-out fifth of the preferences likeliest is used"""
    draws: int = paper(6000, "draws of the posterior in each chain", default=1000)
    """of the posterior, in each of four chains"""

    def __post_init__(self) -> None:
        few = min(self.problems, self.max_tokens) < 1 or self.draws < 50
        if few or not self.scales or min(self.scales) <= 0:
            raise InputError("problems and max_tokens are at least 1, draws at least 50, scales above 0")
        if not self.best_of or list(self.best_of) != sorted(set(self.best_of)) or self.best_of[0] < 1:
            raise InputError(f"best_of rises from 1 or more; found {self.best_of}")


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(problems=60, max_tokens=48, best_of=(1, 2, 4, 8), draws=400)


def full() -> Settings:
    """The paper's shape."""
    return Settings(draws=6000)


def toy() -> Settings:
    """All problems of the scripted flatterer."""
    return replace(quick(), problems=200, best_of=(1, 2, 4, 8, 16))
