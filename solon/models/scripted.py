"""A model with scripted replies and scores: the test double that instruments are checked with."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from solon.models.base import Sample, Stop, row_seeds
from solon.words.conversation import Conversation


class ScriptedModel:
    """A LanguageModel from two functions: its reply to a prompt, and the log-probability (nats) of a given
    reply.

    `tokens` of its samples are empty: it has no vocabulary. Their one log-probability is that of the whole
    reply.

    >>> parrot = ScriptedModel("parrot", lambda prompt, rng: prompt.last)
    >>> parrot.sample([Conversation().human("Hello")], seed=0)[0][0].text
    'Hello'
    """

    def __init__(
        self,
        name: str,
        reply: Callable[[Conversation, random.Random], str],
        logprob: Callable[[Conversation, str], float] = lambda prompt, reply: -float(len(reply)),
    ) -> None:
        self._name, self._reply, self._logprob = name, reply, logprob

    @property
    def name(self) -> str:
        """The name, which is also the fingerprint of its weights."""
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
        """See `Speaker.sample`."""
        seeds = row_seeds(prompts, count=count, seed=seed)
        return [
            [
                Sample((), self._reply(prompt, random.Random(row_seed)), (0.0,), Stop.END, self._name)
                for row_seed in row
            ]
            for prompt, row in zip(prompts, seeds, strict=True)
        ]

    def score(self, prompts: Sequence[Conversation], replies: Sequence[str]) -> list[Sample]:
        """See `LanguageModel.score`."""
        return [
            Sample((), reply, (self._logprob(prompt, reply),), Stop.GIVEN, self._name)
            for prompt, reply in zip(prompts, replies, strict=True)
        ]
