"""What a training loop yields. The caller logs, saves and stops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from solon.errors import InputError
from solon.models.base import Sample
from solon.words.conversation import Conversation

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Rollout:
    """One reply of the policy and its reward, without the KL term."""

    prompt: Conversation
    sample: Sample
    reward: float


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step (in `improve`, one round of rollouts), numbered from 1.

    `state()` is everything needed to continue after this step, and is good until the next one is computed.
    """

    number: int
    metrics: Mapping[str, float]
    state: Callable[[], State]
    rollouts: tuple[Rollout, ...] = ()


class Diverged(InputError):
    """A loss or gradient that is not finite. The weights are those of the last good step."""
