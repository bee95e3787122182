"""Conversations as immutable sequences of turns, and their published written form."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Literal, get_args

from solon.errors import InputError

Role = Literal["system", "human", "assistant"]
MARKER = re.compile(r"\n\n(Human|Assistant):")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: a role and its text, unchanged. Raises InputError on an unknown role."""

    role: Role
    text: str

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise InputError(
                f"a message's role must be one of {', '.join(get_args(Role))}; found {self.role!r}"
            )


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns in order. Every method returns a new conversation.

    >>> conversation = Conversation().human("Hello").assistant("Good morning.")
    >>> [turn.role for turn in conversation.turns]
    ['human', 'assistant']
    >>> conversation.key == Conversation().human("Hello").assistant("Good morning.").key
    True
    """

    turns: tuple[Message, ...] = ()

    def system(self, text: str) -> Conversation:
        """The same conversation with a system message in front."""
        return Conversation((Message("system", text), *self.turns))

    def human(self, text: str) -> Conversation:
        """The same conversation with a human turn at its end."""
        return Conversation((*self.turns, Message("human", text)))

    def assistant(self, text: str) -> Conversation:
        """The same conversation with an assistant turn at its end."""
        return Conversation((*self.turns, Message("assistant", text)))

    def after(self, context: Conversation) -> Conversation:
        """The turns of `context`, then these.

        >>> Conversation().human("b").after(Conversation().human("a").assistant("x")).turns[0].text
        'a'
        """
        return Conversation((*context.turns, *self.turns))

    @property
    def last(self) -> str:
        """The text of the last turn; the empty string in an empty conversation."""
        return self.turns[-1].text if self.turns else ""

    @property
    def awaits_reply(self) -> bool:
        """Whether the last turn is the human's, so that a model can reply."""
        return bool(self.turns) and self.turns[-1].role == "human"

    @property
    def key(self) -> str:
        """The SHA-256 of roles and texts: equal conversations have equal keys on every machine."""
        content = json.dumps([(turn.role, turn.text) for turn in self.turns])
        return hashlib.sha256(content.encode()).hexdigest()


def write_transcript(conversation: Conversation) -> str:
    r"""The published dialogue form, `\n\nHuman: ...\n\nAssistant: ...` (the HH-RLHF data set).

    A conversation that awaits a reply ends on `\n\nAssistant:`, and replies start with a space. A system
    message is written before the first marker, as the published preambles are.

    Raises InputError where a turn's text contains a marker, since it would be read back as two turns, and
    where a system message is not the first turn.

    >>> write_transcript(Conversation().human("Hi").assistant("Hello."))
    '\n\nHuman: Hi\n\nAssistant: Hello.'
    >>> write_transcript(Conversation().human("Hi"))
    '\n\nHuman: Hi\n\nAssistant:'
    """
    pieces = []
    for number, turn in enumerate(conversation.turns, 1):
        if turn.role == "system":
            if number > 1:
                raise InputError(
                    f"a transcript has a system message only at its start; found one at turn {number}"
                )
            piece = turn.text
        else:
            piece = f"\n\n{turn.role.capitalize()}: {turn.text}"
        pieces.append(piece)
    text = "".join(pieces)
    spoken = [turn for turn in conversation.turns if turn.role != "system"]
    if len(MARKER.findall(text)) != len(spoken):
        raise InputError(
            "a turn contains '\\n\\nHuman:' or '\\n\\nAssistant:' itself and cannot be written as a "
            "transcript"
        )
    return text + ("\n\nAssistant:" if conversation.awaits_reply else "")


def read_transcript(text: str) -> Conversation:
    r"""A conversation from its published dialogue form; the inverse of `write_transcript`.

    Exactly one space after each marker belongs to the form, the rest to the turn. A trailing bare
    `\n\nAssistant:` says that a reply is awaited; it is not an empty turn.

    Raises InputError on a text without any marker.

    >>> read_transcript("\n\nHuman: Hi\n\nAssistant:").awaits_reply
    True
    """
    head, *rest = MARKER.split(text)
    if not rest:
        raise InputError(
            f"no '\\n\\nHuman:' marker in {text[:60]!r}; a transcript starts with two newlines and 'Human:'"
        )
    turns = [Message("system", head)] if head else []
    for speaker, turn_text in zip(rest[::2], rest[1::2], strict=True):
        turns.append(Message("human" if speaker == "Human" else "assistant", turn_text.removeprefix(" ")))
    if text.endswith("\n\nAssistant:"):
        turns.pop()
    return Conversation(tuple(turns))
