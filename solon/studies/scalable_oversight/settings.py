"""What can be changed about the study of scalable oversight."""

from __future__ import annotations

from dataclasses import dataclass, replace

from solon.errors import InputError
from solon.study.settings import paper


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    questions: int = paper(100, "questions of a condition")
    """drawn by content"""
    participants: int = 5
    """simulated ones: one weak model with seeds of its own"""
    turns: int = 3
    """messages to the assistant before a simulated participant answers"""
    shots: int = paper(5, "worked examples before the assistant's second try")
    """worked examples in the assistant's own second try"""
    best_of: int = paper(20, "chains of thought of which the judge chooses one")
    """chains of thought of which the judge chooses one; 0: none"""
    max_tokens: int = 128
    """of a message, a reply, and a chain of thought"""

    def __post_init__(self) -> None:
        positive = min(self.questions, self.participants, self.turns, self.max_tokens)
        if positive < 1 or min(self.shots, self.best_of) < 0:
            raise InputError(
                "questions, participants, turns and max_tokens are at least 1, shots and best_of at least 0"
            )


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(questions=30, participants=2, turns=1, best_of=3, max_tokens=32)


def full() -> Settings:
    """The paper's shape."""
    return Settings()


def toy() -> Settings:
    """All questions of the scripted models."""
    return replace(full(), questions=200, best_of=8, turns=1, shots=0)
