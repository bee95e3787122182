"""What can be changed about the main job, and its presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from solon.errors import InputError
from solon.study.settings import RLSettings, paper, unpublished


@dataclass(frozen=True, slots=True)
class Settings(RLSettings):
    """What can be changed about the job. Learning rates are for adapters; whole weights want about a
    tenth.
    """

    rounds: int = paper(4, "critique-revision rounds")
    """critique-revision pairs for each prompt"""
    critique: bool = paper(True, "a critique before each revision")
    """whether a critique comes before each revision"""
    examples: int = paper(5, "worked examples before a critique")
    """worked conversations shown before each critique and revision"""
    draft_temperature: float = paper(1.0, "temperature of drafts, critiques, revisions and helpful replies")
    """of the drafts, critiques, revisions and helpful replies that the supervised model learns; all later
    replies are drawn at 1
    """
    label: Literal["multiple_choice", "reasoned", "contrastive"] = "multiple_choice"
    """how AI feedback is asked for; contrastive is ours, for models that cannot read letters"""
    clamp: tuple[float, float] = (0.0, 1.0)
    """bounds on AI labels, a view: 0.4 0.6 is the paper's for reasoned ones"""
    supervised_epochs: float = paper(1.0, "epochs of the supervised stage")
    supervised_learning_rate: float = unpublished(3e-4)
    held_out_labels: Literal["people", "both"] = "people"
    """where there are people's comparisons: whether the held-out preference model learns from them alone or
    from AI labels too
    """
    evaluation_samples: int = paper(17, "replies to each held-out prompt")
    """replies to each held-out prompt; the gallery shows the median one"""

    def __post_init__(self) -> None:
        RLSettings.__post_init__(self)
        low, high = self.clamp
        if not 0 <= low <= 0.5 <= high <= 1:
            raise InputError(f"clamp must hold one half, 0 <= low <= 0.5 <= high <= 1; found {low} {high}")
        if self.draft_temperature < 0:
            raise InputError(
                f"draft_temperature is 0 (the likeliest token) or above; found {self.draft_temperature}"
            )
        if min(self.rounds, self.evaluation_samples) < 1:
            raise InputError("rounds and evaluation_samples must be at least 1")


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(
        rounds=2,
        examples=1,
        max_tokens=48,
        draft_temperature=0.7,
        label="contrastive",
        batch=16,
        preference_depth=0.6,
        method="rloo",
        policy_steps=8,
        policy_prompts=6,
        policy_samples=4,
        policy_epochs=1,
        policy_learning_rate=5e-4,
        evaluation_samples=2,
    )


def full() -> Settings:
    """The paper's shape: four rounds, five examples, PPO, the median of 17."""
    return Settings()
