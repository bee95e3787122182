"""Attention under a mask as two plain matrix products.

Fused kernels split the keys by the length of the longest row in the batch, so their rounding moves with it and a
sampled reply would depend on its neighbours. Two plain products do not (tests/test_models.py, tests/test_smollm2.py). On CPU they are also
about twice as fast as the fused kernel, backward included, at the few hundred tokens of a dialogue.

Shapes: B rows, Q query heads, H key heads, G = Q / H, T queries, S keys, D head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "solon"
LONGEST = 1024  # above this many keys the T x S scores cost more memory than they save time


def masked_attention(query_BQTD: Tensor, key_BHSD: Tensor, value_BHSD: Tensor, mask_B1TS: Tensor, scale: float) -> Tensor:
    """softmax(scale * q k) v over the keys the mask shows, the softmax in fp32; (B, Q, T, D)."""
    rows, queries, tokens, width = query_BQTD.shape
    heads, seen = key_BHSD.shape[1:3]
    query = query_BQTD.reshape(rows, heads, queries // heads * tokens, width)
    scores_BQTS = (query @ key_BHSD.transpose(-1, -2)).view(rows, queries, tokens, seen) * scale
    weights_BQTS = scores_BQTS.masked_fill(~mask_B1TS, float("-inf")).softmax(-1, dtype=torch.float32).to(value_BHSD.dtype)
    return (weights_BQTS.view(rows, heads, -1, seen) @ value_BHSD).view(rows, queries, tokens, width)


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float | None = None, **kwargs: Any
) -> tuple[Tensor, None]:
    """transformers' attention interface: our own under a mask and few keys, theirs everywhere else."""
    few = query.shape[2] == 1 or (key.shape[2] <= LONGEST and query.device.type == "cpu")
    plain = kwargs.get("position_bias") is None and kwargs.get("softcap") is None
    if attention_mask is not None and attention_mask.dtype == torch.bool and few and plain:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        return masked_attention(query, key, value, attention_mask, scale).transpose(1, 2).contiguous(), None
    found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    return found


def register() -> str:
    """Make the above known to transformers; returns the name to ask for it by. Harmless to repeat."""
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME
