"""What can be changed about A General Language Assistant, and its presets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from solon.errors import InputError
from solon.study.settings import TrainingSettings, unpublished


@dataclass(frozen=True, slots=True)
class Settings(TrainingSettings):
    """Every number that can be changed."""

    distil_epochs: float = unpublished(1.0)
    distil_learning_rate: float = unpublished(3e-4)
    """of context distillation, falling linearly to nothing"""
    distil_held_out: int = 100
    """texts that the KL which is left is measured on"""
    depths: tuple[float, ...] = (0.25, 0.5, 1.0)
    """shares of each model's layers that objectives are compared on: sizes"""
    task_rows: int = 1000
    """comparisons of a task that each objective learns from"""
    objective_epochs: float = unpublished(1.0)
    objective_learning_rate: float = unpublished(2e-4)
    sizes: tuple[int, ...] = (100, 500, 1500)
    """people's comparisons that follow the pretraining of preference models; the most of these is what the
    judge of replies learns from
    """
    draws: int = 3
    """of each number of comparisons"""
    pretraining_rows: int = 0
    """public comparisons to pretrain on at the most; 0: all"""
    pretraining_epochs: float = unpublished(1.0)
    pretraining_learning_rate: float = unpublished(2e-4)
    measured: int = 400
    """comparisons to measure with, of each task and of people's, from dialogues of their own"""

    def __post_init__(self) -> None:
        TrainingSettings.__post_init__(self)
        if not self.sizes or min(self.sizes) < 8 or list(self.sizes) != sorted(set(self.sizes)):
            raise InputError(f"sizes must rise from at least 8 comparisons; found {self.sizes}")
        if not self.depths or not all(0 < depth <= 1 for depth in self.depths):
            raise InputError(f"depths are shares of the layers, above 0 and at most 1; found {self.depths}")
        if (
            min(self.draws, self.measured, self.task_rows, self.distil_held_out) < 1
            or self.pretraining_rows < 0
        ):
            raise InputError(
                "draws, measured, task_rows and distil_held_out must be at least 1, pretraining_rows at "
                "least 0"
            )


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(
        batch=16,
        max_tokens=48,
        distil_held_out=24,
        depths=(0.2, 0.35, 0.5),
        task_rows=96,
        sizes=(100, 300),
        draws=1,
        pretraining_rows=100,
        preference_depth=0.4,
        measured=100,
    )


def toy() -> Settings:
    """The same for the toy world's small transformers, which learn faster and need all their weights."""
    return replace(
        quick(),
        weights="full",
        batch=32,
        max_tokens=16,
        distil_epochs=4.0,
        distil_learning_rate=1e-3,
        distil_held_out=200,
        depths=(1.0,),
        task_rows=1600,
        objective_epochs=3.0,
        objective_learning_rate=2e-3,
        sizes=(100, 500, 1500, 10_000),
        draws=2,
        pretraining_rows=0,
        pretraining_epochs=1.0,
        pretraining_learning_rate=2e-3,
        preference_epochs=1.0,
        preference_learning_rate=1e-3,
        preference_depth=1.0,
        measured=400,
    )


def full() -> Settings:
    """The paper's shape."""
    return Settings()
