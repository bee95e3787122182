"""Samples and drafts as JSON rows and back; words have theirs in data/rows.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from solon.alignment.critique import Drafts, Round
from solon.data.rows import from_messages, to_messages
from solon.models.base import Sample, Stop
from solon.words.conversation import Conversation


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


def from_drafts(drafts: Drafts) -> dict[str, Any]:
    rounds = [
        {"principle": r.principle, "critique": r.critique, "revision": r.revision, "finished": r.finished}
        for r in drafts.rounds
    ]
    return {"prompt": to_messages(drafts.prompt), "first": drafts.first, "rounds": rounds}


def to_drafts(row: Mapping[str, Any]) -> Drafts:
    return Drafts(from_messages(row["prompt"]), row["first"], tuple(Round(**turn) for turn in row["rounds"]))
