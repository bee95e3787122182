"""What can be changed about the study of opinions."""

from __future__ import annotations

from dataclasses import dataclass

from solon.errors import InputError
from solon.evaluation.opinions import INVENTED_COUNTRIES


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    questions: int = 0
    """drawn by content; 0 takes all"""
    countries: tuple[str, ...] = ()
    """to be asked as someone from there; without any, no cross-national prompting"""
    at_least: int = 10
    """questions that a country has to have answered to be listed"""

    def __post_init__(self) -> None:
        if self.questions < 0 or self.at_least < 2:
            raise InputError("questions is at least 0 and at_least at least 2")


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(questions=150)


def full() -> Settings:
    """All questions; the paper's countries."""
    return Settings(countries=("China", "Russia"))


def toy() -> Settings:
    """All questions of the invented survey, as someone from another invented country would answer."""
    return Settings(countries=INVENTED_COUNTRIES[1:2])
