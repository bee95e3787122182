"""Values as JSON rows and back, so that a run can keep them and read them again.

A `Codec` says how what was made of an item is kept: readable by people, with the item beside it where that
helps. Words have their forms in data/rows.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Generic, Protocol, TypeVar

from solon.alignment.critique import RevisedReply, RevisionRound
from solon.data.rows import comparison_from_row, comparison_to_row, from_messages, to_messages
from solon.models.base import Sample, Stop
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation

Item = TypeVar("Item")
Value = TypeVar("Value")
Row = dict[str, Any]


class HasKey(Protocol):
    """An item that names itself by its content: a conversation, a comparison, a pair, a problem."""

    @property
    def key(self) -> str: ...


def own_key(item: HasKey) -> str:
    """The key that an item brings."""
    return item.key


@dataclass(frozen=True, slots=True)
class Codec(Generic[Item, Value]):
    """`decode(encode(item, value))` equals `value`. Rows must not use the field "key": it is the item's."""

    encode: Callable[[Item, Value], Row]
    decode: Callable[[Row], Value]


def from_sample(sample: Sample) -> dict[str, Any]:
    cut = {"cut": sample.cut} if sample.cut else {}
    return {
        "text": sample.text,
        "tokens": list(sample.tokens),
        "logprobs": list(sample.logprobs),
        "stop": sample.stop.value,
        "weights": sample.weights,
        **cut,
    }


def to_sample(row: Mapping[str, Any]) -> Sample:
    """The inverse of `from_sample`.

    >>> sample = Sample((1, 2), "a", (-0.5, -1.0), Stop.LENGTH, "w")
    >>> to_sample(from_sample(sample)) == sample
    True
    """
    return Sample(
        tuple(row["tokens"]),
        row["text"],
        tuple(row["logprobs"]),
        Stop(row["stop"]),
        row["weights"],
        row.get("cut", 0),
    )


def from_replies(prompt: Conversation, replies: list[Sample]) -> dict[str, Any]:
    return {"prompt": to_messages(prompt), "replies": [from_sample(reply) for reply in replies]}


def to_replies(row: Mapping[str, Any]) -> list[Sample]:
    return [to_sample(reply) for reply in row["replies"]]


def from_drafts(drafts: RevisedReply) -> dict[str, Any]:
    rounds = [
        {"principle": r.principle, "critique": r.critique, "revision": r.revision, "finished": r.finished}
        for r in drafts.rounds
    ]
    return {"prompt": to_messages(drafts.prompt), "first": drafts.first, "rounds": rounds}


def to_drafts(row: Mapping[str, Any]) -> RevisedReply:
    return RevisedReply(
        from_messages(row["prompt"]), row["first"], tuple(RevisionRound(**turn) for turn in row["rounds"])
    )


def fields_codec(kind: Callable[..., Value]) -> Codec[Any, Value]:
    """The codec of a dataclass whose fields are JSON values, or tuples of them.

    >>> codec = fields_codec(Sample)
    >>> row = codec.encode("item", Sample((1, 2), "a", (-0.5, -1.0), Stop.LENGTH, "w"))
    >>> codec.decode(row).tokens
    (1, 2)
    """

    def encode(item: Any, value: Any) -> Row:
        return asdict(value)

    def decode(row: Row) -> Value:
        fields = {name: value for name, value in row.items() if name != "key"}
        return kind(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        )

    return Codec(encode, decode)


PLAIN: Codec[Any, Any] = Codec(lambda item, value: {"value": value}, lambda row: row["value"])
SAMPLES: Codec[Conversation, list[Sample]] = Codec(from_replies, to_replies)
DRAFTS: Codec[Conversation, RevisedReply] = Codec(lambda prompt, drafts: from_drafts(drafts), to_drafts)
COMPARISONS: Codec[Any, Comparison] = Codec(lambda pair, label: comparison_to_row(label), comparison_from_row)
