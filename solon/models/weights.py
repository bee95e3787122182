"""Trainable tensors to safetensors and back, and the fingerprint of a model's weights."""

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
    """The parameters that require gradients, by name: all, or the adapters and heads on a frozen backbone."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def save_trained(module: nn.Module, path: Path) -> None:
    """Write the trainable parameters, whole. Where they are sharded every process must call this, each with
    its own path.
    """
    save_tensors(
        {name: full_tensor(tensor.detach()) for name, tensor in trainable_parameters(module).items()}, path
    )


def full_tensor(value: Tensor) -> Tensor:
    """A tensor with all its shards gathered; every process must call this."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def load_trained(module: nn.Module, path: Path) -> None:
    """Copy saved tensors into the trainable parameters. Raises InputError unless names and shapes agree
    exactly.
    """
    saved, parameters = load_tensors(path), trainable_parameters(module)
    wrong = [
        name
        for name in {**saved, **parameters}
        if name not in saved or name not in parameters or saved[name].shape != parameters[name].shape
    ]
    if wrong:
        raise InputError(
            f"{path} does not belong to this model: {len(wrong)} tensors differ, the first is "
            f"{sorted(wrong)[0]}"
        )
    with torch.no_grad():
        for name, tensor in parameters.items():
            tensor.copy_(saved[name])


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a safetensors file and flush it to disk. Raises InputError where that fails (a full
    disk).
    """
    try:
        save_file(
            {name: tensor.contiguous().cpu() for name, tensor in tensors.items()},
            path,
            metadata={"format": "pt"},
        )
    except SafetensorError as error:  # a full disk raises one
        raise InputError(
            f"cannot write {path}: {error}. Earlier results are kept: free space or choose another folder, "
            "and run again"
        ) from error
    with path.open("rb") as file:
        os.fsync(file.fileno())


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises InputError where it is not one: pickles are never opened."""
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is not a readable safetensors file ({error}); pickled checkpoints are never opened"
        ) from error


class Fingerprint:
    """A hash of a module's weights. Only tensors that changed since the last call are hashed again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int, str]] = {}

    def of(self, module: nn.Module) -> str:
        """16 hexadecimal digits over the names and bytes of every parameter."""
        total = hashlib.sha256()
        for name, tensor in sorted(module.named_parameters()):
            version = (tensor.data_ptr(), tensor._version)
            known = self._known.get(name)
            if known is None or known[:2] != version:
                # a clone: memory that numpy views is not freed
                copy = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
                raw = copy.view(torch.uint8).numpy()
                known = (*version, hashlib.sha256(raw.data).hexdigest())
                self._known[name] = known
            total.update(f"{name}:{known[2]};".encode())
        return total.hexdigest()[:16]
