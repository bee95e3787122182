"""A body with one number on top: preference models read it at the end of the context, critics at every token.

Shapes: B rows, T tokens, C width, N replies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from solon.models.adapters import copy_sharing_frozen
from solon.models.backbones.backbone import Backbone, pack_groups
from solon.models.base import Tokens
from solon.models.scoring import BATCH_TOKENS, batch_by_tokens

PREFILL = 1024  # tokens of one forward pass of what rows share


class ScalarModel(nn.Module):
    """score = w . hidden + b, in fp32. The head starts at zero, so an untrained model prefers nothing."""

    def __init__(self, body: Backbone) -> None:
        super().__init__()
        self.backbone = body
        self.head = nn.Linear(body.width, 1, device=body.device, dtype=torch.float32)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def recompute(self) -> None:
        """See `Backbone.recompute`."""
        self.backbone.recompute()

    def forward(self, call: Callable[[], Any]) -> Any:
        """`call()`. Hooks on this module (those of sharded weights) see it begin and end."""
        return call()

    def copy(self) -> ScalarModel:
        """The same model with its own trainable tensors; the frozen base is shared."""
        return copy_sharing_frozen(self)

    def scores_per_token(self, tokens_BT: Tensor) -> Tensor:
        """The number at every position, (B, T)."""
        return self.apply_head(self.backbone.hidden(tokens_BT))

    def reply_scores(self, rows: Sequence[tuple[Tokens, Sequence[Tokens]]]) -> Tensor:
        """The number at the last token of every reply of every (prompt, replies), (N,): the prompt is
        computed once.
        """
        return self.apply_head(self.reply_states(rows))

    def apply_head(self, hidden: Tensor) -> Tensor:
        """The number on each hidden state (..., C), in fp32 also where autocast computes the body in less."""
        with torch.autocast(hidden.device.type, enabled=False):
            return torch.as_tensor(self.head(hidden.float())[..., 0])

    def reply_states(self, rows: Sequence[tuple[Tokens, Sequence[Tokens]]]) -> Tensor:
        """The fp32 hidden states that the head reads there, (N, C)."""
        tokens_1T, fork = pack_groups(rows, self.backbone.device)
        hidden_1TC = self.backbone.hidden(tokens_1T, fork)
        places, start = [], 0
        for prompt, replies in rows:
            start += len(prompt)
            for reply in replies:
                start += len(reply)
                places.append(start - 1)
        return hidden_1TC[0, places].float()


@torch.inference_mode()
def last_hidden_states(body: Backbone, rows: Sequence[Tokens]) -> Tensor:
    """The fp32 hidden state at the last token of every row, (N, C), on the CPU. What all rows begin with is
    computed once.
    """
    shared = next(
        (place for place, tokens in enumerate(zip(*rows, strict=False)) if len(set(tokens)) > 1),
        min(map(len, rows)),
    )
    shared = min(shared, min(map(len, rows)) - 1)
    prefix = None
    for start in range(0, shared, PREFILL):
        _, prefix = body.prefill(
            torch.tensor(rows[0][start : min(start + PREFILL, shared)], device=body.device), prefix
        )
    found: dict[int, Tensor] = {}
    for batch in batch_by_tokens([len(row) - shared for row in rows], tokens=BATCH_TOKENS):
        tokens_1T, fork = pack_groups([(rows[place][shared:], [()]) for place in batch], body.device)
        behind = replace(fork, positions_BT=fork.positions_BT + shared, prefix=shared)
        hidden_1TC = body.hidden(tokens_1T, behind, prefix)
        ends = torch.tensor([len(rows[place]) - shared for place in batch]).cumsum(0) - 1
        found |= dict(zip(batch, hidden_1TC[0, ends.to(body.device)].float().cpu(), strict=True))
    return torch.stack([found[place] for place in range(len(rows))])
