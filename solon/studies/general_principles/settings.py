"""What Specific versus General Principles needs: its settings, its presets, and what it works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from solon.alignment.feedback import ReplyPair
from solon.errors import InputError
from solon.models.torch_model import TorchModel
from solon.studies.general_principles.traits import Persona, Traits
from solon.study.settings import RLSettings
from solon.words.comparison import Comparison
from solon.words.constitution import Constitution
from solon.words.conversation import Conversation


@dataclass(frozen=True, slots=True)
class Settings(RLSettings):
    """Every number that can be changed. Those that the paper leaves unpublished are named in the report."""

    questions_each: int = 200
    """questions of each trait, the seeds among them; the rest are written by a model"""
    shots: int = 5
    """seed questions that it is shown"""
    question_tokens: int = 40
    """the longest question"""
    held_out_each: int = 13
    """questions of each trait that are only measured on"""
    pairs_each: int = 4
    """pairs of replies to each question"""
    evaluation_samples: int = 17
    """replies to each held-out question"""
    persona_rows: int = 0
    """rows of each persona set that are drawn; 0: all"""
    snapshots: tuple[int, ...] = (25, 50, 100)
    """steps of reinforcement after which the policy is measured too; those over policy_steps are left out"""

    def __post_init__(self) -> None:
        RLSettings.__post_init__(self)
        if (
            min(
                self.questions_each,
                self.shots,
                self.question_tokens,
                self.held_out_each,
                self.pairs_each,
                self.evaluation_samples,
            )
            < 1
        ):
            raise InputError(
                "questions_each, shots, question_tokens, held_out_each, pairs_each and evaluation_samples "
                "must be at least 1"
            )
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


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the study works on. `compare` labels pairs under a constitution; `ask` makes the prompt that a
    model writes a question of a trait from; `helpful` prompts are practised on and `helpful_held_out` ones
    say whether a policy became evasive; people's `comparisons` are what the third preference model learns
    besides.
    """

    model: TorchModel
    writer: TorchModel
    traits: Traits
    compare: Callable[[Sequence[ReplyPair], Constitution], list[Comparison]]
    judge: str
    judge_key: str
    ask: Callable[[str, tuple[str, ...]], Conversation]
    personas: tuple[Persona, ...]
    red_team: tuple[Conversation, ...]
    helpful: tuple[Conversation, ...]
    helpful_held_out: tuple[Conversation, ...]
    comparisons: tuple[Comparison, ...] = ()
    counts: tuple[tuple[str, int], ...] = ()
