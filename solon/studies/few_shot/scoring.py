"""In-context learning as GPT-3 was measured (Brown et al. 2020, arXiv:2005.14165): options scored in four
ways, and what was seen in training.

All four scores come from one pass and are kept side by side; which is meant is chosen afterwards, and said.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from solon.errors import InputError
from solon.evaluation.measure import Outcome
from solon.words.question import Problem

Scoring = Literal["sum", "per token", "per character", "over unconditional"]
SCORINGS: tuple[Scoring, ...] = ("sum", "per token", "per character", "over unconditional")


def unconditional(problem: Problem) -> Problem:
    """The options behind the answer's opening alone: log P(option | "Answer:"), which the fourth score
    subtracts (section 2.4).
    """
    return replace(problem, text="", lettered=False, opening=problem.opening or "Answer:")


def rescored(row: Outcome, bare: Outcome, how: Scoring) -> Outcome:
    """The same outcome under another score. `bare` is the outcome of the same options unconditionally."""
    if row.options != bare.options:
        raise InputError("an unconditional score needs the same options in the same order")
    if how == "sum":
        return row
    by: Sequence[float] = row.tokens if how == "per token" else [len(option) for option in row.options]
    if how == "over unconditional":
        return replace(row, logprobs=tuple(a - b for a, b in zip(row.logprobs, bare.logprobs, strict=True)))
    return replace(
        row, logprobs=tuple(logprob / max(size, 1) for logprob, size in zip(row.logprobs, by, strict=True))
    )


# what was seen in training


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation.

    >>> words_of("The cat, sat!")
    ['the', 'cat', 'sat']
    """
    return re.findall(r"[a-z0-9]+", text.lower())


def gram_length(texts: Sequence[str]) -> int:
    """N of a data set: the 5th percentile of its examples' lengths in words, held within 8 and 13 (appendix
    C).

    >>> gram_length(["one two three"] * 10), gram_length([" ".join("abcdefghijklmnopqrst")] * 10)
    (8, 13)
    """
    if not texts:
        raise InputError("no example to take a length from")
    return int(np.clip(np.percentile([len(words_of(text)) for text in texts], 5), 8, 13))


def grams(text: str, length: int) -> set[bytes]:
    """Every run of so many words, hashed to 8 bytes; a text of fewer words is one gram of all of them."""
    words = words_of(text)
    runs = [words[start : start + length] for start in range(len(words) - length + 1)] or (
        [words] if words else []
    )
    return {hashlib.blake2b(" ".join(run).encode(), digest_size=8).digest() for run in runs}


@dataclass(frozen=True, slots=True)
class Overlap:
    """Which problems share an N-gram with the corpus, and which are too `short` (fewer than N words) to be
    told: neither dirty nor clean.
    """

    length: int
    dirty: tuple[bool, ...]
    short: tuple[bool, ...]

    @property
    def clean(self) -> tuple[bool, ...]:
        return tuple(not a and not b for a, b in zip(self.dirty, self.short, strict=True))


def overlap(problems: Sequence[Problem], corpus: Iterable[str], *, length: int = 0) -> Overlap:
    """Problems (question and options) against a corpus, read once and not kept: only the problems' own grams
    are in memory.
    """
    texts = [" ".join([problem.text, *problem.options]) for problem in problems]
    size = length or gram_length(texts)
    own = [grams(text, size) if len(words_of(text)) >= size else set[bytes]() for text in texts]
    wanted = set[bytes]().union(*own)
    found = set[bytes]()
    for text in corpus:
        found |= grams(text, size) & wanted
    return Overlap(size, tuple(bool(some & found) for some in own), tuple(not some for some in own))
