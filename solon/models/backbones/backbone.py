"""The transformer under a language model: tokens to hidden states, hidden states to logits.

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
    """The device of a model unless another is given: the accelerator if there is one.

    Of several it is that of this pool worker (see `worker_index`) or of this torchrun process.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    worker = worker_index()
    return torch.device(
        "cuda", torch.cuda.current_device() if worker is None else worker % torch.cuda.device_count()
    )


@dataclass(frozen=True, slots=True)
class TreeLayout:
    """Rows that contain trees of tokens: each token attends to its ancestors and itself.

    `positions_BT` are depths in the tree, counted from the `prefix` tokens before the row. `ends_BT` is
    the index one past the last descendant of each token, 0 for padding. Where one row contains several
    trees side by side, `lengths` are their tokens, and attention is computed tree by tree, without
    padding. A prompt with several replies is a tree.
    """

    positions_BT: Tensor
    ends_BT: Tensor
    prefix: int = 0
    lengths: tuple[int, ...] = ()

    def mask(self, window: int | None = None) -> Tensor:
        """The mask (B, 1, T, prefix + T), true where a token is attended to; with `window`, only
        positions less than `window` back.
        """
        rows, tokens = self.ends_BT.shape
        index_T = torch.arange(tokens, device=self.ends_BT.device)
        same_TT = index_T[:, None] == index_T[None, :]
        mask_BTS = (
            (index_T[:, None] >= index_T[None, :]) & (index_T[:, None] < self.ends_BT[:, None, :])
        ) | same_TT
        if self.prefix:
            mask_BTS = torch.cat([mask_BTS.new_ones(rows, tokens, self.prefix), mask_BTS], dim=-1)
        if window is not None:
            before_P = torch.arange(self.prefix, device=index_T.device).expand(rows, -1)
            key_BS = torch.cat([before_P, self.positions_BT], dim=-1)
            mask_BTS &= self.positions_BT[:, :, None] - key_BS[:, None, :] < window
        return mask_BTS[:, None]

    def trees(self, window: int | None = None, *, width: int = 0) -> Trees | None:
        """The masks for `tree_attention` with heads of `width`; None where rows do not consist of
        `lengths`.

        On an accelerator that is a block mask of the whole row (its kernel needs heads of 16 and more),
        else one mask (t, prefix + t) for each tree.
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
    """A causal transformer without its sampling loop. Rows are padded on the right, so causality alone
    keeps padding out of every result.

    `width` is C, `vocabulary` V, `context` the most positions a row may have.
    """

    width: int
    vocabulary: int
    context: int

    recomputes: bool = False

    def recompute(self) -> None:
        """Turn on activation checkpointing in training: less memory, a third more computation."""
        self.recomputes = True

    def forward(self, call: Callable[[], Any]) -> Any:
        """Return call(). FSDP's hooks on this module run before and after it."""
        return call()

    @abstractmethod
    def hidden(
        self, tokens_BT: Tensor, layout: TreeLayout | None = None, prefix: KeysValues | None = None
    ) -> Tensor:
        """The last hidden states (B, T, C), with gradients. `layout` says what tokens attend to (default:
        all before). With `prefix`, every row continues from the keys and values of `layout.prefix`
        tokens.
        """

    def hidden_with_heads(self, tokens_BT: Tensor, heads: Heads) -> Tensor:
        """The last hidden states (B, T, C), with every head recorded or changed as `heads` says; slower.
        Raises InputError where the architecture cannot.
        """
        raise InputError(f"the heads of {type(self).__name__} cannot be looked into")

    @abstractmethod
    def prefill(self, tokens_T: Tensor, prefix: KeysValues | None = None) -> tuple[Tensor, KeysValues]:
        """The hidden states (T, C) of one sequence, and its keys and values to continue from, those of
        `prefix` included.
        """

    @abstractmethod
    def step(self, tokens_B: Tensor, cache: SlotCache) -> Tensor:
        """The hidden states (B, C) after one more token in every slot of a cache that has room for it
        (see `SlotCache.grow`).
        """

    def stepper(self) -> Callable[[Tensor, SlotCache], Tensor]:
        """A function that returns the logits (B, V) after one more token in every slot: `step`, or a
        faster one that computes the same with the current weights.
        """
        return lambda tokens_B, cache: self.logits(self.step(tokens_B, cache))

    @abstractmethod
    def logits(self, hidden_NC: Tensor) -> Tensor:
        """Next-token logits (N, V), in the precision of the weights."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """The number of layers."""

    @abstractmethod
    def first_layers(self, layers: int) -> Backbone:
        """A backbone of the first `layers` layers, which shares frozen tensors with this one."""

    @property
    @abstractmethod
    def trunk(self) -> nn.Module:
        """The layers between embedding and head; adapters go here."""

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device


def pack_groups(
    rows: Sequence[tuple[Tokens, Sequence[Tokens]]], device: torch.device
) -> tuple[Tensor, TreeLayout]:
    """Pack (prompt, replies) groups side by side in one row: tokens (1, T) and their layout. Each prompt
    is computed once for all its replies.

    >>> tokens, layout = pack_groups([((7, 8), [(1,), (2, 3)]), ((9,), [(4,)])], torch.device("cpu"))
    >>> tokens.tolist(), layout.positions_BT.tolist(), layout.ends_BT.tolist(), layout.lengths
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
    """Rows of tokens as one tensor (B, T), padded on the right with token 0."""
    longest = max(len(row) for row in rows)
    return torch.tensor([row + (0,) * (longest - len(row)) for row in rows], dtype=torch.long, device=device)


def chain_layout(tokens: int, prefix: int, device: torch.device) -> TreeLayout:
    """The layout of one row of `tokens` tokens without branches, after `prefix` tokens."""
    index_1T = torch.arange(tokens, device=device)[None]
    return TreeLayout(index_1T + prefix, torch.full_like(index_1T, tokens), prefix, (tokens,))
