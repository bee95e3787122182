"""A model that says what it is told to: the known answer that tests every instrument."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from solon.models.base import Sample, Stop, row_seeds
from solon.words.conversation import Conversation


class ScriptedModel:
    """A LanguageModel made of two functions: what it replies, and how much (nats) it likes a given reply.

    `tokens` of its samples are empty: it has no vocabulary. Its one log-probability stands for the whole
    reply.

    >>> parrot = ScriptedModel("parrot", lambda prompt, rng: prompt.last)
    >>> parrot.sample([Conversation().human("Hello")], seed=0)[0][0].text
    'Hello'
    """

    def __init__(
        self,
        name: str,
        reply: Callable[[Conversation, random.Random], str],
        likes: Callable[[Conversation, str], float] = lambda prompt, reply: -float(len(reply)),
    ) -> None:
        self._name, self._reply, self._likes = name, reply, likes

    @property
    def name(self) -> str:
        return self._name

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
        seeds = row_seeds(prompts, count=count, seed=seed)
        return [
            [Sample((), self._reply(prompt, random.Random(own)), (0.0,), Stop.END, self._name) for own in row]
            for prompt, row in zip(prompts, seeds, strict=True)
        ]

    def score(self, prompts: Sequence[Conversation], replies: Sequence[str]) -> list[Sample]:
        return [
            Sample((), reply, (self._likes(prompt, reply),), Stop.GIVEN, self._name)
            for prompt, reply in zip(prompts, replies, strict=True)
        ]
