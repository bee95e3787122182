"""The part of a language model that all the rest stands on: tokens to hidden states, hidden states to logits.

Shapes: B rows, T tokens, C channels (width), V vocabulary, N any number of positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from solon.models.cache import KeysValues, SlotCache

Tokens = tuple[int, ...]


def fast_precision() -> torch.dtype:
    """bfloat16 where the processor computes in it, else float32."""
    native = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


@dataclass(frozen=True, slots=True)
class Fork:
    """Where rows hold one prompt and several replies to it: replies see the prompt and themselves, not each other.

    `positions_BT` restart after the prompt for each reply; `branch_BT` is 0 in the prompt and n in the n-th reply.
    """

    positions_BT: Tensor
    branch_BT: Tensor

    def mask(self, window: int | None = None) -> Tensor:
        """What each position sees, (B, 1, T, T), true where seen."""
        tokens = self.branch_BT.shape[1]
        causal_TT = torch.ones(tokens, tokens, dtype=torch.bool, device=self.branch_BT.device).tril()
        query_BT1, key_B1T = self.branch_BT[:, :, None], self.branch_BT[:, None, :]
        mask_BTT = causal_TT & ((key_B1T == 0) | (key_B1T == query_BT1))
        if window is not None:
            mask_BTT &= self.positions_BT[:, :, None] - self.positions_BT[:, None, :] < window
        return mask_BTT[:, None]


class Body(nn.Module, ABC):
    """A causal transformer. Rows are padded on the right, so causality alone keeps padding out of every result."""

    width: int
    vocabulary: int
    context: int

    @abstractmethod
    def hidden(self, tokens_BT: Tensor, fork: Fork | None = None) -> Tensor:
        """The last hidden state (B, T, C) at every position, gradients kept."""

    @abstractmethod
    def prefill(self, tokens_T: Tensor) -> tuple[Tensor, KeysValues]:
        """The hidden state (C) after one prompt, and the keys and values to continue from."""

    @abstractmethod
    def step(self, tokens_B: Tensor, cache: SlotCache) -> Tensor:
        """The hidden states (B, C) after one more token in every slot."""

    @abstractmethod
    def logits(self, hidden_NC: Tensor) -> Tensor:
        """Next-token logits (N, V), in the body's own precision."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """How many layers there are."""

    @abstractmethod
    def shallow(self, layers: int) -> Body:
        """A body of the first layers alone, sharing what is frozen."""

    @property
    @abstractmethod
    def trunk(self) -> nn.Module:
        """The layers between embedding and head, which adapters change."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


def forked(rows: Sequence[tuple[Tokens, Sequence[Tokens]]], device: torch.device) -> tuple[Tensor, Fork]:
    """One padded row for each (prompt, replies): the prompt is computed once for all its replies.

    >>> tokens, fork = forked([((7, 8), [(1,), (2, 3)])], torch.device("cpu"))
    >>> tokens.tolist(), fork.positions_BT.tolist(), fork.branch_BT.tolist()
    ([[7, 8, 1, 2, 3]], [[0, 1, 2, 2, 3]], [[0, 0, 1, 2, 2]])
    """
    tokens, positions, branches = [], [], []
    for prompt, replies in rows:
        start = len(prompt)
        tokens.append(tuple(prompt) + tuple(token for reply in replies for token in reply))
        positions.append(tuple(range(start)) + tuple(start + i for reply in replies for i in range(len(reply))))
        branches.append((0,) * start + tuple(n for n, reply in enumerate(replies, 1) for _ in reply))
    return pad(tokens, device), Fork(pad(positions, device), pad(branches, device))


def pad(rows: Sequence[Tokens], device: torch.device) -> Tensor:
    """Rows of tokens, padded on the right with token 0, as one tensor (B, T)."""
    longest = max(len(row) for row in rows)
    return torch.tensor([row + (0,) * (longest - len(row)) for row in rows], dtype=torch.long, device=device)
