"""Training across devices: FSDP2, one process a device, started by torchrun.

Every process runs the same program over the same rows. A step's micro-batches are dealt out in turn and the
gradient is the sum over all of them divided by the sum of their weights, so how many processes there are does
not matter, to rounding. What trains is sharded, layer by layer; what is frozen (a base under adapters, a
reference) stays whole on every device.
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
    """The processes that train one module together, and which of them this is."""

    rank: int = 0
    size: int = 1
    mesh: DeviceMesh | None = None

    def shard(self, module: nn.Module) -> None:
        """Shard in place what trains in a module; a second time changes nothing. Its forward runs what it is
        given.
        """
        if self.mesh is None or isinstance(module, FSDPModule):
            return
        frozen = {parameter for parameter in module.parameters() if not parameter.requires_grad}
        layers = [layer for part in module.modules() if isinstance(part, nn.ModuleList) for layer in part]
        for layer in layers:
            if any(parameter.requires_grad for parameter in layer.parameters()):
                fully_shard(layer, mesh=self.mesh, ignored_params=frozen)
        fully_shard(module, mesh=self.mesh, ignored_params=frozen)
        module(lambda: None)  # so that it knows itself as the root before any of its layers is called
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.reshard()

    def run(self, module: nn.Module, call: Callable[[], Value]) -> Value:
        """`call()`, the weights of `module` whole while it needs them."""
        if isinstance(module, FSDPModule):
            found: Value = module(call)
            return found
        return call()

    def local_parts(self, parts: Sequence[Sequence[Value]]) -> Iterator[tuple[Sequence[Value], float]]:
        """This process's parts of a step, each with 1, cut smaller where there are fewer than processes;
        where another has one more, the first again, with 0: all have to compute equally often.

        >>> list(World(1, 2).local_parts(["a", "b", "c"])), list(World(1, 2).local_parts(["abc"]))
        ([('b', 1.0), ('a', 0.0)], [('c', 1.0)])
        """
        while len(parts) < self.size and max(map(len, parts)) > 1:
            parts = split_in_two(parts, 1)
        for start in range(0, len(parts), self.size):
            place = start + self.rank
            yield (parts[place], 1.0) if place < len(parts) else (parts[0], 0.0)

    def pad_parts(self, parts: Sequence[Value], spare: Value) -> list[tuple[Value, float]]:
        """The same for parts that are this process's alone: `spare` with 0 until all processes have equally
        many.
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
        """Every process's value, in order of rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found

    def broadcast(self, value: Value) -> Value:
        """The first process's value, everywhere."""
        return self.all_gather(value)[0]

    @contextmanager
    def unsharded(self, module: nn.Module) -> Iterator[None]:
        """All weights of `module` whole at once, as sampling needs them: no forward pass in here waits for
        another process.
        """
        parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        if parts:
            # fingerprints go by it
            torch.autograd.graph.increment_version(own for own in module.parameters() if own.requires_grad)
        try:
            yield
        finally:
            for part in parts:
                part.reshard()
                part.set_reshard_after_forward(True, recurse=False)


SINGLE_PROCESS = World()


def split_in_two(parts: Sequence[Sequence[Value]], times: int) -> list[Sequence[Value]]:
    """Each part cut in two, `times` over.

    >>> split_in_two(["abc", "d"], 1)
    ['ab', 'c', 'd']
    """
    for _ in range(times):
        cut = [(part[: -(-len(part) // 2)], part[-(-len(part) // 2) :]) for part in parts]
        parts = [half for pair in cut for half in pair if half]
    return list(parts)


@contextmanager
def init_distributed() -> Iterator[World]:
    """The world that torchrun started this process in; alone where it started none."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield SINGLE_PROCESS
        return
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # while the first makes rows
    distributed.init_process_group(
        "cuda:nccl,cpu:gloo" if kind == "cuda" else "gloo", timeout=timedelta(days=7)
    )
    try:
        yield World(
            distributed.get_rank(),
            distributed.get_world_size(),
            init_device_mesh(kind, (distributed.get_world_size(),)),
        )
        distributed.barrier()  # none leaves while another still asks it for something
    finally:
        distributed.destroy_process_group()


def shutdown(status: int) -> int:
    """The end of a process that torchrun may have started: one of several goes at once, since threads of the
    process group that outlive it want the interpreter while it closes, which now and then aborts a process
    whose work is done.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def shard_like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor cut as `parameter` is."""
    if isinstance(parameter, DTensor) and not isinstance(value, DTensor):
        return distribute_tensor(
            value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
        )
    return value.to(parameter.device)


def save_state(state: Mapping[str, Tensor], folder: Path) -> None:
    """Each process writes its shards (safetensors). All have to call it."""
    save(dict(state), storage_writer=HuggingFaceStorageWriter(path=str(folder), save_distributed=True))


def load_state(folder: Path) -> dict[str, Tensor]:
    """The whole tensors of a state, however many processes wrote it. Raises InputError where the folder holds
    none.
    """
    reader = HuggingFaceStorageReader(str(folder))
    try:
        found = reader.read_metadata().state_dict_metadata
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{folder} holds no readable checkpoint ({error})") from error
    state = {
        name: torch.zeros(about.size, dtype=about.properties.dtype)
        for name, about in found.items()
        if isinstance(about, TensorStorageMetadata)
    }
    if not state:
        raise InputError(f"{folder} holds no readable checkpoint")
    load(state, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    return state
