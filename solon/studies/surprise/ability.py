"""Smooth loss and abrupt ability of one model on one task (Ganguli et al. 2022, arXiv:2202.07785): k-digit
addition.

Exact match asks for every digit at once, so that per-token accuracy p gives about p^L: an ability that seems
to come from nowhere.

Shapes: N reply tokens, C width, V vocabulary.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from solon.errors import InputError
from solon.models.backbones.backbone import Backbone
from solon.models.base import Tokens
from solon.models.scoring import BATCH_TOKENS, batch_by_tokens, reply_hidden, token_logprobs
from solon.words.conversation import Conversation

WORDS = (*"0123456789", "+")


@dataclass(frozen=True, slots=True)
class Sum:
    """Two numbers of k digits each; the answer has k + 1, the smallest place first where it is turned."""

    first: int
    second: int
    digits: int

    def asked(self) -> Conversation:
        return Conversation().human(
            f"{_spaced(self.first, self.digits)} + {_spaced(self.second, self.digits)}"
        )

    def answer(self, *, turned: bool) -> str:
        text = _spaced(self.first + self.second, self.digits + 1)
        return text[::-1] if turned else text

    @property
    def held_out(self) -> bool:
        """A tenth of all sums, whatever the order of their numbers: they are never trained on."""
        return (
            hashlib.sha256(
                f"{min(self.first, self.second)}+{max(self.first, self.second)}".encode()
            ).digest()[0]
            < 26
        )


def _spaced(value: int, digits: int) -> str:
    return " ".join(str(value).zfill(digits))


def drawn(rng: random.Random, digits: int, *, held_out: bool) -> Sum:
    while True:
        found = Sum(rng.randrange(10**digits), rng.randrange(10**digits), digits)
        if found.held_out == held_out:
            return found


@dataclass(frozen=True, slots=True)
class Ability:
    """Of each sum: its loss (nats a token), the share of its tokens that are the likeliest given those
    before, and whether all are.
    """

    loss: tuple[float, ...]
    per_token: tuple[float, ...]
    exact: tuple[float, ...]
    length: int


@torch.inference_mode()
def ability(body: Backbone, rows: Sequence[tuple[Tokens, Tokens]]) -> Ability:
    """(prompt, answer) tokens, all answers of one length. Exact match is of greedy decoding: it is right
    exactly where every token is the likeliest given the right ones before it.
    """
    lengths = {len(answer) for _, answer in rows}
    if len(lengths) != 1:
        raise InputError(f"abilities are measured on answers of one length; found {sorted(lengths)}")
    found: dict[int, tuple[float, float, float]] = {}
    for batch in batch_by_tokens([len(prompt) + len(answer) for prompt, answer in rows], tokens=BATCH_TOKENS):
        hidden_NC, target_N, sizes = reply_hidden(
            body, [(rows[place][0], [rows[place][1]]) for place in batch]
        )
        losses = (-token_logprobs(body, hidden_NC, target_N)).split(sizes)
        hits = (body.logits(hidden_NC).argmax(dim=-1) == target_N).float().split(sizes)
        found |= {
            place: (float(loss.mean()), float(hit.mean()), float(hit.min()))
            for place, loss, hit in zip(batch, losses, hits, strict=True)
        }
    loss, per_token, exact = zip(*(found[place] for place in range(len(rows))), strict=True)
    return Ability(loss, per_token, exact, lengths.pop())


def largest_jump(values: Sequence[float]) -> float:
    """The largest change between neighbours, as a share of the whole change: 1 where all of it comes at once.
    A steady change of n steps has 1/n.

    >>> largest_jump([0.0, 0.0, 1.0]), largest_jump([0.0, 0.5, 1.0])
    (1.0, 0.5)
    """
    whole = max(values) - min(values)
    return max(abs(after - before) for before, after in itertools.pairwise(values)) / whole if whole else 0.0
