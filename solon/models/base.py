"""What every language model can do, and what one with weights in hand can do besides.

The ladder: a Speaker replies; a LanguageModel can also say how likely a reply was; an OpenModel shows its
weights.
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
    """Why a sample ended. Four facts, so not a bool."""

    END = "end of turn"
    STRING = "stop string"
    LENGTH = "length"
    GIVEN = "given"  # a reply that was scored, not drawn


@dataclass(frozen=True, slots=True)
class Sample:
    """A reply: its tokens, their log-probabilities (nats, at temperature 1 whatever it was drawn at), and why
    it ended.

    `tokens` includes the end-of-turn token where the model spoke it and the tokens of a stop string; `text`
    includes neither. `weights` is the fingerprint of the weights that made or scored it ("" where the server
    tells none). `cut` is how many of the prompt's first tokens were left out to fit the context, 0 unless
    that was asked for.
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
    """Anything that replies. Batch first; never async."""

    @property
    def name(self) -> str: ...

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
        """`count` samples of each prompt, in order. A conversation that ends on the assistant's side is
        continued.

        A reply depends on the prompt, the seed and the settings, never on the prompts beside it; a prompt
        asked twice in one call gets different samples. Raises InputError where a prompt does not fit the
        context.
        """
        ...


class LanguageModel(Speaker, Protocol):
    """A speaker that can also say how likely a reply was."""

    def score(self, prompts: Sequence[Conversation], replies: Sequence[str]) -> list[Sample]:
        """Each given reply with the log-probability of each of its tokens, given its prompt.

        The prompt's tokens end exactly where the reply's begin: nothing is scored that the prompt said. The
        end of the turn is not scored. Raises InputError on an empty reply, and where both do not fit the
        context.
        """
        ...


class OpenModel(LanguageModel, Protocol):
    """A language model whose weights are in hand."""

    @property
    def module(self) -> nn.Module: ...

    @property
    def sites(self) -> tuple[str, ...]: ...

    def copy(self) -> Self: ...

    def save(self, path: Path) -> None: ...

    def load(self, path: Path) -> None: ...


def row_seeds(prompts: Sequence[Conversation], *, count: int, seed: int) -> list[list[int]]:
    """A seed for each sample, from the call's seed, the prompt's content and how often it was asked before.

    >>> hi = Conversation().human("Hi")
    >>> row_seeds([hi], count=1, seed=0) == row_seeds([Conversation().human("Bye"), hi], count=1, seed=0)[1:]
    True
    """
    asked: dict[str, int] = {}
    seeds = []
    for prompt in prompts:
        key = prompt.key
        first = asked.get(key, 0)
        asked[key] = first + count
        seeds.append([derive(seed, key, copy) for copy in range(first, first + count)])
    return seeds


def derive(seed: int, *words: object) -> int:
    """A 63-bit seed that depends on every word, the same on every machine.

    >>> derive(0, "a", 1) == derive(0, "a", 1), derive(0, "a", 1) == derive(1, "a", 1)
    (True, False)
    """
    text = "\x1f".join([str(seed), *map(str, words)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
