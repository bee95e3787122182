"""How `solon knows` fits and decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from solon.errors import InputError
from solon.evaluation.knowledge import Method

By = Literal["p_ik", "p_true", "likelihood"]
NAMES: dict[By, str] = {
    "p_ik": "P(IK)",
    "p_true": "P(True) of the greedy answer",
    "likelihood": "likelihood of the greedy answer",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """How a head is fitted and a threshold found."""

    target: float = 0.1
    """the share of the answers given that may be wrong"""
    failure: float = 0.05
    """the chance, over calibration questions, that the guarantee does not hold"""
    by: By = "p_ik"
    """what decides whether to answer"""
    method: Method = "probe"
    """how P(IK) is trained: probe (the head on frozen states), lora (adapters and head), full (the whole
    model)
    """
    samples: int = 30
    shots: int = 8
    """worked examples, drawn from the questions and then not used otherwise"""
    ideas: int = 5
    """samples shown before P(True) is asked"""
    depth: float = 1.0
    batch: int = 32
    epochs: float = 4.0
    learning_rate: float = 1e-4
    rank: int = 16
    limit: int = 0
    """questions, drawn by seed; 0 takes all"""

    def __post_init__(self) -> None:
        if not 0 < self.target < 1 or not 0 < self.failure < 1:
            raise InputError(
                f"target and failure lie between 0 and 1; found {self.target} and {self.failure}"
            )
        if self.shots < 0 or self.limit < 0:
            raise InputError(f"shots and limit are at least 0; found {self.shots} and {self.limit}")
        if self.samples < 2 or not 0 <= self.ideas <= self.samples:
            raise InputError(
                f"at least 2 samples are needed, and as many as ideas; found {self.samples} and {self.ideas}"
            )
