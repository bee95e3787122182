"""The part of a language model that all the rest stands on: tokens to hidden states, hidden states to logits.

Shapes: B rows, T tokens, C channels (width), V vocabulary, N any number of positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from solon.errors import InputError
from solon.models.backbones.attention import Trees, tree_block_mask
from solon.models.backbones.cache import KeysValues, SlotCache
from solon.models.backbones.heads import Heads
from solon.models.base import Tokens
from solon.pool.workers import worker_index


def fast_precision() -> torch.dtype:
    """bfloat16 where the processor computes in it, else float32."""
    native = (
        torch.cuda.is_available()
        or torch.cpu._is_avx512_bf16_supported()
        or torch.cpu._is_amx_tile_supported()
    )
    return torch.bfloat16 if native else torch.float32


def default_device() -> torch.device:
    """Where a model stands unless told otherwise: on the accelerator, of several that of this pool's worker
    or torchrun's process.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number = worker_index()
    return torch.device(
        "cuda", torch.cuda.current_device() if number is None else number % torch.cuda.device_count()
    )


@dataclass(frozen=True, slots=True)
class TreeLayout:
    """Where rows hold trees of tokens: each token sees its ancestors and itself. Two replies behind one
    prompt are one.

    `positions_BT` are depths in the tree, those of `prefix` tokens before the row included; `ends_BT` is one
    past the last place below each token. A token of padding (end 0) is seen by no other. Where one row holds
    several trees that stand side by side, `lengths` says how long each is, and attention is computed tree by
    tree: no padding, and none of what no one sees.
    """

    positions_BT: Tensor
    ends_BT: Tensor
    prefix: int = 0
    lengths: tuple[int, ...] = ()

    def mask(self, window: int | None = None) -> Tensor:
        """What each position sees, (B, 1, T, prefix + T), true where seen."""
        rows, tokens = self.ends_BT.shape
        place_T = torch.arange(tokens, device=self.ends_BT.device)
        itself_TT = place_T[:, None] == place_T[None, :]
        mask_BTS = (
            (place_T[:, None] >= place_T[None, :]) & (place_T[:, None] < self.ends_BT[:, None, :])
        ) | itself_TT
        if self.prefix:
            mask_BTS = torch.cat([mask_BTS.new_ones(rows, tokens, self.prefix), mask_BTS], dim=-1)
        if window is not None:
            before_P = torch.arange(self.prefix, device=place_T.device).expand(rows, -1)
            key_BS = torch.cat([before_P, self.positions_BT], dim=-1)
            mask_BTS &= self.positions_BT[:, :, None] - key_BS[:, None, :] < window
        return mask_BTS[:, None]

    def trees(self, window: int | None = None, *, width: int = 0) -> Trees | None:
        """What `tree_attention` needs for heads of that width; None where rows are not cut into trees. On an
        accelerator that is a block mask of the whole row (whose kernel takes heads of 16 and more), else the
        mask of each tree, (t, prefix + t).
        """
        if not self.lengths:
            return None
        if self.ends_BT.device.type != "cpu" and width >= 16:
            return Trees(
                self.lengths,
                self.prefix,
                [],
                tree_block_mask(self.ends_BT[0], self.positions_BT[0], self.prefix, window),
            )
        masks, start = [], 0
        for tokens in self.lengths:
            span = slice(start, start + tokens)
            masks.append(
                TreeLayout(self.positions_BT[:, span], self.ends_BT[:, span] - start, self.prefix).mask(
                    window
                )[0, 0]
            )
            start += tokens
        return Trees(self.lengths, self.prefix, masks)


class Backbone(nn.Module, ABC):
    """A causal transformer. Rows are padded on the right, so causality alone keeps padding out of every
    result.
    """

    width: int
    vocabulary: int
    context: int

    recomputes: bool = False

    def recompute(self) -> None:
        """From now on training keeps what stands between layers and computes the rest again: less memory, a
        third more work.
        """
        self.recomputes = True

    def forward(self, call: Callable[[], Any]) -> Any:
        """`call()`. Hooks on this module (those of sharded weights) see it begin and end."""
        return call()

    @abstractmethod
    def hidden(
        self, tokens_BT: Tensor, fork: TreeLayout | None = None, prefix: KeysValues | None = None
    ) -> Tensor:
        """The last hidden state (B, T, C) at every position, gradients kept. With `prefix`, every row goes on
        from its `fork.prefix` tokens.
        """

    def hidden_with_heads(self, tokens_BT: Tensor, heads: Heads) -> Tensor:
        """The same with every head looked at, or held (see `Heads`): slower. Raises InputError where a body
        cannot.
        """
        raise InputError(f"the heads of {type(self).__name__} cannot be looked into")

    @abstractmethod
    def prefill(self, tokens_T: Tensor, prefix: KeysValues | None = None) -> tuple[Tensor, KeysValues]:
        """The hidden states (T, C) of one run of tokens, and the keys and values to continue from, those of
        `prefix` included.
        """

    @abstractmethod
    def step(self, tokens_B: Tensor, cache: SlotCache) -> Tensor:
        """The hidden states (B, C) after one more token in every slot of a cache that has room for it."""

    def stepper(self) -> Callable[[Tensor, SlotCache], Tensor]:
        """The logits (B, V) after one more token in every slot, by `step` or by something faster that
        computes the same with the weights as they are now.
        """
        return lambda tokens_B, cache: self.logits(self.step(tokens_B, cache))

    @abstractmethod
    def logits(self, hidden_NC: Tensor) -> Tensor:
        """Next-token logits (N, V), in the body's own precision."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """How many layers there are."""

    @abstractmethod
    def first_layers(self, layers: int) -> Backbone:
        """A body of the first layers alone, sharing what is frozen."""

    @property
    @abstractmethod
    def trunk(self) -> nn.Module:
        """The layers between embedding and head, which adapters change."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


def pack_groups(
    rows: Sequence[tuple[Tokens, Sequence[Tokens]]], device: torch.device
) -> tuple[Tensor, TreeLayout]:
    """All (prompt, replies) side by side in one row, each prompt computed once for all its replies.

    >>> tokens, fork = pack_groups([((7, 8), [(1,), (2, 3)]), ((9,), [(4,)])], torch.device("cpu"))
    >>> tokens.tolist(), fork.positions_BT.tolist(), fork.ends_BT.tolist(), fork.lengths
    ([[7, 8, 1, 2, 3, 9, 4]], [[0, 1, 2, 2, 3, 0, 1]], [[5, 5, 3, 5, 5, 7, 7]], (5, 2))
    """
    tokens, positions, ends, lengths = list[int](), list[int](), list[int](), list[int]()
    for prompt, replies in rows:
        first = len(tokens)
        start = first + len(prompt)
        stops = [start + stop for stop in accumulate(len(reply) for reply in replies)]
        tokens += [*prompt, *(token for reply in replies for token in reply)]
        positions += [*range(len(prompt)), *(len(prompt) + i for reply in replies for i in range(len(reply)))]
        ends += [len(tokens)] * len(prompt) + [
            stop for reply, stop in zip(replies, stops, strict=True) for _ in reply
        ]
        lengths.append(len(tokens) - first)
    tokens_1T, positions_1T, ends_1T = torch.tensor([tokens, positions, ends], device=device)[:, None]
    return tokens_1T, TreeLayout(positions_1T, ends_1T, lengths=tuple(lengths))


def pad(rows: Sequence[Tokens], device: torch.device) -> Tensor:
    """Rows of tokens, padded on the right with token 0, as one tensor (B, T)."""
    longest = max(len(row) for row in rows)
    return torch.tensor([row + (0,) * (longest - len(row)) for row in rows], dtype=torch.long, device=device)


def chain_layout(tokens: int, prefix: int, device: torch.device) -> TreeLayout:
    """One row without a branch, behind a prefix."""
    places_1T = torch.arange(tokens, device=device)[None]
    return TreeLayout(places_1T + prefix, torch.full_like(places_1T, tokens), prefix, (tokens,))
