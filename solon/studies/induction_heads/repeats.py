"""A stream of rows, half of which repeat themselves: what small models form induction heads on.

Half of the rows begin with a block of random tokens, of a length drawn anew for each (so that counting places
back does not help), and go on with it over and over. In the others a token follows from the last by one rule,
half of the time. Nothing else is to be learned.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solon.errors import InputError
from solon.models.base import derive

SHORTEST, LONGEST = 0.34, 0.45  # of a block, in lengths of a row
RULED = 0.5


def training_rows(seed: int, number: int, *, count: int, length: int, vocabulary: int) -> Tensor:
    """Batch `number`, (B, T): the first half repeats. The same numbers on every machine.

    Raises InputError where a row is too short to hold a block twice.
    """
    if length < 12 or vocabulary < 8 or count < 2:
        raise InputError(
            "rows of at least 12 tokens of a vocabulary of at least 8 are needed, two at the least; found "
            f"{length}, {vocabulary} and {count}"
        )
    generator = torch.Generator().manual_seed(derive(seed, "repeats", number))
    tokens_BT = torch.randint(0, vocabulary, (count, length), generator=generator)
    half = count // 2
    blocks_B = torch.randint(
        int(SHORTEST * length), int(LONGEST * length) + 1, (half, 1), generator=generator
    )
    tokens_BT[:half] = tokens_BT[:half].gather(1, torch.arange(length)[None] % blocks_B)
    ruled_BT = torch.rand(count - half, length, generator=generator) < RULED
    other = tokens_BT[half:]
    for position in range(1, length):
        other[:, position] = torch.where(
            ruled_BT[:, position], (other[:, position - 1] * 7 + 3) % vocabulary, other[:, position]
        )
    return tokens_BT
