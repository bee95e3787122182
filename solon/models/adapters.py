"""Low-rank adapters (LoRA; Hu et al. 2021, arXiv:2106.09685) on the linear layers of a frozen backbone.

y = W x + (alpha / rank) B A x. A is drawn small and B is zero, so a new adapter changes nothing. The factors
are stored in fp32 whatever the precision of the frozen weights, and cast when used. Copies of a backbone with
adapters share the frozen tensors and have adapters of their own, so policy, reference, reward model and
critic need one base (see `copy_sharing_frozen`).

Shapes: R rank, I inputs, O outputs.
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
    """The rank of the adapters, and alpha: they are scaled by alpha / rank."""

    rank: int = 16
    alpha: float = 32.0


class LoraLinear(nn.Module):
    """A frozen linear layer plus a trainable low-rank matrix."""

    def __init__(self, base: nn.Linear, lora: Lora, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale = lora.alpha / lora.rank
        bound = 1 / math.sqrt(base.in_features)
        down_RI = torch.rand(lora.rank, base.in_features, generator=generator) * 2 * bound - bound
        self.down_RI = nn.Parameter(down_RI.to(base.weight.device))
        self.up_OR = nn.Parameter(torch.zeros(base.out_features, lora.rank, device=base.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """W x + (alpha / rank) B A x."""
        change = F.linear(F.linear(x, self.down_RI.to(x.dtype)), (self.up_OR * self.scale).to(x.dtype))
        return torch.as_tensor(self.base(x) + change)

    def merged(self) -> nn.Linear:
        """The linear layer with the adapter added into its weight, in place."""
        with torch.no_grad():
            self.base.weight += self.scale * self.up_OR @ self.down_RI
        return self.base


def _replace(root: nn.Module, kind: type[nn.Module], make: Any) -> int:
    """Replace every module of one kind by make(module), in order of name; returns how many there were."""
    matches = [(name, module) for name, module in root.named_modules() if isinstance(module, kind)]
    for name, module in matches:
        parent, _, leaf = name.rpartition(".")
        setattr(root.get_submodule(parent), leaf, make(module))
    return len(matches)


def add_adapters(trunk: nn.Module, lora: Lora, *, seed: int) -> None:
    """Freeze a module in place and give each of its linear layers an adapter, initialised by `seed`.

    Raises InputError where the module has adapters already or no linear layers.
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
    """A copy in fp32 that shares nothing, with every adapter added into its layer. bf16 would round most
    changes away.
    """
    twin = copy.deepcopy(module).float()
    _replace(twin, LoraLinear, LoraLinear.merged)
    return twin


def copy_sharing_frozen(module: Module) -> Module:
    """A deep copy that shares frozen tensors; trainable tensors are copied."""
    shared = {
        id(tensor): tensor for tensor in (*module.parameters(), *module.buffers()) if not tensor.requires_grad
    }
    return copy.deepcopy(module, shared)


def rounded_copy(module: Module, dtype: torch.dtype) -> Module:
    """A frozen copy with parameters in `dtype`; buffers, and parameters already in `dtype`, are shared."""
    memo: dict[int, Any] = {id(buffer): buffer for buffer in module.buffers()}
    memo |= {
        id(parameter): nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
        for parameter in module.parameters()
    }
    return copy.deepcopy(module, memo)


def adapter_layers(module: nn.Module) -> dict[str, LoraLinear]:
    """Every layer with an adapter by name; empty where there are none."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, LoraLinear)}


def save_peft(trunk: nn.Module, path: Path, *, base: str) -> None:
    """Write the adapters as a PEFT folder: adapter_config.json and adapter_model.safetensors.

    `base` is the model folder or id that the PEFT config names as the base. Raises InputError where there are
    no adapters.
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
