"""What is said: an immutable sequence of turns, and its published written form."""

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
    """One turn: who spoke and the text, exactly as spoken."""

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

    >>> talk = Conversation().human("Hello").assistant("Good morning.")
    >>> [turn.role for turn in talk.turns]
    ['human', 'assistant']
    >>> talk.key == Conversation().human("Hello").assistant("Good morning.").key
    True
    """

    turns: tuple[Message, ...] = ()

    def system(self, text: str) -> Conversation:
        """The same conversation, opened by a system message."""
        return Conversation((Message("system", text), *self.turns))

    def human(self, text: str) -> Conversation:
        return Conversation((*self.turns, Message("human", text)))

    def assistant(self, text: str) -> Conversation:
        return Conversation((*self.turns, Message("assistant", text)))

    def after(self, context: Conversation) -> Conversation:
        """The same turns after all those of `context`.

        >>> Conversation().human("b").behind(Conversation().human("a").assistant("x")).turns[0].text
        'a'
        """
        return Conversation((*context.turns, *self.turns))

    @property
    def last(self) -> str:
        """The text of the last turn; the empty string where nothing has been said."""
        return self.turns[-1].text if self.turns else ""

    @property
    def awaits_reply(self) -> bool:
        """Whether the human has spoken last, so that a model may reply."""
        return bool(self.turns) and self.turns[-1].role == "human"

    @property
    def key(self) -> str:
        """A content hash: equal conversations have equal keys on every machine."""
        words = json.dumps([(turn.role, turn.text) for turn in self.turns])
        return hashlib.sha256(words.encode()).hexdigest()


def write_transcript(conversation: Conversation) -> str:
    r"""The published dialogue form, `\n\nHuman: ...\n\nAssistant: ...` (HH-RLHF; training notes section 1.1).

    A conversation that awaits a reply ends on `\n\nAssistant:`, and replies start with a space. A system
    message is written before the first marker, as the published preambles are.

    Raises InputError where a turn's own text contains a marker: it would be read back as two turns.

    >>> write_transcript(Conversation().human("Hi").assistant("Hello."))
    '\n\nHuman: Hi\n\nAssistant: Hello.'
    >>> write_transcript(Conversation().human("Hi"))
    '\n\nHuman: Hi\n\nAssistant:'
    """
    pieces = []
    for place, turn in enumerate(conversation.turns):
        if turn.role == "system":
            if place:
                raise InputError(
                    "a transcript holds a system message only at its start; found one at turn "
                    + str(place + 1)
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
    `\n\nAssistant:` is the place of the reply, not an empty turn.

    Raises InputError where there is no marker at all.

    >>> read_transcript("\n\nHuman: Hi\n\nAssistant:").awaits_reply
    True
    """
    head, *rest = MARKER.split(text)
    if not rest:
        raise InputError(
            f"no '\\n\\nHuman:' marker in {text[:60]!r}; a transcript starts with two newlines and 'Human:'"
        )
    turns = [Message("system", head)] if head else []
    for speaker, said in zip(rest[::2], rest[1::2], strict=True):
        turns.append(Message("human" if speaker == "Human" else "assistant", said.removeprefix(" ")))
    if text.endswith("\n\nAssistant:"):
        turns.pop()
    return Conversation(tuple(turns))
