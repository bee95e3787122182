"""Training on several devices: FSDP2, one process a device, started by torchrun.

Every process runs the same program on the same rows. The micro-batches of a step are divided among them, and
the gradient is the sum over all divided by the sum of their weights, so the number of processes does not
matter, to rounding. Trainable tensors are sharded layer by layer; frozen ones (a base under adapters, a
reference) are whole on every device.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from solon.errors import InputError

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class World:
    """The processes that train one module together, and the rank of this one."""

    rank: int = 0
    size: int = 1
    mesh: DeviceMesh | None = None

    def shard(self, module: nn.Module) -> None:
        """Shard the trainable tensors of a module in place; a second call changes nothing. The module's
        forward must be `forward(call)`, as of `Backbone`.
        """
        if self.mesh is None or isinstance(module, FSDPModule):
            return
        frozen = {parameter for parameter in module.parameters() if not parameter.requires_grad}
        layers = [layer for part in module.modules() if isinstance(part, nn.ModuleList) for layer in part]
        for layer in layers:
            if any(parameter.requires_grad for parameter in layer.parameters()):
                fully_shard(layer, mesh=self.mesh, ignored_params=frozen)
        fully_shard(module, mesh=self.mesh, ignored_params=frozen)
        module(lambda: None)  # makes it the root of FSDP before any of its layers is called
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.reshard()

    def run(self, module: nn.Module, call: Callable[[], Value]) -> Value:
        """call(), with the weights of `module` whole while it needs them."""
        if isinstance(module, FSDPModule):
            result: Value = module(call)
            return result
        return call()

    def local_parts(self, parts: Sequence[Sequence[Value]]) -> Iterator[tuple[Sequence[Value], float]]:
        """Yield this process's micro-batches of a step, each with factor 1.

        Fewer than processes are split; a process with one less than others gets the first again with factor
        0: all must compute equally often.

        >>> list(World(1, 2).local_parts(["a", "b", "c"])), list(World(1, 2).local_parts(["abc"]))
        ([('b', 1.0), ('a', 0.0)], [('c', 1.0)])
        """
        while len(parts) < self.size and max(map(len, parts)) > 1:
            parts = split_in_two(parts, 1)
        for start in range(0, len(parts), self.size):
            index = start + self.rank
            yield (parts[index], 1.0) if index < len(parts) else (parts[0], 0.0)

    def pad_parts(self, parts: Sequence[Value], spare: Value) -> list[tuple[Value, float]]:
        """This process's own micro-batches with factor 1, and `spare` with factor 0 until all processes have
        equally many.
        """
        most = max(self.all_gather(len(parts)))
        return [(part, 1.0) for part in parts] + [(spare, 0.0)] * (most - len(parts))

    def all_reduce(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over all processes, which must give the same names."""
        if self.size == 1:
            return dict(values)
        names = sorted(values)
        sums = torch.tensor([values[name] for name in names], dtype=torch.float64)
        return dict(
            zip(
                names,
                sum(self.all_gather(sums), torch.zeros(len(names), dtype=torch.float64)).tolist(),
                strict=True,
            )
        )

    def all_gather(self, value: Value) -> list[Value]:
        """Every process's value, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def broadcast(self, value: Value) -> Value:
        """The value of rank 0, on every process."""
        return self.all_gather(value)[0]

    @contextmanager
    def unsharded(self, module: nn.Module) -> Iterator[None]:
        """Within the block all weights of `module` are whole, as sampling needs: forward passes do not wait
        for other processes.
        """
        parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        if parts:
            # fingerprints depend on it
            torch.autograd.graph.increment_version(part for part in module.parameters() if part.requires_grad)
        try:
            yield
        finally:
            for part in parts:
                part.reshard()
                part.set_reshard_after_forward(True, recurse=False)


SINGLE_PROCESS = World()


def split_in_two(parts: Sequence[Sequence[Value]], times: int) -> list[Sequence[Value]]:
    """Split each part in two halves, `times` times.

    >>> split_in_two(["abc", "d"], 1)
    ['ab', 'c', 'd']
    """
    for _ in range(times):
        pairs = [(part[: -(-len(part) // 2)], part[-(-len(part) // 2) :]) for part in parts]
        parts = [half for pair in pairs for half in pair if half]
    return list(parts)


@contextmanager
def init_distributed() -> Iterator[World]:
    """The world in which torchrun started this process, or `SINGLE_PROCESS`; left at the end of the block."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield SINGLE_PROCESS
        return
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # a long timeout: others wait while rank 0 computes rows
    distributed.init_process_group(
        "cuda:nccl,cpu:gloo" if kind == "cuda" else "gloo", timeout=timedelta(days=7)
    )
    try:
        yield World(
            distributed.get_rank(),
            distributed.get_world_size(),
            init_device_mesh(kind, (distributed.get_world_size(),)),
        )
        distributed.barrier()  # no process leaves while another still needs it
    finally:
        distributed.destroy_process_group()


def shutdown(status: int) -> int:
    """Return `status`, or in one of several processes exit with it at once.

    Threads of the process group that outlive it need the interpreter while it closes, which sometimes aborts
    a process whose work is done.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def shard_like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor sharded like `parameter`, on its device."""
    if isinstance(parameter, DTensor) and not isinstance(value, DTensor):
        return distribute_tensor(
            value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
        )
    return value.to(parameter.device)


def save_state(state: Mapping[str, Tensor], folder: Path) -> None:
    """Write the shards of this process as safetensors. Every process must call this."""
    save(dict(state), storage_writer=HuggingFaceStorageWriter(path=str(folder), save_distributed=True))


def load_state(folder: Path) -> dict[str, Tensor]:
    """The whole tensors of a saved state, whatever the number of processes that wrote it. Raises InputError
    where the folder has no readable checkpoint.
    """
    reader = HuggingFaceStorageReader(str(folder))
    try:
        metadata = reader.read_metadata().state_dict_metadata
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{folder} has no readable checkpoint ({error})") from error
    state = {
        name: torch.zeros(tensor.size, dtype=tensor.properties.dtype)
        for name, tensor in metadata.items()
        if isinstance(tensor, TensorStorageMetadata)
    }
    if not state:
        raise InputError(f"{folder} has no readable checkpoint")
    load(state, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    return state
