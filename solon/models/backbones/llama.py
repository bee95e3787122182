"""A Llama-shaped model in few, large operations: rows of trees, with gradients, and one decoding step.

A decoding step of 32 rows is bound by reading the weights, so all else must be cheap: query, key and value
are one product there, gate and up another. The results are those of `transformers`
(tests/models/test_huggingface.py).

Shapes: T tokens of one row, B slots, C width, H key heads, G query heads a key head, D head width, S
positions, F gate width, O and I outputs and inputs, R rank of all adapters together, X heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from solon.models.adapters import LoraLinear
from solon.models.backbones.attention import Trees, tree_attention
from solon.models.backbones.backbone import TreeLayout
from solon.models.backbones.cache import KeysValues, SlotCache


@dataclass(frozen=True, slots=True)
class FusedLinear:
    """Several linear layers over one input as one product, and their adapters as two small ones."""

    weight_OI: Tensor  # in oneDNN's layout where `packed`: a third faster at the few rows of a step
    down_RI: Tensor | None = None
    up_OR: Tensor | None = None
    packed: bool = False

    def __call__(self, x_BI: Tensor) -> Tensor:
        """The outputs (B, O) of all layers, concatenated, on x (B, I)."""
        y_BO = (
            torch.ops.mkldnn._linear_pointwise(x_BI, self.weight_OI, None, "none", [], "")
            if self.packed
            else F.linear(x_BI, self.weight_OI)
        )
        return (
            y_BO
            if self.down_RI is None or self.up_OR is None
            else y_BO + F.linear(F.linear(x_BI, self.down_RI), self.up_OR)
        )


def fuse(layers: Sequence[Any]) -> FusedLinear:
    """Fuse linear layers without bias; either all have adapters or none has."""
    weights = [layer.base.weight if isinstance(layer, LoraLinear) else layer.weight for layer in layers]
    weight_OI = torch.cat(weights) if len(weights) > 1 else weights[0]
    packs = (
        weight_OI.device.type == "cpu"
        and weight_OI.dtype is torch.bfloat16
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    packed_OI = torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach(), SLOTS) if packs else weight_OI
    if not isinstance(layers[0], LoraLinear):
        return FusedLinear(packed_OI, packed=packs)
    up_OR = torch.block_diag(*(layer.up_OR * layer.scale for layer in layers))
    return FusedLinear(
        packed_OI,
        torch.cat([layer.down_RI for layer in layers]).to(weight_OI.dtype),
        up_OR.to(weight_OI.dtype),
        packs,
    )


@dataclass(frozen=True, slots=True)
class FusedLayer:
    """One transformer layer, its weights fused for a decoding step."""

    attention_norm_C: nn.Parameter
    mlp_norm_C: nn.Parameter
    query_key_value: FusedLinear
    output: FusedLinear
    gate_up: FusedLinear
    down: FusedLinear


SLOTS = 32  # rows that the layout of packed weights is optimised for
# above, reading the weights takes so long that fewer operations are not worth a fused copy of them
MAX_PARAMETERS = 1.5e9


def supports(module: Any) -> bool:
    """Whether a transformers model can be computed by this file: Llama's architecture without biases, and
    without hooks, which would not be called.
    """
    config = module.config
    llama = config.model_type == "llama" and config.hidden_act == "silu"
    plain = not getattr(config, "attention_bias", False) and not getattr(config, "mlp_bias", False)
    hooked = any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    return bool(llama and plain and not hooked)


class RMSNorm(torch.autograd.Function):
    """Root-mean-square norm of the residual stream, computed in fp32 and returned in `dtype`."""

    @staticmethod
    def forward(ctx: Any, x_1TC: Tensor, weight_C: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        """The normed stream (1, T, C)."""
        inverse_1T1 = inverse_rms(x_1TC, epsilon)
        ctx.save_for_backward(x_1TC, weight_C, inverse_1T1)
        return (x_1TC * inverse_1T1).mul_(weight_C).to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the stream and, where it trains, of the weight."""
        x_1TC, weight_C, inverse_1T1 = ctx.saved_tensors
        unit, gradient = x_1TC.float() * inverse_1T1, gradients[0].float()
        weight = (gradient * unit).sum((0, 1)).to(weight_C.dtype) if ctx.needs_input_grad[1] else None
        gradient = gradient * weight_C
        along = (gradient * unit).mean(-1, keepdim=True)
        return gradient.sub_(unit.mul_(along)).mul_(inverse_1T1).to(x_1TC.dtype), weight, None, None


def inverse_rms(x: Tensor, epsilon: float) -> Tensor:
    """1 / sqrt(mean square + epsilon) over the last dimension, kept, in fp32."""
    squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square_()
    return torch.as_tensor(squares.div_(x.shape[-1]).add_(epsilon).rsqrt_())


class Rotary(torch.autograd.Function):
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864) of heads (1, T, X, D). cos and sin are (1,
    T, 1, D/2): both halves are alike.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The rotated heads."""
        ctx.save_for_backward(cos, sin)
        return rotate(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient, rotated back."""
        cos, sin = ctx.saved_tensors
        return rotate(gradients[0], cos, -sin), None, None


def rms_norm(x_1TC: Tensor, weight_C: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
    """`RMSNorm` as a function."""
    return torch.as_tensor(RMSNorm.apply(x_1TC, weight_C, epsilon, dtype))  # type: ignore[no-untyped-call]


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`Rotary` as a function."""
    return torch.as_tensor(Rotary.apply(x, cos, sin))  # type: ignore[no-untyped-call]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair of channels of x (..., D), one from each half, by the angle of cos and sin."""
    low, high = x.to(cos.dtype).chunk(2, dim=-1)
    return torch.cat([(low * cos).addcmul_(high, sin, value=-1), (high * cos).addcmul_(low, sin)], dim=-1).to(
        x.dtype
    )


def hidden(
    module: Any,
    tokens_1T: Tensor,
    layout: TreeLayout,
    prefix: KeysValues | None,
    *,
    keys_values: list[tuple[Tensor, Tensor]] | None = None,
    recompute: bool = False,
) -> Tensor:
    """The last hidden states (1, T, C) of one row of trees, after `prefix` if given, with gradients.

    `keys_values` is appended every layer's keys and values, those of the prefix first. With `recompute`,
    activations are recomputed in the backward pass.
    """
    trunk, epsilon = module.model, module.config.rms_norm_eps
    x_1TC = trunk.embed_tokens(tokens_1T)
    kind = x_1TC.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x_1TC.dtype
    cos, sin = (
        table[:, :, None, : table.shape[-1] // 2] for table in trunk.rotary_emb(x_1TC, layout.positions_BT)
    )
    trees = layout.trees(width=trunk.layers[0].self_attn.head_dim)
    if trees is None:
        raise AssertionError("a layout without lengths is no row of trees")
    for index, block in enumerate(trunk.layers):
        before = None if prefix is None else prefix[index]
        call = partial(
            layer_forward,
            block,
            epsilon=epsilon,
            dtype=dtype,
            cos=cos,
            sin=sin,
            trees=trees,
            before=before,
            keys_values=keys_values,
        )
        x_1TC = (
            checkpoint(call, x_1TC, use_reentrant=False)
            if recompute and torch.is_grad_enabled()
            else call(x_1TC)
        )
    return rms_norm(x_1TC, trunk.norm.weight, epsilon, x_1TC.dtype)


def layer_forward(
    block: Any,
    x_1TC: Tensor,
    *,
    epsilon: float,
    dtype: torch.dtype,
    cos: Tensor,
    sin: Tensor,
    trees: Trees,
    before: tuple[Tensor, Tensor] | None,
    keys_values: list[tuple[Tensor, Tensor]] | None,
) -> Tensor:
    """One layer, (1, T, C). Its linear layers are called as modules, so adapters take part. See `hidden`."""
    attention, mlp = block.self_attn, block.mlp
    shape = (1, x_1TC.shape[1], -1, attention.head_dim)
    y_1TC = rms_norm(x_1TC, block.input_layernorm.weight, epsilon, dtype)
    query, key = (
        apply_rotary(part(y_1TC).view(shape), cos, sin).transpose(1, 2)
        for part in (attention.q_proj, attention.k_proj)
    )
    value = attention.v_proj(y_1TC).view(shape).transpose(1, 2)
    if before is not None:
        key, value = torch.cat([before[0], key], dim=2), torch.cat([before[1], value], dim=2)
    if keys_values is not None:
        keys_values.append((key, value))
    mixed = tree_attention(query, key, value, trees, attention.scaling)
    x_1TC = x_1TC + attention.o_proj(mixed.transpose(1, 2).reshape((*y_1TC.shape[:2], -1)))
    y_1TC = rms_norm(x_1TC, block.post_attention_layernorm.weight, epsilon, dtype)
    return torch.as_tensor(x_1TC + mlp.down_proj(F.silu(mlp.gate_proj(y_1TC)) * mlp.up_proj(y_1TC)))


def stepper(module: Any) -> Callable[[Tensor, SlotCache], Tensor]:
    """The decoding step, tokens (B) and cache to logits (B, V). The weights are fused once, in this call, so
    later changes to them have no effect.
    """
    trunk, epsilon = module.model, module.config.rms_norm_eps
    layers = [
        FusedLayer(
            block.input_layernorm.weight,
            block.post_attention_layernorm.weight,
            fuse([block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj]),
            fuse([block.self_attn.o_proj]),
            fuse([block.mlp.gate_proj, block.mlp.up_proj]),
            fuse([block.mlp.down_proj]),
        )
        for block in trunk.layers
    ]
    attention = trunk.layers[0].self_attn
    width, heads, scale = attention.head_dim, module.config.num_key_value_heads, attention.scaling
    groups = module.config.num_attention_heads // heads
    head = fuse([module.lm_head])

    def norm(x_BC: Tensor, weight_C: Tensor) -> Tensor:
        return (x_BC * inverse_rms(x_BC, epsilon)).mul_(weight_C).to(x_BC.dtype)

    def step(tokens_B: Tensor, cache: SlotCache) -> Tensor:
        rows = len(tokens_B)
        masked_B11S = ~cache.begin()
        x_BC = trunk.embed_tokens(tokens_B)
        cos_B1D, sin_B1D = trunk.rotary_emb(x_BC, cache.lengths_B[:, None])
        # the first half is rotated with the opposite sign
        sin_B1D = torch.cat([-sin_B1D[..., : width // 2], sin_B1D[..., width // 2 :]], dim=-1)
        for index, layer in enumerate(layers):
            heads_BXD = layer.query_key_value(norm(x_BC, layer.attention_norm_C)).view(rows, -1, width)
            unrotated = heads_BXD[:, : heads * (groups + 1)]
            rotated = (unrotated * cos_B1D).addcmul_(torch.roll(unrotated, width // 2, dims=-1), sin_B1D)
            key, value = cache.update(
                rotated[:, heads * groups :, None], heads_BXD[:, heads * (groups + 1) :, None], index
            )
            scores_BHGS = (
                rotated[:, : heads * groups].reshape(rows, heads, groups, width) @ key.transpose(-1, -2)
            ).mul_(scale)
            weights_BHGS = scores_BHGS.masked_fill_(masked_B11S, float("-inf")).softmax(-1)
            x_BC = x_BC + layer.output((weights_BHGS @ value).view(rows, -1))
            gate_BF, up_BF = layer.gate_up(norm(x_BC, layer.mlp_norm_C)).chunk(2, dim=-1)
            x_BC = x_BC + layer.down(F.silu(gate_BF).mul_(up_BF))
        cache.end()
        return head(norm(x_BC, trunk.norm.weight))

    return step
