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

import numpy as np
import torch

from solon.errors import InputError
from solon.models.backbones.backbone import Backbone
from solon.models.base import Tokens, derive
from solon.models.scoring import BATCH_TOKENS, batch_by_tokens, reply_hidden, token_logprobs
from solon.words.conversation import Conversation

WORDS = (*"0123456789", "+")


@dataclass(frozen=True, slots=True)
class Sum:
    """Two numbers of k digits each; the answer has k + 1, the smallest place first where it is reversed."""

    first: int
    second: int
    digits: int

    def question(self) -> Conversation:
        """The sum as one human turn, digit by digit: "0 7 + 0 8"."""
        return Conversation().human(
            f"{_spaced(self.first, self.digits)} + {_spaced(self.second, self.digits)}"
        )

    def answer(self, *, reverse: bool) -> str:
        """The answer digit by digit, padded with zeros to k + 1 digits."""
        text = _spaced(self.first + self.second, self.digits + 1)
        return text[::-1] if reverse else text

    @property
    def held_out(self) -> bool:
        """A tenth of all sums, whatever the order of their numbers: they are never trained on."""
        smaller, larger = sorted((self.first, self.second))
        return hashlib.sha256(f"{smaller}+{larger}".encode()).digest()[0] < 26


def _spaced(value: int, digits: int) -> str:
    return " ".join(str(value).zfill(digits))


def draw_sum(rng: random.Random, digits: int, *, held_out: bool) -> Sum:
    """A sum of two numbers of so many digits, from the held-out ones or from the others."""
    while True:
        drawn = Sum(rng.randrange(10**digits), rng.randrange(10**digits), digits)
        if drawn.held_out == held_out:
            return drawn


def held_out_sums(digits: int, count: int, seed: int) -> list[Sum]:
    """Different held-out sums; all there are, where these are few."""
    if digits == 1:
        every = (Sum(first, second, 1) for first in range(10) for second in range(10))
        return [drawn for drawn in every if drawn.held_out]
    rng, sums = random.Random(derive(seed, "held out", digits)), dict[Sum, None]()
    while len(sums) < min(count, 10 ** (2 * digits) // 20):
        sums[draw_sum(rng, digits, held_out=True)] = None
    return list(sums)


@dataclass(frozen=True, slots=True)
class Ability:
    """Of each sum: its loss (nats a token), the share of its tokens that are the likeliest given those
    before, and whether all are (1 or 0). All answers have `length` tokens.
    """

    loss: tuple[float, ...]
    per_token: tuple[float, ...]
    exact: tuple[float, ...]
    length: int

    @property
    def predicted_exact(self) -> float:
        """Exact match if errors at each token were independent: per-token accuracy to the power of the
        length.
        """
        return float(np.mean(self.per_token)) ** self.length


@torch.inference_mode()
def measure_ability(backbone: Backbone, rows: Sequence[tuple[Tokens, Tokens]]) -> Ability:
    """(prompt, answer) tokens, all answers of one length. Exact match is of greedy decoding: it is right
    exactly where every token is the likeliest given the right ones before it.

    Raises InputError where answers differ in length.
    """
    lengths = {len(answer) for _, answer in rows}
    if len(lengths) != 1:
        raise InputError(f"abilities are measured on answers of one length; found {sorted(lengths)}")
    measured: dict[int, tuple[float, float, float]] = {}
    for batch in batch_by_tokens([len(prompt) + len(answer) for prompt, answer in rows], tokens=BATCH_TOKENS):
        groups = [(rows[index][0], [rows[index][1]]) for index in batch]
        hidden_NC, target_N, sizes = reply_hidden(backbone, groups)
        losses = (-token_logprobs(backbone, hidden_NC, target_N)).split(sizes)
        hits = (backbone.logits(hidden_NC).argmax(dim=-1) == target_N).float().split(sizes)
        measured |= {
            index: (float(loss.mean()), float(hit.mean()), float(hit.min()))
            for index, loss, hit in zip(batch, losses, hits, strict=True)
        }
    loss, per_token, exact = zip(*(measured[index] for index in range(len(rows))), strict=True)
    return Ability(loss, per_token, exact, lengths.pop())


def largest_jump(values: Sequence[float]) -> float:
    """The largest change between neighbours, as a share of the whole change: 1 where all of it comes at once.
    A steady change of n steps has 1/n.

    >>> largest_jump([0.0, 0.0, 1.0]), largest_jump([0.0, 0.5, 1.0])
    (1.0, 0.5)
    """
    whole = max(values) - min(values)
    return max(abs(after - before) for before, after in itertools.pairwise(values)) / whole if whole else 0.0
