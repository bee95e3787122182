"""A backbone with a scalar head: preference models read it at the end of the context, critics at every token.

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
from solon.models.scoring import batch_by_tokens, tokens_per_pass

PREFILL = 1024  # tokens of one forward pass over a shared prefix


class ScalarModel(nn.Module):
    """score = w . hidden + b, in fp32. The head starts at zero, so an untrained model prefers nothing."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.width, 1, device=backbone.device, dtype=torch.float32)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def recompute(self) -> None:
        """See `Backbone.recompute`."""
        self.backbone.recompute()

    def forward(self, call: Callable[[], Any]) -> Any:
        """Return call(). FSDP's hooks on this module run before and after it."""
        return call()

    def copy(self) -> ScalarModel:
        """A copy with trainable tensors of its own; the frozen base is shared."""
        return copy_sharing_frozen(self)

    def scores_per_token(self, tokens_BT: Tensor) -> Tensor:
        """The score at every position, (B, T)."""
        return self.apply_head(self.backbone.hidden(tokens_BT))

    def reply_scores(self, rows: Sequence[tuple[Tokens, Sequence[Tokens]]]) -> Tensor:
        """The score at the last token of every reply of every (prompt, replies), (N,). Each prompt is
        computed once.
        """
        return self.apply_head(self.reply_states(rows))

    def apply_head(self, hidden: Tensor) -> Tensor:
        """The score of each hidden state (..., C), in fp32 also under autocast."""
        with torch.autocast(hidden.device.type, enabled=False):
            return torch.as_tensor(self.head(hidden.float())[..., 0])

    def reply_states(self, rows: Sequence[tuple[Tokens, Sequence[Tokens]]]) -> Tensor:
        """The fp32 hidden states at the last token of every reply, (N, C); see `reply_scores`."""
        tokens_1T, layout = pack_groups(rows, self.backbone.device)
        hidden_1TC = self.backbone.hidden(tokens_1T, layout)
        indices, start = [], 0
        for prompt, replies in rows:
            start += len(prompt)
            for reply in replies:
                start += len(reply)
                indices.append(start - 1)
        return hidden_1TC[0, indices].float()


@torch.inference_mode()
def last_hidden_states(backbone: Backbone, rows: Sequence[Tokens]) -> Tensor:
    """The fp32 hidden state at the last token of every row, (N, C), on the CPU, without gradients. The
    beginning that all rows share is computed once.
    """
    shared = next(
        (index for index, tokens in enumerate(zip(*rows, strict=False)) if len(set(tokens)) > 1),
        min(map(len, rows)),
    )
    shared = min(shared, min(map(len, rows)) - 1)
    prefix = None
    for start in range(0, shared, PREFILL):
        _, prefix = backbone.prefill(
            torch.tensor(rows[0][start : min(start + PREFILL, shared)], device=backbone.device), prefix
        )
    states: dict[int, Tensor] = {}
    for batch in batch_by_tokens(
        [len(row) - shared for row in rows], tokens=tokens_per_pass(backbone.device)
    ):
        tokens_1T, layout = pack_groups([(rows[index][shared:], [()]) for index in batch], backbone.device)
        shifted = replace(layout, positions_BT=layout.positions_BT + shared, prefix=shared)
        hidden_1TC = backbone.hidden(tokens_1T, shifted, prefix)
        ends = torch.tensor([len(rows[index]) - shared for index in batch]).cumsum(0) - 1
        states |= dict(zip(batch, hidden_1TC[0, ends.to(backbone.device)].float().cpu(), strict=True))
    return torch.stack([states[index] for index in range(len(rows))])
