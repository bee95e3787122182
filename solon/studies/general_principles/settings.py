"""What can be changed about the study of specific and general principles, and its presets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from solon.errors import InputError
from solon.study.settings import RLSettings, paper, unpublished


@dataclass(frozen=True, slots=True)
class Settings(RLSettings):
    """Every number that can be changed. Those that the paper leaves unpublished are named in the report."""

    policy_steps: int = paper(500, "steps of reinforcement", default=200)
    kl_coefficient: float = unpublished(0.001)
    """of the KL summed over the reply, in nats, inside the reward"""
    questions_each: int = unpublished(200)
    """questions of each trait, the seeds among them; the rest are written by a model"""
    shots: int = unpublished(5)
    """seed questions that it is shown"""
    question_tokens: int = 40
    """the longest question"""
    held_out_each: int = paper(13, "held-out questions of each trait")
    """questions of each trait that are only measured on"""
    pairs_each: int = unpublished(4)
    """pairs of replies to each question"""
    evaluation_samples: int = paper(17, "replies to each held-out question")
    """replies to each held-out question"""
    persona_rows: int = 0
    """rows of each persona set that are drawn; 0: all"""
    snapshots: tuple[int, ...] = (25, 50, 100)
    """steps of reinforcement after which the policy is measured too; those over policy_steps are left out"""

    def __post_init__(self) -> None:
        RLSettings.__post_init__(self)
        names = ("questions_each", "shots", "question_tokens", "held_out_each", "pairs_each")
        if min(getattr(self, name) for name in (*names, "evaluation_samples")) < 1:
            raise InputError(f"{', '.join(names)} and evaluation_samples must be at least 1")
        if self.questions_each < 2 * self.held_out_each:
            raise InputError(
                f"{self.questions_each} questions of a trait do not leave half of them to learn from "
                f"beside {self.held_out_each} held out"
            )
        if self.persona_rows < 0:
            raise InputError("persona_rows must not be below 0")
        if any(step < 1 for step in self.snapshots):
            raise InputError(f"snapshots are steps, from 1; found {self.snapshots}")


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(
        batch=16,
        max_tokens=32,
        preference_depth=0.5,
        method="rloo",
        policy_steps=8,
        policy_prompts=8,
        policy_epochs=1,
        policy_learning_rate=5e-4,
        questions_each=16,
        held_out_each=4,
        pairs_each=2,
        evaluation_samples=2,
        persona_rows=100,
        snapshots=(2, 4),
    )


def toy() -> Settings:
    """The same for the toy world's small transformer, which learns faster and needs all its weights."""
    return replace(
        quick(),
        weights="full",
        batch=32,
        max_tokens=14,
        preference_epochs=4.0,
        preference_learning_rate=1e-3,
        preference_depth=1.0,
        policy_steps=40,
        policy_prompts=16,
        policy_learning_rate=3e-4,
        kl_coefficient=0.05,
        questions_each=80,
        held_out_each=13,
        question_tokens=12,
        pairs_each=6,
        evaluation_samples=4,
        snapshots=(5, 10, 20),
    )


def full() -> Settings:
    """The paper's shape: 65 held-out questions with 17 replies each, several snapshots."""
    return Settings()
