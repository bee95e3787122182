"""What A General Language Assistant needs: its settings, its presets, and what it works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from solon.errors import InputError
from solon.models.torch_model import TorchModel
from solon.study.settings import TrainingSettings
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation


@dataclass(frozen=True, slots=True)
class Settings(TrainingSettings):
    """Every number that can be changed. Those that the paper leaves unpublished are named in the report."""

    distil_epochs: float = 1.0
    distil_learning_rate: float = 3e-4
    """of context distillation, falling linearly to nothing"""
    distil_held_out: int = 100
    """texts that the KL which is left is measured on"""
    depths: tuple[float, ...] = (0.25, 0.5, 1.0)
    """shares of each model's layers that objectives are compared on: sizes"""
    task_rows: int = 1000
    """comparisons of a task that each objective learns from"""
    objective_epochs: float = 1.0
    objective_learning_rate: float = 2e-4
    sizes: tuple[int, ...] = (100, 500, 1500)
    """people's comparisons that follow the pretraining of preference models; the most of these is what the
    judge of replies learns from
    """
    draws: int = 3
    """of each number of comparisons"""
    pretraining_rows: int = 0
    """public comparisons to pretrain on at the most; 0: all"""
    pretraining_epochs: float = 1.0
    pretraining_learning_rate: float = 2e-4
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


@dataclass(frozen=True, slots=True)
class Task:
    """Comparisons of one kind: `ranked` where replies are better and worse by degrees, else right and
    wrong.
    """

    name: str
    ranked: bool
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the study works on. `models` rise in size; the last is the one that is distilled, and that
    preference models stand on. `texts` are distilled on; without them, the replies of the prompted model to
    `prompts` are. `worth`, where there is one, is the truth of a reply to a held-out prompt; without it a
    preference model of people's comparisons says.
    """

    models: tuple[TorchModel, ...]
    context: Conversation
    texts: tuple[tuple[Conversation, str], ...]
    prompts: tuple[Conversation, ...]
    held_out: tuple[Conversation, ...]
    tasks: tuple[Task, ...]
    public: tuple[Comparison, ...]
    human: tuple[Comparison, ...]
    worth: Callable[[Conversation, str], float] | None = None
    counts: tuple[tuple[str, int], ...] = ()
