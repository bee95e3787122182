"""What can be changed about the study of moral self-correction."""

from __future__ import annotations

from dataclasses import dataclass

from solon.errors import InputError
from solon.study.settings import paper


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    questions: int = 0
    """of each bias set, drawn by template; 0 takes all"""
    students: int = 200
    """made-up applicants, each asked about twice"""
    thought_tokens: int = paper(256, "tokens of reasoning at most")
    """of a chain of thought"""
    thoughts: bool = True
    """ask with reasoning too; its sampling takes most of the time"""

    def __post_init__(self) -> None:
        if self.questions < 0 or min(self.students, self.thought_tokens) < 1:
            raise InputError("questions is at least 0, students and thought_tokens at least 1")


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(questions=120, students=30, thought_tokens=48)


def full() -> Settings:
    """The paper's shape."""
    return Settings(students=2000)
