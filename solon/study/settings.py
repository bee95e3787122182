"""What every study that trains can change, written once: each study's own settings go on from these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from solon.errors import InputError


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How preference models are trained. Learning rates are for adapters; whole weights want about a
    tenth.
    """

    weights: Literal["lora", "full"] = "lora"
    """train adapters on one frozen base, or all weights in fp32"""
    rank: int = 16
    """of the adapters"""
    max_tokens: int = 128
    """the longest reply"""
    batch: int = 32
    """rows of a supervised or preference step"""
    preference_epochs: float = 1.0
    preference_learning_rate: float = 2e-4
    preference_depth: float = 1.0
    """the share of the layers that preference models stand on"""
    probe_start: bool = True
    """start the preference head at the ridge solution on frozen states (ours)"""

    def __post_init__(self) -> None:
        if not 0 < self.preference_depth <= 1:
            raise InputError(
                "preference_depth is a share of the layers, above 0 and at most 1; found "
                f"{self.preference_depth}"
            )
        if min(self.max_tokens, self.batch, self.rank) < 1 or self.preference_epochs < 0:
            raise InputError(
                "max_tokens, batch and rank must be at least 1, and preference_epochs not below 0"
            )


@dataclass(frozen=True, slots=True)
class RLSettings(TrainingSettings):
    """How a policy is trained besides."""

    method: Literal["rloo", "ppo"] = "ppo"
    """of reinforcement learning"""
    policy_steps: int = 200
    policy_prompts: int = 16
    """prompts of a step"""
    policy_samples: int = 4
    """replies to each of them"""
    policy_epochs: int = 2
    """passes over each batch of replies"""
    policy_learning_rate: float = 1e-4
    kl_coefficient: float = 0.001
    """of the KL summed over the reply, in nats, inside the reward"""

    def __post_init__(self) -> None:
        TrainingSettings.__post_init__(self)
        if self.method == "rloo" and self.policy_samples < 2:
            raise InputError("RLOO compares replies to one prompt: policy_samples must be at least 2")
        if min(self.policy_steps, self.policy_prompts, self.policy_samples, self.policy_epochs) < 1:
            raise InputError(
                "policy_steps, policy_prompts, policy_samples and policy_epochs must be at least 1"
            )
