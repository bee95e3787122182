"""What attention heads do in one pass: their patterns read, or held as they were while single heads are
silenced.

Shapes: B rows, H heads, T tokens, D head width, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from solon.errors import InputError


@dataclass(slots=True)
class Heads:
    """Given to one forward pass, and filled by it. With `frozen` patterns heads attend as these say, whatever
    comes in; a head that is `ablated` (layer and head, both from 0) gathers nothing.
    """

    frozen: Sequence[Tensor] | None = None
    ablated: frozenset[tuple[int, int]] = frozenset()
    patterns_BHTT: list[Tensor] = field(default_factory=list)  # of each layer
    # what each head gathered, before the output matrix
    mixed_BHTD: list[Tensor] = field(default_factory=list)

    def attend(
        self,
        query_BHTD: Tensor,
        key_BHTD: Tensor,
        value_BHTD: Tensor,
        scale: float,
        mask_BHTT: Tensor | None = None,
    ) -> Tensor:
        """One layer's attention, softmax in float32, (B, H, T, D). Keys and values may be of fewer heads.
        Layers come in their order. Without a mask (true or 0 where seen) each token sees those before and
        itself.
        """
        layer, groups = len(self.patterns_BHTT), query_BHTD.shape[1] // key_BHTD.shape[1]
        key, value = (
            own.repeat_interleave(groups, dim=1) if groups > 1 else own for own in (key_BHTD, value_BHTD)
        )
        if self.frozen is not None:
            pattern = self.frozen[layer]
        else:
            scores = (query_BHTD @ key.transpose(-1, -2)).float() * scale
            if mask_BHTT is None:
                tokens = scores.shape[-1]
                scores = scores.masked_fill(
                    torch.ones(tokens, tokens, dtype=torch.bool, device=scores.device).triu(1), float("-inf")
                )
            elif mask_BHTT.dtype is torch.bool:
                scores = scores.masked_fill(~mask_BHTT, float("-inf"))
            else:
                scores = scores + mask_BHTT
            pattern = scores.softmax(dim=-1)
        mixed = pattern.to(value.dtype) @ value
        for own_layer, head in self.ablated:
            if own_layer == layer:
                mixed = mixed.index_fill(1, torch.tensor([head], device=mixed.device), 0.0)
        self.patterns_BHTT.append(pattern)
        self.mixed_BHTD.append(mixed)
        return mixed


OUTPUT_MATRICES = (
    "attention.output",
    "self_attn.o_proj",
    "attn.c_proj",
    "attention.dense",
    "self_attn.dense",
    "self_attn.out_proj",
)


def head_contributions(layer: nn.Module, mixed_BHTD: Tensor) -> Tensor:
    """What each head of a layer writes to the residual stream, (B, H, T, C), the output's bias left out;
    where a norm stands behind attention (Gemma), up to one factor for each head and token. Raises InputError
    where the output matrix is not found.
    """
    known = dict(layer.named_modules())
    found: Any = next((known[name] for name in OUTPUT_MATRICES if name in known), None)
    if found is None:
        raise InputError(
            f"no output matrix of attention in {type(layer).__name__} among {', '.join(OUTPUT_MATRICES)}"
        )
    # GPT-2 keeps it the other way round
    weight_CI = found.weight if isinstance(found, nn.Linear) else found.weight.T
    heads, width = mixed_BHTD.shape[1], mixed_BHTD.shape[-1]
    weight_CHD = weight_CI.detach().view(-1, heads, width).to(mixed_BHTD.dtype)
    written_BHTC = torch.einsum("bhtd,chd->bhtc", mixed_BHTD, weight_CHD)
    after: Any = (
        getattr(layer, "post_attention_layernorm", None)
        if hasattr(layer, "pre_feedforward_layernorm")
        else None
    )
    return written_BHTC if after is None else torch.as_tensor(after(written_BHTC))
