"""Attention heads in one forward pass: their patterns recorded or frozen, single heads ablated.

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
    """Passed to one forward pass (`Backbone.hidden_with_heads`), which appends every layer's patterns and
    outputs.

    With `frozen`, heads use these patterns (B, H, T, T) of every layer instead of their own. The output
    of an `ablated` head (layer and head, from 0) is zero.
    """

    frozen: Sequence[Tensor] | None = None
    ablated: frozenset[tuple[int, int]] = frozenset()
    patterns_BHTT: list[Tensor] = field(default_factory=list)  # of each layer
    # of each layer, the heads' outputs before the output matrix
    mixed_BHTD: list[Tensor] = field(default_factory=list)

    def attend(
        self,
        query_BHTD: Tensor,
        key_BHTD: Tensor,
        value_BHTD: Tensor,
        scale: float,
        mask_BHTT: Tensor | None = None,
    ) -> Tensor:
        """The attention of the next layer, (B, H, T, D), with the softmax in fp32; layers call in order.

        Keys and values may have fewer heads than queries. `mask_BHTT` is boolean (true where attended to)
        or additive; without one, attention is causal.
        """
        layer, groups = len(self.patterns_BHTT), query_BHTD.shape[1] // key_BHTD.shape[1]
        key, value = (
            part.repeat_interleave(groups, dim=1) if groups > 1 else part for part in (key_BHTD, value_BHTD)
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
        for ablated_layer, head in self.ablated:
            if ablated_layer == layer:
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
    """What each head of a layer adds to the residual stream, (B, H, T, C), without the output's bias.

    `mixed_BHTD` are the layer's outputs in `Heads`. Where a norm follows attention (Gemma), the result is
    right up to one factor for each head and token. Raises InputError where the output matrix has an
    unknown name.
    """
    known = dict(layer.named_modules())
    output: Any = next((known[name] for name in OUTPUT_MATRICES if name in known), None)
    if output is None:
        raise InputError(
            f"no output matrix of attention in {type(layer).__name__} among {', '.join(OUTPUT_MATRICES)}"
        )
    # GPT-2 stores the transpose
    weight_CI = output.weight if isinstance(output, nn.Linear) else output.weight.T
    heads, width = mixed_BHTD.shape[1], mixed_BHTD.shape[-1]
    weight_CHD = weight_CI.detach().view(-1, heads, width).to(mixed_BHTD.dtype)
    contributions_BHTC = torch.einsum("bhtd,chd->bhtc", mixed_BHTD, weight_CHD)
    norm: Any = known.get("post_attention_layernorm") if "pre_feedforward_layernorm" in known else None
    return contributions_BHTC if norm is None else torch.as_tensor(norm(contributions_BHTC))
