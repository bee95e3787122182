"""Attention under a mask as two plain matrix products; on accelerators, rows of trees by one fused kernel
over a block mask.

Fused kernels split the keys by the length of the longest row in the batch, so their rounding changes with
it and a sampled reply would depend on its neighbours. Two plain products do not
(tests/models/test_models.py, tests/models/test_smollm2.py). On CPU they are also about twice as fast as
the fused kernel, backward included, at the few hundred tokens of a dialogue. An accelerator needs one
large kernel instead of many small ones: there all trees of a row are one call of flex attention, which
skips the blocks of the T x S scores that no token attends to.

Shapes: B rows, Q query heads, H key heads, G = Q / H, T queries, S keys, D head width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from solon.errors import InputError
from solon.models.backbones.heads import Heads


@dataclass(frozen=True, slots=True)
class Trees:
    """The attention masks of one row that contains several trees of tokens, independent of each other.

    `lengths` are the tokens of each tree, `prefix` the number of keys that come before all trees. `masks`
    has one mask (t, prefix + t) for each tree, true where a token is attended to; or `blocks` is the mask
    of the whole row.
    """

    lengths: tuple[int, ...]
    prefix: int
    masks: list[Tensor]
    blocks: BlockMask | None = None


NAME = "solon"
RECOMPILE_LIMIT = 64
MAX_KEYS = 1024  # above this many keys the T x S scores cost more memory than they save time


def masked_attention(
    query_BQTD: Tensor, key_BHSD: Tensor, value_BHSD: Tensor, mask_B1TS: Tensor, scale: float
) -> Tensor:
    """softmax(scale * q k) v over the keys where the mask is true, (B, Q, T, D). The softmax is in fp32."""
    rows, queries, tokens, width = query_BQTD.shape
    heads, seen = key_BHSD.shape[1:3]
    query = (query_BQTD * scale).reshape(rows, heads, queries // heads * tokens, width)
    scores_BQTS = (query @ key_BHSD.transpose(-1, -2)).view(rows, queries, tokens, seen)
    # also of bf16 scores the softmax is computed in fp32
    weights_BQTS = scores_BQTS.masked_fill_(~mask_B1TS, float("-inf")).softmax(-1)
    return (weights_BQTS.view(rows, heads, -1, seen) @ value_BHSD).view(rows, queries, tokens, width)


def tree_attention(
    query_1QTD: Tensor, key_1HSD: Tensor, value_1HSD: Tensor, trees: Trees, scale: float
) -> Tensor:
    """`masked_attention` of one row of trees, tree by tree or in one kernel, (1, Q, T, D)."""
    if trees.blocks is not None:
        return block_attention(query_1QTD, key_1HSD, value_1HSD, trees.blocks, scale)
    outputs, start = [], 0
    for tokens, mask in zip(trees.lengths, trees.masks, strict=True):
        first = trees.prefix + start
        key, value = (part[:, :, first : first + tokens] for part in (key_1HSD, value_1HSD))
        if trees.prefix:
            key = torch.cat([key_1HSD[:, :, : trees.prefix], key], dim=2)
            value = torch.cat([value_1HSD[:, :, : trees.prefix], value], dim=2)
        query = query_1QTD[:, :, start : start + tokens]
        if key.shape[2] > MAX_KEYS:
            outputs.append(
                F.scaled_dot_product_attention(
                    query, key, value, attn_mask=mask[None, None], scale=scale, enable_gqa=True
                )
            )
        else:
            outputs.append(masked_attention(query, key, value, mask[None, None], scale))
        start += tokens
    return torch.cat(outputs, dim=2)


def tree_block_mask(ends_T: Tensor, positions_T: Tensor, prefix: int, window: int | None) -> BlockMask:
    """The mask of one row of trees (see `TreeLayout`) for flex attention, which skips empty blocks.

    `ends_T` and `positions_T` are those of the layout, `prefix` the number of keys before the row; with
    `window`, tokens attend only to positions less than `window` back.
    """
    # a tensor: a Python number would be compiled in, once for each value
    tokens, before = len(ends_T), torch.tensor(prefix, device=ends_T.device)

    def attends(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        index = (key - before).clamp(min=0)
        visible = (key < before) | ((query >= index) & (query < ends_T[index])) | (query == key - before)
        if window is None:
            return visible
        position = torch.where(key < before, key, positions_T[index])
        return visible & (positions_T[query] - position < window)

    return create_block_mask(attends, None, None, tokens, prefix + tokens, device=ends_T.device)


@cache
def compiled_flex_attention() -> Callable[..., Any]:
    """Return flex attention as one kernel for rows of any length. It is compiled again by precision,
    gradients, windows and prefixes: more often than torch's limit of 8, past which all scores are made at
    once.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILE_LIMIT)
    # the kernel for short rows does not compile where queries times queries a key are above 128
    return partial(torch.compile(flex_attention, dynamic=True), kernel_options={"BACKEND": "TRITON"})


def block_attention(
    query_1QTD: Tensor, key_1HSD: Tensor, value_1HSD: Tensor, blocks: BlockMask, scale: float
) -> Tensor:
    """Flex attention under a block mask, (1, Q, T, D): compiled on an accelerator, the reference
    implementation on CPU.
    """
    kernel: Any = flex_attention if query_1QTD.device.type == "cpu" else compiled_flex_attention()
    return torch.as_tensor(
        kernel(query_1QTD, key_1HSD, value_1HSD, block_mask=blocks, scale=scale, enable_gqa=True)
    )


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention by transformers' interface: ours under a boolean mask and few keys, sdpa everywhere else.

    `solon_trees` are the trees of layers with full attention and of layers with a sliding window; with
    `solon_heads` every head is recorded (see `Heads`). Returns the output (B, T, Q, D) and no weights.
    Raises InputError where heads cannot be recorded.
    """
    heads: Heads | None = kwargs.pop("solon_heads", None)
    if heads is not None:
        if kwargs.get("position_bias") is not None or kwargs.get("softcap") is not None:
            raise InputError("heads with a bias by position or capped scores cannot be recorded")
        mixed = heads.attend(
            query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling, attention_mask
        )
        return mixed.transpose(1, 2).contiguous(), None
    trees: tuple[Trees, Trees] | None = kwargs.pop("solon_trees", None)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    few = query.shape[2] == 1 or (key.shape[2] <= MAX_KEYS and query.device.type == "cpu")
    plain = kwargs.get("position_bias") is None and kwargs.get("softcap") is None
    if trees is not None and plain:
        layer_trees = trees[kwargs.get("sliding_window") is not None]
        return tree_attention(query, key, value, layer_trees, scale).transpose(1, 2).contiguous(), None
    if attention_mask is not None and attention_mask.dtype == torch.bool and few and plain:
        return masked_attention(query, key, value, attention_mask, scale).transpose(1, 2).contiguous(), None
    result: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **kwargs
    )
    return result


def register_attention() -> str:
    """Register `attention` with transformers and return its name there. Harmless to repeat."""
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME
