"""What can be changed about the study of self-knowledge, and its presets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from solon.errors import InputError
from solon.evaluation.knowledge import Method
from solon.study.outcomes import Form
from solon.study.settings import paper, unpublished


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    samples: int = paper(30, "samples of each question")
    """replies to each question at temperature 1; the share of them that is right is the truth of P(IK)"""
    shots: int = 10
    """worked examples before each question with a free reply"""
    choice_shots: int = 0
    """the same before multiple choice"""
    ideas: int = unpublished(5)
    """samples that are shown where P(True) is asked after brainstorming, the judged one among them"""
    judged_shots: int = unpublished(20)
    """judged samples of other questions, shown where P(True) is asked with examples from the task itself"""
    questions: int = 1000
    """of each task, drawn by seed"""
    choices: int = 2000
    """multiple-choice problems of each set, drawn by seed"""
    hidden_options: bool = False
    """do not list options in multiple choice, and score each as it stands"""
    form: Form = "auto"
    method: Method = paper("full", "method of training P(IK) (section 5)")
    """how P(IK) is trained: probe (the head on frozen states), lora (adapters and head), full (the paper's)
    """
    depth: float = unpublished(1.0)
    """the share of the layers that P(IK) is read after"""
    batch: int = unpublished(256)
    epochs: float = unpublished(2.0)
    learning_rate: float = unpublished(1e-5)
    """of P(IK)'s training where it is no probe"""
    rank: int = unpublished(16)
    hard_copies: bool = False
    """each sample a row of its own, as the paper has it, instead of one soft row a question"""
    threshold: float = unpublished(0.5)
    """a question counts as known where more than this share of samples is right"""

    def __post_init__(self) -> None:
        if min(self.samples, self.ideas) < 2 or self.ideas > self.samples:
            raise InputError(
                "at least 2 samples and ideas are needed, and as many samples as ideas; found "
                f"{self.samples} and {self.ideas}"
            )
        if not 0 < self.threshold < 1 or min(self.batch, self.rank) < 1:
            raise InputError("threshold lies between 0 and 1; batch and rank are at least 1")
        if self.questions < 16 or min(self.shots, self.choice_shots, self.judged_shots) < 0:
            raise InputError(
                "at least 16 questions of a task are needed, and no number of examples is below 0"
            )


def quick() -> Settings:
    """Minutes on two cores: fewer questions, and a probe."""
    return Settings(questions=120, choices=150, judged_shots=8, method="probe")


def toy() -> Settings:
    """For the toy world's model, which speaks no letters before options and knows no examples."""
    return replace(
        quick(),
        shots=0,
        judged_shots=0,
        questions=1000,
        choices=1000,
        hidden_options=True,
        form="dialogue",
        method="full",
        batch=32,
        epochs=20.0,
        learning_rate=1e-3,
    )


def full() -> Settings:
    """The paper's shape."""
    return Settings()
