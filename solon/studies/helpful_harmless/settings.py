"""What can be changed about HH-RLHF's study, and its presets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from solon.errors import InputError
from solon.study.settings import RLSettings, paper, unpublished


@dataclass(frozen=True, slots=True)
class Settings(RLSettings):
    """Every number that can be changed. Those that the paper leaves unpublished are named in the report."""

    policy_epochs: int = paper(2, "passes over each batch of replies")
    """passes over each batch of replies"""

    sizes: tuple[int, ...] = (100, 200, 400, 800, 1400)
    """comparisons that the preference models of the learning curve learn from"""
    depths: tuple[float, ...] = (0.25, 0.5, 1.0)
    """shares of the layers that they stand on: sizes of model"""
    draws: int = 3
    """of each number of comparisons"""
    finetuned: bool = True
    """train every model of the curve through; otherwise its head alone, on frozen states"""
    learned: int = 0
    """comparisons to learn from at the most; 0: all"""
    measured: int = 400
    """comparisons to measure with, from dialogues of their own"""
    mixtures: tuple[float, ...] = paper(
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), "mixtures, as shares of harmless comparisons"
    )
    """shares of harmless comparisons, where there are both kinds"""
    lambdas: tuple[float, ...] = paper((1.0, 2.0, 3.0, 4.0, 10.0), "weights of the harmless part of the loss")
    """weights of the harmless part of the loss"""
    best_of: int = 16
    """replies of the start to each held-out prompt, for best-of-N"""
    rounds: int = 3
    """of iterated online training, where there is someone to compare; 0 leaves it out"""
    round_pairs: int = 1500
    """comparisons that all rounds make together"""
    unsure: float = unpublished(0.05)
    """a judge's probability this near to one half is a vote of unsure, and no game"""
    outlier_examples: int = paper(10, "known outliers of the few-shot variant")
    """known outliers of the few-shot variant"""

    def __post_init__(self) -> None:
        RLSettings.__post_init__(self)
        if not self.sizes or min(self.sizes) < 8 or list(self.sizes) != sorted(set(self.sizes)):
            raise InputError(f"sizes must rise from at least 8 comparisons; found {self.sizes}")
        if not self.depths or not all(0 < depth <= 1 for depth in self.depths):
            raise InputError(f"depths are shares of the layers, above 0 and at most 1; found {self.depths}")
        if not all(0 <= share <= 1 for share in self.mixtures) or not all(
            weight > 0 for weight in self.lambdas
        ):
            raise InputError("mixtures are shares from 0 to 1, lambdas weights above 0")
        if min(self.draws, self.measured, self.best_of) < 1:
            raise InputError("draws, measured and best_of must be at least 1")
        if self.rounds and self.round_pairs < 16 * self.rounds:
            raise InputError(
                f"{self.round_pairs} comparisons over {self.rounds} rounds are under 16 a round; give "
                "more, or 0 rounds"
            )
        if self.outlier_examples < 1 or self.learned < 0 or 0 < self.learned < self.sizes[0]:
            raise InputError(
                "outlier_examples must be at least 1, and learned 0 or at least the first of sizes"
            )
        if not 0 <= self.unsure < 0.5:
            raise InputError(f"unsure is a distance from one half, from 0 and under 0.5; found {self.unsure}")


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(
        sizes=(50, 100, 200, 400),
        depths=(0.5, 1.0),
        finetuned=False,
        learned=1500,
        measured=200,
        mixtures=(0.0, 0.25, 0.5, 0.75, 1.0),
        lambdas=(1.0, 3.0, 10.0),
        batch=16,
        max_tokens=48,
        method="rloo",
        policy_steps=16,
        policy_prompts=8,
        policy_epochs=1,
        policy_learning_rate=5e-4,
        best_of=16,
        rounds=3,
        round_pairs=192,
    )


def toy() -> Settings:
    """The same for the toy world's small transformer, which learns faster and needs all its weights."""
    return replace(
        quick(),
        sizes=(50, 100, 200, 400, 800),
        measured=300,
        weights="full",
        preference_epochs=4.0,
        preference_learning_rate=1e-3,
        max_tokens=16,
        policy_steps=40,
        policy_samples=8,
        policy_learning_rate=2e-4,
        kl_coefficient=0.05,
        round_pairs=600,
    )


def full() -> Settings:
    """The paper's shape: models trained through, PPO, 11 mixtures, 5 weights."""
    return Settings()
