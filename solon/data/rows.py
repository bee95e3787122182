"""Conversations and comparisons as JSON rows, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from solon.errors import InputError
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation, Message, Role

TO_CHAT = {"system": "system", "human": "user", "assistant": "assistant"}
FROM_CHAT: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "human",
    "human": "human",
    "assistant": "assistant",
    "gpt": "assistant",
}


def to_messages(conversation: Conversation) -> list[dict[str, str]]:
    """Chat messages with role and content.

    >>> to_messages(Conversation().human("Hi"))
    [{'role': 'user', 'content': 'Hi'}]
    """
    return [{"role": TO_CHAT[turn.role], "content": turn.text} for turn in conversation.turns]


def from_messages(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """The inverse of `to_messages`; "from" and "value" are also read. Raises InputError on an unknown role
    and on content that is no text.
    """
    turns = []
    for message in messages:
        if not isinstance(message, Mapping):
            raise InputError(f"a chat message must be an object with role and content; found {message!r}")
        role, text = message.get("role", message.get("from")), message.get("content", message.get("value"))
        if role not in FROM_CHAT or not isinstance(text, str):
            raise InputError(
                f"a chat message needs a role of {', '.join(FROM_CHAT)} and text content; found "
                f"{dict(message)!r}"
            )
        turns.append(Message(FROM_CHAT[str(role)], text))
    return Conversation(tuple(turns))


def comparison_to_row(comparison: Comparison) -> dict[str, Any]:
    """A comparison as one JSON object with all its fields."""
    return {
        "prompt": to_messages(comparison.prompt),
        "first": comparison.first,
        "second": comparison.second,
        "p_first": comparison.p_first,
        "judge": comparison.judge,
        "axis": comparison.axis,
        "principle": comparison.principle,
        "readings": [list(pair) for pair in comparison.readings],
        "rationales": list(comparison.rationales),
    }


def comparison_from_row(row: Mapping[str, Any]) -> Comparison:
    """The inverse of `comparison_to_row`. Only prompt, first, second and p_first are required; without them
    InputError is raised.
    """
    try:
        return Comparison(
            from_messages(row["prompt"]),
            row["first"],
            row["second"],
            float(row["p_first"]),
            row.get("judge", "unknown"),
            row.get("axis", ""),
            row.get("principle", ""),
            tuple((float(a), float(b)) for a, b in row.get("readings", ())),
            tuple(row.get("rationales", ())),
        )
    except (KeyError, TypeError, ValueError) as error:
        expected = "prompt (chat messages), first, second and p_first"
        raise InputError(
            f"not a comparison row, {expected} expected: {type(error).__name__} {error}"
        ) from error
