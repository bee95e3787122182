"""What every study that trains can change, written once, and what a setting knows of its paper.

A field that says what the paper has (`rounds: int = paper(4, "critique-revision rounds")`) prints its own
deviation wherever a run differs; one whose value the paper leaves `unpublished` prints itself as ours.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

from solon.errors import InputError

Value = TypeVar("Value")


def paper(value: Value, phrase: str, *, default: Value | None = None) -> Value:
    """A field whose value in the paper is `value`, which is also its default unless another is given. The
    phrase is what the report says it is, in the plural: "critique-revision rounds".
    """
    ours = value if default is None else default
    return field(default=ours, metadata={"paper": value, "phrase": phrase})


def unpublished(value: Value) -> Value:
    """A field whose value the paper does not give: the report lists it among the constants that are ours."""
    return field(default=value, metadata={"unpublished": True})


def no_number(value: Value) -> Value:
    """A field that decides no number (how many workers): it does not name a run."""
    return field(default=value, metadata={"fingerprint": False})


def deviations(settings: Any) -> tuple[str, ...]:
    """A sentence for every field that differs from its paper.

    >>> @dataclass
    ... class Settings:
    ...     rounds: int = paper(4, "critique-revision rounds")
    ...     prompts: int = paper(182_831, "prompts", default=32)
    >>> deviations(Settings())
    ('prompts: 32 here, 182,831 in the paper.',)
    """
    return tuple(
        f"{item.metadata['phrase']}: {_shown(getattr(settings, item.name))} here, "
        f"{_shown(item.metadata['paper'])} in the paper."
        for item in fields(settings)
        if "paper" in item.metadata and getattr(settings, item.name) != item.metadata["paper"]
    )


def constants(settings: Any) -> dict[str, str]:
    """The values that the paper leaves unpublished, by the fields' names in words."""
    unknown = [item.name for item in fields(settings) if item.metadata.get("unpublished")]
    return {name.replace("_", " "): _shown(getattr(settings, name)) for name in unknown}


def named_settings(settings: Any) -> dict[str, Any]:
    """The settings that name a run: all but those that decide no number."""
    unnamed = {item.name for item in fields(settings) if not item.metadata.get("fingerprint", True)}
    return {name: value for name, value in asdict(settings).items() if name not in unnamed}


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (tuple, list)):
        return " ".join(map(_shown, value))
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
    )


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How preference models are trained. Learning rates are for adapters; whole weights want about a
    tenth. What "the paper" has here is HH-RLHF's (arXiv:2204.05862), which the later ones follow.
    """

    weights: Literal["lora", "full"] = paper("full", "weights that are trained", default="lora")
    """train adapters on one frozen base, or all weights in fp32"""
    rank: int = unpublished(16)
    """of the adapters"""
    max_tokens: int = 128
    """the longest reply"""
    batch: int = unpublished(32)
    """rows of a supervised or preference step"""
    preference_epochs: float = paper(1.0, "epochs of a preference model")
    preference_learning_rate: float = unpublished(2e-4)
    preference_depth: float = paper(1.0, "share of the layers under a preference model")
    """the share of the layers that preference models stand on"""
    probe_start: bool = paper(
        False, "preference heads that start at the ridge solution on frozen states", default=True
    )
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

    method: Literal["rloo", "ppo"] = paper("ppo", "method of reinforcement learning")
    """of reinforcement learning"""
    policy_steps: int = 200
    policy_prompts: int = unpublished(16)
    """prompts of a step"""
    policy_samples: int = unpublished(4)
    """replies to each of them"""
    policy_epochs: int = unpublished(2)
    """passes over each batch of replies"""
    policy_learning_rate: float = unpublished(1e-4)
    kl_coefficient: float = paper(0.001, "weight of the KL in the reward")
    """of the KL summed over the reply, in nats, inside the reward"""

    def __post_init__(self) -> None:
        TrainingSettings.__post_init__(self)
        if self.method == "rloo" and self.policy_samples < 2:
            raise InputError("RLOO compares replies to one prompt: policy_samples must be at least 2")
        if min(self.policy_steps, self.policy_prompts, self.policy_samples, self.policy_epochs) < 1:
            raise InputError(
                "policy_steps, policy_prompts, policy_samples and policy_epochs must be at least 1"
            )
