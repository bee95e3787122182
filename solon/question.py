"""What an evaluation asks: one prompt, optionally with choices and a gold answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from solon.conversation import Conversation
from solon.errors import InputError


@dataclass(frozen=True, slots=True)
class Question:
    """No choices means a free reply; no answer means an opinion, which has no gold.

    Raises InputError where a choice is empty, two are equal, or the answer is none of them.
    """

    prompt: Conversation
    choices: tuple[str, ...] = ()
    answer: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(not choice for choice in self.choices):
            raise InputError(f"a choice is empty in {self.choices!r}; every choice needs text to be scored")
        if len(set(self.choices)) != len(self.choices):
            raise InputError(f"two choices are equal in {self.choices!r}; their probabilities could not be told apart")
        if self.choices and self.answer is not None and self.answer not in self.choices:
            raise InputError(f"the answer {self.answer!r} is none of the choices {self.choices!r}")
