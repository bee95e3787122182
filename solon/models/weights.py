"""Trained tensors to safetensors and back, and the fingerprint that says which weights made a row."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from solon.errors import InputError


def trainable_parameters(module: nn.Module) -> dict[str, Tensor]:
    """The parameters that train, by name: all of them, or the adapters and heads of a frozen body."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def save_trained(module: nn.Module, path: Path) -> None:
    """Whole tensors; where they are sharded, every process has to call this, each with a path of its own."""
    save_tensors(
        {name: full_tensor(tensor.detach()) for name, tensor in trainable_parameters(module).items()}, path
    )


def full_tensor(value: Tensor) -> Tensor:
    """A tensor with all its shards; every process has to ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def load_trained(module: nn.Module, path: Path) -> None:
    """Copy saved tensors into the parameters that train. Raises InputError unless names and shapes agree
    exactly.
    """
    found, wanted = load_tensors(path), trainable_parameters(module)
    wrong = [
        name
        for name in {**found, **wanted}
        if name not in found or name not in wanted or found[name].shape != wanted[name].shape
    ]
    if wrong:
        raise InputError(
            f"{path} does not belong to this model: {len(wrong)} tensors differ, the first is "
            f"{sorted(wrong)[0]}"
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(found[name])


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    try:
        save_file(
            {name: tensor.contiguous().cpu() for name, tensor in tensors.items()},
            path,
            metadata={"format": "pt"},
        )
    except SafetensorError as error:  # a full disk comes as one
        raise InputError(
            f"cannot write {path}: {error}. What was made is kept: make room or choose another folder, and "
            "go on"
        ) from error
    with path.open("rb") as file:
        os.fsync(file.fileno())


def load_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file. Raises InputError where it is none: pickles are never opened."""
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is not a readable safetensors file ({error}); pickled checkpoints are never opened"
        ) from error


class Fingerprint:
    """A hash of a module's weights, computed anew only where a tensor has changed since the last call."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int, str]] = {}

    def of(self, module: nn.Module) -> str:
        """16 hexadecimal digits over the names and bytes of every parameter."""
        total = hashlib.sha256()
        for name, tensor in sorted(module.named_parameters()):
            stamp = (tensor.data_ptr(), tensor._version)
            known = self._known.get(name)
            if known is None or known[:2] != stamp:
                # numpy's view of it could not be freed
                own = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
                raw = own.view(torch.uint8).numpy()
                known = (*stamp, hashlib.sha256(raw.data).hexdigest())
                self._known[name] = known
            total.update(f"{name}:{known[2]};".encode())
        return total.hexdigest()[:16]
