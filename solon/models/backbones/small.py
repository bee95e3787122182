"""A small decoder-only transformer that trains from scratch in seconds; every activation site has a name.

Pre-norm blocks with learned positions, multi-head causal attention and, unless `attention_only`, a
four-times-wide GELU layer. Shapes: B rows, T tokens, C width, H heads, D head width, S positions attended to.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from solon.errors import InputError
from solon.models.adapters import copy_sharing_frozen
from solon.models.backbones.attention import Trees, masked_attention, tree_attention
from solon.models.backbones.backbone import Backbone, TreeLayout, chain_layout
from solon.models.backbones.cache import KeysValues, PrefixCache, SlotCache
from solon.models.backbones.heads import Heads


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a small transformer. Raises InputError unless `width` is a multiple of `heads`."""

    vocabulary: int
    width: int = 128
    layers: int = 2
    heads: int = 4
    context: int = 256
    attention_only: bool = False
    keyed_positions: bool = False
    """add positions to the inputs of queries and keys, not to the stream: values do not contain them"""
    smeared_keys: bool = False
    """each head mixes a token's key with that of the token before, with a learned weight, so that one layer
    can form induction heads
    """

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise InputError(
                f"width {self.width} is not a multiple of {self.heads} heads; choose one that is"
            )

    def as_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


checkpointed = partial(checkpoint, use_reentrant=False)


class Attention(nn.Module):
    """Multi-head causal attention; its output before the output matrix is the site `mixed`."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.heads, self.layer = shape.heads, layer
        self.query = nn.Linear(shape.width, shape.width, bias=False)
        self.key = nn.Linear(shape.width, shape.width, bias=False)
        self.value = nn.Linear(shape.width, shape.width, bias=False)
        self.mixed = nn.Identity()  # site: the outputs of the heads
        self.output = nn.Linear(shape.width, shape.width, bias=False)
        self.smear_H = nn.Parameter(torch.zeros(shape.heads)) if shape.smeared_keys else None

    def forward(
        self,
        x_BTC: Tensor,
        cache: SlotCache | PrefixCache | None,
        mask: Tensor | Trees | None,
        position_TC: Tensor | None = None,
        heads: Heads | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The output (B, T, C), and the layer's own keys and values (B, H, T, D). `position_TC` is added to
        the inputs of queries and keys; `heads` records every head (see `Heads`), without cache and mask.
        """
        rows, tokens, width = x_BTC.shape
        positioned_BTC = x_BTC if position_TC is None else x_BTC + position_TC
        query, key, value = (
            layer(inputs).view(rows, tokens, self.heads, width // self.heads).transpose(1, 2)
            for layer, inputs in (
                (self.query, positioned_BTC),
                (self.key, positioned_BTC),
                (self.value, x_BTC),
            )
        )
        if self.smear_H is not None:
            share = self.smear_H.sigmoid()[:, None, None]
            key = torch.cat([key[:, :, :1], share * key[:, :, 1:] + (1 - share) * key[:, :, :-1]], dim=2)
        if heads is not None:
            mixed = heads.attend(query, key, value, query.shape[-1] ** -0.5)
            return self.output(self.mixed(mixed.transpose(1, 2).reshape(rows, tokens, width))), (key, value)
        if cache is not None:
            key, value = cache.update(key, value, self.layer)
        if isinstance(mask, Trees):
            mixed = tree_attention(query, key, value, mask, query.shape[-1] ** -0.5)
        elif mask is not None:
            mixed = masked_attention(query, key, value, mask, query.shape[-1] ** -0.5)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(self.mixed(mixed.transpose(1, 2).reshape(rows, tokens, width))), (key, value)


class Block(nn.Module):
    """One layer: attention, then the MLP, each added to the residual stream. Its sites are `residual_before`,
    `residual_between` and `residual_after`.
    """

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.residual_before = nn.Identity()  # site
        self.attention_norm = nn.LayerNorm(shape.width)
        self.attention = Attention(shape, layer)
        self.residual_between = nn.Identity()  # site
        self.mlp_norm = None if shape.attention_only else nn.LayerNorm(shape.width)
        self.mlp = None
        if not shape.attention_only:
            wide = 4 * shape.width
            self.mlp = nn.Sequential(nn.Linear(shape.width, wide), nn.GELU(), nn.Linear(wide, shape.width))
        self.residual_after = nn.Identity()  # site

    def forward(
        self,
        x_BTC: Tensor,
        cache: SlotCache | PrefixCache | None,
        mask: Tensor | Trees | None,
        position_TC: Tensor | None = None,
        heads: Heads | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The residual stream after the block (B, T, C), and its keys and values. See `Attention.forward`."""
        x_BTC = self.residual_before(x_BTC)
        output_BTC, keys_values = self.attention(self.attention_norm(x_BTC), cache, mask, position_TC, heads)
        x_BTC = self.residual_between(x_BTC + output_BTC)
        if self.mlp is not None and self.mlp_norm is not None:
            x_BTC = x_BTC + self.mlp(self.mlp_norm(x_BTC))
        return self.residual_after(x_BTC), keys_values


class SmallTransformer(Backbone):
    """The whole small transformer. Weights are drawn from N(0, 0.02) by `seed`, those of the two layers that
    write to the residual stream scaled by 1/sqrt(2 layers); biases are zero.
    """

    def __init__(self, shape: Shape, *, seed: int) -> None:
        super().__init__()
        self.shape = shape
        self.width, self.vocabulary, self.context = shape.width, shape.vocabulary, shape.context
        self.embed = nn.Embedding(shape.vocabulary, shape.width)
        self.position = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.ModuleList(Block(shape, layer) for layer in range(shape.layers))
        self.final_norm = nn.LayerNorm(shape.width)
        self.unembed = nn.Linear(shape.width, shape.vocabulary, bias=False)
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                writes = name.endswith(("attention.output.weight", "mlp.2.weight"))
                scale = 0.02 / math.sqrt(2 * shape.layers) if writes else 0.02
                nn.init.normal_(parameter, std=scale, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    @property
    def depth(self) -> int:
        """The number of layers."""
        return len(self.blocks)

    def first_layers(self, layers: int) -> SmallTransformer:
        """See `Backbone.first_layers`."""
        twin = copy_sharing_frozen(self)
        twin.blocks = twin.blocks[:layers]
        twin.shape = replace(self.shape, layers=layers)
        return twin

    @property
    def trunk(self) -> nn.Module:
        """The blocks, without embedding and head."""
        return self.blocks

    def _run(
        self,
        tokens_BT: Tensor,
        positions: Tensor,
        cache: SlotCache | PrefixCache | None,
        mask: Tensor | Trees | None,
        heads: Heads | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """The last hidden states (B, T, C) and every layer's keys and values."""
        if cache is not None and self.shape.smeared_keys:
            raise InputError(
                "smeared keys need the token before, which a cache does not keep; this model is for "
                "recording heads"
            )
        x_BTC, position = self.embed(tokens_BT), self.position(positions)
        x_BTC, key_position = (x_BTC, position) if self.shape.keyed_positions else (x_BTC + position, None)
        layers = []
        for block in self.blocks:
            # recomputing would record heads twice
            recomputed = self.recomputes and torch.is_grad_enabled() and heads is None
            x_BTC, keys_values = (
                checkpointed(block, x_BTC, cache, mask, key_position)
                if recomputed
                else block(x_BTC, cache, mask, key_position, heads)
            )
            layers.append(keys_values)
        return self.final_norm(x_BTC), layers

    def hidden(
        self, tokens_BT: Tensor, layout: TreeLayout | None = None, prefix: KeysValues | None = None
    ) -> Tensor:
        """See `Backbone.hidden`."""
        if layout is not None:
            return self._run(
                tokens_BT, layout.positions_BT, PrefixCache(prefix or ()), layout.trees() or layout.mask()
            )[0]
        return self._run(tokens_BT, torch.arange(tokens_BT.shape[1], device=tokens_BT.device), None, None)[0]

    def hidden_with_heads(self, tokens_BT: Tensor, heads: Heads) -> Tensor:
        """See `Backbone.hidden_with_heads`."""
        return self._run(
            tokens_BT, torch.arange(tokens_BT.shape[1], device=tokens_BT.device), None, None, heads
        )[0]

    def prefill(self, tokens_T: Tensor, prefix: KeysValues | None = None) -> tuple[Tensor, KeysValues]:
        """See `Backbone.prefill`."""
        if prefix is None:
            hidden_1TC, keys_values = self._run(
                tokens_T[None], torch.arange(len(tokens_T), device=tokens_T.device), None, None
            )
            return hidden_1TC[0], keys_values
        layout = chain_layout(len(tokens_T), prefix[0][0].shape[2], tokens_T.device)
        hidden_1TC, keys_values = self._run(
            tokens_T[None], layout.positions_BT, PrefixCache(prefix), layout.trees() or layout.mask()
        )
        return hidden_1TC[0], keys_values

    def step(self, tokens_B: Tensor, cache: SlotCache) -> Tensor:
        """See `Backbone.step`."""
        mask = cache.begin()
        hidden_B1C, _ = self._run(tokens_B[:, None], cache.lengths_B[:, None], cache, mask)
        cache.end()
        return hidden_B1C[:, 0]

    def logits(self, hidden_NC: Tensor) -> Tensor:
        """See `Backbone.logits`."""
        return torch.as_tensor(self.unembed(hidden_NC))
