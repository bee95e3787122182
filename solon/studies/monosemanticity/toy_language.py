"""A language whose every token is of a class, and whose next class is told by the last: what features of a
model of it should be about is known.

After class c comes class c + 1 four times in five, else any; which of its words is drawn.
"""

from __future__ import annotations

import random

from solon.models.base import Tokens

CLASSES = ("fruit", "animal", "tool", "river", "metal", "month")
EACH = 10  # words of a class
FOLLOWS = 0.8
FIRST = 5  # tokens below are a dialogue's marks (see `models.dialogue.WordDialogue`)


def words() -> tuple[str, ...]:
    """In the order of their tokens."""
    return tuple(f"{name}{number}" for name in CLASSES for number in range(EACH))


def class_of(token: int) -> int:
    """The number of a token's class.

    >>> class_of(FIRST), class_of(FIRST + EACH)
    (0, 1)
    """
    return (token - FIRST) // EACH


def tokens_of(number: int) -> range:
    """The tokens of a class's words.

    >>> tokens_of(1) == range(FIRST + EACH, FIRST + 2 * EACH)
    True
    """
    return range(FIRST + number * EACH, FIRST + (number + 1) * EACH)


def successor(number: int) -> int:
    """The class that mostly follows a class."""
    return (number + 1) % len(CLASSES)


def row(rng: random.Random, length: int) -> Tokens:
    """One text of `length` tokens."""
    tokens, number = list[int](), rng.randrange(len(CLASSES))
    for _ in range(length):
        tokens.append(FIRST + number * EACH + rng.randrange(EACH))
        number = successor(number) if rng.random() < FOLLOWS else rng.randrange(len(CLASSES))
    return tuple(tokens)


def rows(seed: int, count: int, length: int) -> list[Tokens]:
    """Texts of one length, drawn by seed."""
    rng = random.Random(f"classes {seed}")
    return [row(rng, length) for _ in range(count)]
