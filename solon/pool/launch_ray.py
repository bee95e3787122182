"""Start one training job on a Ray cluster, as torchrun does on one machine:
`python -m solon.pool.launch_ray WORKERS [--address A] -- align smollm2 ...`.

Each worker is a process on the cluster, with an accelerator where Ray has any. All run the same `solon`
command as ranks of one world (`solon/training/parallel.py`). The folder of runs must be on a shared disk. The
output of rank 0 is printed here; where one rank fails, all are stopped. Extra `solon[ray]`.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import Queue
from typing import IO, Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from solon.pool.on_ray import start_ray


@ray.remote  # type: ignore[untyped-decorator]
def free_address() -> tuple[str, int]:
    """The address of this worker's node and a port that was free on it."""
    with socket.socket() as free:
        free.bind(("", 0))
        return ray.util.get_node_ip_address(), free.getsockname()[1]


@ray.remote(max_retries=0)  # type: ignore[untyped-decorator]
def run_rank(words: Sequence[str], world: dict[str, str], folder: str) -> Iterator[tuple[str, bytes] | int]:
    """Run `solon WORDS` as one rank; yields (stream, output) as it is printed, and last its exit status.

    `world` is the environment that torchrun would set; `folder` the working directory.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "solon", *words],
        cwd=folder,
        env=os.environ | world,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    outputs: Queue[tuple[str, bytes]] = Queue()

    def read(name: str, stream: IO[bytes]) -> None:
        while block := stream.read(65536):
            outputs.put((name, block))
        outputs.put((name, b""))

    streams = {"stdout": process.stdout, "stderr": process.stderr}
    try:
        for name, stream in streams.items():
            threading.Thread(target=read, args=(name, stream), daemon=True).start()
        ended = 0
        while ended < len(streams):
            name, block = outputs.get()
            ended += not block
            yield name, block
        yield process.wait()
    finally:  # cancelled: stop at the next row or step, as at Ctrl-C
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def launch(words: Sequence[str], workers: int, where: str = "") -> int:
    """Run `solon WORDS` as `workers` ranks of one world; returns the first exit status that is not 0.

    `where` is a cluster's address; "" starts a local Ray. Returns 2 where Ray has too little room.
    """
    start_ray(where or str(workers))
    devices = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
    bundle = {"CPU": 1.0} | ({"GPU": 1.0} if devices else {})
    group = placement_group([bundle] * workers, strategy="PACK")
    try:
        if not group.wait(60):
            print(
                f"solon: Ray has no room for {workers} workers of {bundle}; found {ray.cluster_resources()}",
                file=sys.stderr,
            )
            return 2
        strategies = [PlacementGroupSchedulingStrategy(group, rank) for rank in range(workers)]
        host, port = ray.get(
            free_address.options(num_cpus=1, num_gpus=devices, scheduling_strategy=strategies[0]).remote()
        )
        world = {"MASTER_ADDR": host, "MASTER_PORT": str(port), "WORLD_SIZE": str(workers), "LOCAL_RANK": "0"}
        outputs = [
            run_rank.options(
                num_returns="streaming", num_cpus=1, num_gpus=devices, scheduling_strategy=strategy
            ).remote(list(words), world | {"RANK": str(rank)}, os.getcwd())
            for rank, strategy in enumerate(strategies)
        ]
        return wait_for_ranks(outputs)
    finally:
        remove_placement_group(group)


def wait_for_ranks(outputs: Sequence[Any]) -> int:
    """Print the output of rank 0, and the end of the stderr of another that fails; cancel all once one has
    failed. Returns the first exit status that is not 0.
    """
    with ThreadPoolExecutor(len(outputs)) as readers:
        try:
            futures = [
                readers.submit(read_rank, output, prints=rank == 0) for rank, output in enumerate(outputs)
            ]
            for done in as_completed(futures):
                if status := done.result():
                    return status
            return 0
        finally:
            for output in outputs:
                ray.cancel(output)


def read_rank(output: Iterable[Any], *, prints: bool) -> int:
    """Read one rank's output to its end; returns its exit status, 1 if it was lost, 130 if cancelled."""
    last = b""
    try:
        for reference in output:
            value = ray.get(reference)
            if isinstance(value, int):
                if value and not prints:
                    print(last.decode(errors="replace"), file=sys.stderr)
                return value
            name, block = value
            if prints:
                stream = getattr(sys, name).buffer
                stream.write(block)
                stream.flush()
            elif name == "stderr":
                last = (last + block)[-4000:]
    except ray.exceptions.TaskCancelledError:
        return 130
    except ray.exceptions.RayError as error:
        print(f"solon: a worker was lost: {error}", file=sys.stderr)
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m solon.pool.launch_ray",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workers", type=int, help="how many processes train together")
    parser.add_argument(
        "--address", default="", help="a cluster's; without it, a local Ray of that many workers is started"
    )
    parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        help="-- and a solon command, such as: -- align smollm2 --preset quick",
    )
    options = parser.parse_args(argv)
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    if options.workers < 1 or not words:
        parser.error("give the number of workers, --, and a solon command")
    return launch(words, options.workers, options.address)


if __name__ == "__main__":
    sys.exit(main())
