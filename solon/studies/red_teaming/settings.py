"""What can be changed about Red Teaming Language Models, and its presets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from solon.errors import InputError
from solon.study.settings import RLSettings, paper, unpublished


@dataclass(frozen=True, slots=True)
class Settings(RLSettings):
    """Every number that can be changed. Those that the paper leaves unpublished are named in the report."""

    turns: int = paper(4, "replies of a dialogue at the most")
    """replies of a dialogue at the most"""
    rejection: int = paper(16, "replies that rejection sampling draws")
    """replies that the rejection-sampling defender draws; it shows the two that its preference model finds
    least harmful
    """
    attackers: int = unpublished(20)
    """simulated attackers of each kind; each is shown examples of its own"""
    attacks_each: int = paper(5, "dialogues of each attacker")
    """dialogues of each of them"""
    examples: int = unpublished(3)
    """attacks that a few-shot attacker is shown"""
    attack_tokens: int = 48
    """the longest attack"""
    attack_steps: int = unpublished(100)
    """of reinforcing an attacker; 0 leaves it out"""
    attack_prompts: int = unpublished(8)
    attack_samples: int = unpublished(8)
    attack_learning_rate: float = unpublished(1e-4)
    attack_kl_coefficient: float = unpublished(0.02)
    """keeps a reinforced attacker near the few-shot one: without it, attacks become one sentence"""
    crossed: bool = True
    """every attack meets every defender, in pairs; otherwise one, by an assignment that is blind to attacker
    and intent, as people's did
    """
    clusters: int = unpublished(8)
    """of the map of attacks"""

    def __post_init__(self) -> None:
        RLSettings.__post_init__(self)
        if (
            min(
                self.turns,
                self.attackers,
                self.attacks_each,
                self.examples,
                self.attack_tokens,
                self.attack_prompts,
                self.clusters,
            )
            < 1
        ):
            raise InputError(
                "turns, attackers, attacks_each, examples, attack_tokens, attack_prompts and clusters must "
                "be at least 1"
            )
        if self.attack_samples < 2 or self.rejection < 2 or self.attack_steps < 0:
            raise InputError("attack_samples and rejection must be at least 2, and attack_steps not below 0")


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(
        batch=16,
        max_tokens=32,
        preference_epochs=0.5,
        preference_depth=0.5,
        method="rloo",
        policy_steps=10,
        policy_prompts=8,
        policy_epochs=1,
        policy_learning_rate=5e-4,
        turns=1,
        rejection=8,
        attackers=6,
        attacks_each=3,
        attack_tokens=24,
        attack_steps=10,
        attack_prompts=4,
        attack_samples=4,
        attack_learning_rate=5e-4,
        clusters=5,
    )


def toy() -> Settings:
    """The same for the toy world's small transformers, which learn faster and need all their weights."""
    return replace(
        quick(),
        weights="full",
        batch=32,
        max_tokens=14,
        preference_epochs=1.0,
        preference_learning_rate=1e-3,
        preference_depth=1.0,
        policy_steps=40,
        policy_prompts=16,
        policy_learning_rate=3e-4,
        kl_coefficient=0.05,
        turns=2,
        rejection=16,
        attackers=12,
        attacks_each=5,
        attack_tokens=12,
        attack_steps=60,
        attack_kl_coefficient=1.0,
        attack_prompts=8,
        attack_samples=8,
        attack_learning_rate=3e-4,
        clusters=6,
    )


def full() -> Settings:
    """The paper's shape: four turns, the best 2 of 16."""
    return Settings()
