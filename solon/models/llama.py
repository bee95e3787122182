"""One decoding step of a Llama-shaped model in few, large operations.

A step of 32 rows is bound by reading the weights, so everything else has to be little: query, key and value are one
product, gate and up another. What it computes is what `transformers` computes (tests/test_huggingface.py), in fewer and
larger operations.

Shapes: B slots, C width, H key heads, G query heads a key head, D head width, S positions, O and I outputs and inputs,
R rank of all adapters together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solon.models.adapters import LoraLinear
from solon.models.cache import SlotCache


@dataclass(frozen=True, slots=True)
class Joined:
    """Linear layers over one input as one product, and their adapters as two small ones."""

    weight_OI: Tensor
    down_RI: Tensor | None
    up_OR: Tensor | None

    def __call__(self, x_BI: Tensor) -> Tensor:
        y_BO = F.linear(x_BI, self.weight_OI)
        return y_BO if self.down_RI is None or self.up_OR is None else y_BO + F.linear(F.linear(x_BI, self.down_RI), self.up_OR)


def joined(layers: Sequence[Any]) -> Joined:
    """`layers` are plain linear ones or adapted ones, all of a kind and without bias."""
    weights = [layer.base.weight if isinstance(layer, LoraLinear) else layer.weight for layer in layers]
    weight_OI = torch.cat(weights) if len(weights) > 1 else weights[0]
    if not isinstance(layers[0], LoraLinear):
        return Joined(weight_OI, None, None)
    up_OR = torch.block_diag(*(layer.up_OR * layer.scale for layer in layers))
    return Joined(weight_OI, torch.cat([layer.down_RI for layer in layers]).to(weight_OI.dtype), up_OR.to(weight_OI.dtype))


@dataclass(frozen=True, slots=True)
class Layer:
    """One block, ready to be stepped."""

    before: nn.Parameter  # the norms' weights
    between: nn.Parameter
    query_key_value: Joined
    output: Joined
    gate_up: Joined
    down: Joined


LARGEST = 1.5e9  # parameters; above, reading the weights takes so long that fewer operations are not worth a copy of them


def shaped(module: Any) -> bool:
    """Whether `stepper` is for this model: of Llama's own layout without biases, small enough to hold the joined weights
    beside the others, and with no hook, which would not be called.
    """
    config = module.config
    llama = config.model_type == "llama" and config.hidden_act == "silu"
    plain = not getattr(config, "attention_bias", False) and not getattr(config, "mlp_bias", False)
    hooked = any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    return bool(llama and plain and not hooked and module.num_parameters() <= LARGEST)


def stepper(module: Any) -> Callable[[Tensor, SlotCache], Tensor]:
    """The step of one call to `generate`: weights are joined once, here, so later changes to them are not seen."""
    trunk, epsilon = module.model, module.config.rms_norm_eps
    layers = [
        Layer(
            block.input_layernorm.weight, block.post_attention_layernorm.weight,
            joined([block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj]), joined([block.self_attn.o_proj]),
            joined([block.mlp.gate_proj, block.mlp.up_proj]), joined([block.mlp.down_proj]),
        )
        for block in trunk.layers
    ]  # fmt: skip
    attention = trunk.layers[0].self_attn
    width, heads, scale = attention.head_dim, module.config.num_key_value_heads, attention.scaling
    groups = module.config.num_attention_heads // heads

    def step(tokens_B: Tensor, cache: SlotCache) -> Tensor:
        rows = len(tokens_B)
        hidden_B11S = ~cache.begin()
        x_BC = trunk.embed_tokens(tokens_B)
        cos_B1D, sin_B1D = trunk.rotary_emb(x_BC, cache.lengths_B[:, None])
        sin_B1D = torch.cat([-sin_B1D[..., : width // 2], sin_B1D[..., width // 2 :]], dim=-1)  # the sign of the half that turns
        for place, layer in enumerate(layers):
            mixed_BO = layer.query_key_value(F.rms_norm(x_BC, (x_BC.shape[-1],), layer.before, epsilon))
            heads_BXD = mixed_BO.view(rows, -1, width)
            turning = heads_BXD[:, : heads * (groups + 1)]
            turned = turning * cos_B1D + torch.roll(turning, width // 2, dims=-1) * sin_B1D
            key, value = cache.update(turned[:, heads * groups :, None], heads_BXD[:, heads * (groups + 1) :, None], place)
            scores_BHGS = (turned[:, : heads * groups].reshape(rows, heads, groups, width) @ key.transpose(-1, -2)) * scale
            weights_BHGS = scores_BHGS.masked_fill_(hidden_B11S, float("-inf")).softmax(-1, dtype=torch.float32).to(value.dtype)
            x_BC = x_BC + layer.output((weights_BHGS @ value).view(rows, -1))
            gate_BF, up_BF = layer.gate_up(F.rms_norm(x_BC, (x_BC.shape[-1],), layer.between, epsilon)).chunk(2, dim=-1)
            x_BC = x_BC + layer.down(F.silu(gate_BF) * up_BF)
        cache.end()
        return F.rms_norm(x_BC, (x_BC.shape[-1],), trunk.norm.weight, epsilon)

    return step
