"""Low-rank adapters (LoRA; Hu et al. 2021, arXiv:2106.09685) on the linear layers of a frozen body.

y = W x + (alpha / rank) B A x, A drawn small, B zero, so a new adapter changes nothing. The factors are kept
in fp32 whatever the precision of the frozen weights, and are cast as they are used. Copies of an adapted body
share the frozen tensors and own their adapters: policy, reference, reward and critic stand on one base (see
`copy_sharing_frozen`).
"""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from solon.errors import InputError

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Lora:
    """Rank, and the numerator of the scale alpha / rank."""

    rank: int = 16
    alpha: float = 32.0


class LoraLinear(nn.Module):
    """A frozen linear layer and its trainable low-rank change."""

    def __init__(self, base: nn.Linear, lora: Lora, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale = lora.alpha / lora.rank
        bound = 1 / math.sqrt(base.in_features)
        down_RI = torch.rand(lora.rank, base.in_features, generator=generator) * 2 * bound - bound
        self.down_RI = nn.Parameter(down_RI.to(base.weight.device))
        self.up_OR = nn.Parameter(torch.zeros(base.out_features, lora.rank, device=base.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        change = F.linear(F.linear(x, self.down_RI.to(x.dtype)), (self.up_OR * self.scale).to(x.dtype))
        return torch.as_tensor(self.base(x) + change)

    def merged(self) -> nn.Linear:
        """One linear layer with the change added."""
        with torch.no_grad():
            self.base.weight += self.scale * self.up_OR @ self.down_RI
        return self.base


def _replace(root: nn.Module, kind: type[nn.Module], make: Any) -> int:
    """Put make(module) in the place of every module of one kind, in order of name; returns how many."""
    found = [(name, module) for name, module in root.named_modules() if isinstance(module, kind)]
    for name, module in found:
        parent, _, leaf = name.rpartition(".")
        setattr(root.get_submodule(parent), leaf, make(module))
    return len(found)


def add_adapters(trunk: nn.Module, lora: Lora, *, seed: int) -> None:
    """Freeze a module in place and give each of its linear layers an adapter. Raises InputError where it has
    none.
    """
    trunk.requires_grad_(False)
    if any(isinstance(module, LoraLinear) for module in trunk.modules()):
        raise InputError("this model has adapters already; merge them first, or go on training those")
    generator = torch.Generator().manual_seed(seed)
    if not _replace(trunk, nn.Linear, lambda layer: LoraLinear(layer, lora, generator)):
        raise InputError(
            f"{type(trunk).__name__} has no torch Linear layers for adapters; train its full weights instead"
        )


def merge_adapters(module: Module) -> Module:
    """A copy in fp32, sharing nothing, with every adapter added into its layer: bf16 would round most changes
    away.
    """
    twin = copy.deepcopy(module).float()
    _replace(twin, LoraLinear, LoraLinear.merged)
    return twin


def copy_sharing_frozen(module: Module) -> Module:
    """A deep copy in which frozen tensors are shared and everything that trains is its own."""
    shared = {
        id(tensor): tensor for tensor in (*module.parameters(), *module.buffers()) if not tensor.requires_grad
    }
    return copy.deepcopy(module, shared)


def rounded_copy(module: Module, dtype: torch.dtype) -> Module:
    """A frozen copy whose parameters are rounded to `dtype`; buffers, and parameters that are of it already,
    are shared.
    """
    kept: dict[int, Any] = {id(buffer): buffer for buffer in module.buffers()}
    kept |= {
        id(own): nn.Parameter(own.detach().to(dtype), requires_grad=False) for own in module.parameters()
    }
    return copy.deepcopy(module, kept)


def adapter_layers(module: nn.Module) -> dict[str, LoraLinear]:
    """Every adapted layer by name; empty where whole weights train."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, LoraLinear)}


def save_peft(trunk: nn.Module, path: Path, *, base: str) -> None:
    """Write the adapters as a PEFT folder: adapter_config.json and adapter_model.safetensors.

    `base` is the model folder or id that PEFT is told the adapter belongs to. Raises InputError where there
    is none.
    """
    layers = adapter_layers(trunk)
    if not layers:
        raise InputError("there is no adapter to save: the model's full weights were trained")
    first = next(iter(layers.values()))
    rank = first.down_RI.shape[0]
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": first.scale * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": sorted({name.rpartition(".")[2] for name in layers}),
    }
    path.mkdir(parents=True, exist_ok=True)
    (path / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = {}
    for name, layer in layers.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = layer.down_RI.detach().contiguous().cpu()
        tensors[f"base_model.model.{name}.lora_B.weight"] = layer.up_OR.detach().contiguous().cpu()
    save_file(tensors, path / "adapter_model.safetensors", metadata={"format": "pt"})
