"""The interfaces of models: a Speaker replies, a LanguageModel also scores replies, an OpenModel has its
weights here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from torch import nn

from solon.words.conversation import Conversation

Tokens = tuple[int, ...]


class Stop(Enum):
    """Why a sample ended."""

    END = "end of turn"
    STRING = "stop string"
    LENGTH = "length"
    GIVEN = "given"  # a given reply that was scored, not sampled


@dataclass(frozen=True, slots=True)
class Sample:
    """A reply: its tokens, their log-probabilities (nats, at temperature 1 whatever the sampling
    temperature), and why it ended.

    `tokens` includes a sampled end-of-turn token and the tokens of a stop string; `text` includes neither.
    `weights` is the fingerprint of the weights that sampled or scored it ("" where a server reports none).
    `cut` is the number of tokens that were removed from the start of the prompt to fit the context; it is 0
    unless truncation was requested.
    """

    tokens: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]
    stop: Stop
    weights: str
    cut: int = 0

    @property
    def logprob(self) -> float:
        """The log-probability of the whole reply, in nats."""
        return sum(self.logprobs)


@runtime_checkable
class Speaker(Protocol):
    """A model that replies to conversations, in batches. Never async."""

    @property
    def name(self) -> str:
        """The model's name, for reports."""

    def sample(
        self,
        prompts: Sequence[Conversation],
        *,
        count: int = 1,
        max_tokens: int = 512,
        temperature: float = 1.0,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
        seed: int,
    ) -> list[list[Sample]]:
        """Sample `count` replies to each prompt, in order. A conversation that ends with an assistant turn is
        continued.

        A reply depends on the prompt, the seed and the settings, never on the other prompts; a prompt that
        occurs twice in one call gets different samples. Temperature 0 is greedy. Raises InputError where a
        prompt does not fit the context.
        """


class LanguageModel(Speaker, Protocol):
    """A speaker that also computes the log-probability of a given reply."""

    def score(self, prompts: Sequence[Conversation], replies: Sequence[str]) -> list[Sample]:
        """Each reply with the log-probability (nats) of each of its tokens after its prompt.

        The prompt's tokens end where the reply's begin, so no token of the prompt is scored; neither is the
        end of the turn. Raises InputError on an empty reply, and where prompt and reply do not fit the
        context.
        """


class OpenModel(LanguageModel, Protocol):
    """A language model whose weights are in this process."""

    @property
    def module(self) -> nn.Module:
        """The torch module."""

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of every module whose output can be recorded or edited."""

    def copy(self) -> Self:
        """A copy with trainable weights of its own."""

    def save(self, path: Path) -> None:
        """Write the trainable weights as safetensors."""

    def load(self, path: Path) -> None:
        """Read what `save` wrote into the trainable weights."""


def row_seeds(prompts: Sequence[Conversation], *, count: int, seed: int) -> list[list[int]]:
    """One seed for each sample of each prompt, from `seed`, the prompt's content and how often the prompt
    occurred before.

    >>> hi = Conversation().human("Hi")
    >>> row_seeds([hi], count=1, seed=0) == row_seeds([Conversation().human("Bye"), hi], count=1, seed=0)[1:]
    True
    """
    samples_before: dict[str, int] = {}
    seeds = []
    for prompt in prompts:
        key = prompt.key
        first = samples_before.get(key, 0)
        samples_before[key] = first + count
        seeds.append([derive(seed, key, copy) for copy in range(first, first + count)])
    return seeds


def derive(seed: int, *words: object) -> int:
    """A 63-bit seed from `seed` and every word, the same on every machine.

    >>> derive(0, "a", 1) == derive(0, "a", 1), derive(0, "a", 1) == derive(1, "a", 1)
    (True, False)
    """
    text = "\x1f".join([str(seed), *map(str, words)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
