"""Training started by Ray, as torchrun starts it: `python -m solon.pool.launch_ray WORKERS [--address A] --
align smollm2 ...`.

Each worker is a process of its own somewhere on the cluster, with an accelerator where Ray finds any, that
runs the same `solon` command as its part of one world (`solon/training/parallel.py`). The folder of runs must
be on a disk that all share. What the first worker prints comes out here; where one ends badly, all are ended.
Extra `solon[ray]`.
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

from solon.pool.on_ray import begun


@ray.remote  # type: ignore[untyped-decorator]
def address() -> tuple[str, int]:
    """Where the first worker's node can be reached, and a port that was free."""
    with socket.socket() as found:
        found.bind(("", 0))
        return ray.util.get_node_ip_address(), found.getsockname()[1]


@ray.remote(max_retries=0)  # type: ignore[untyped-decorator]
def part(words: Sequence[str], world: dict[str, str], folder: str) -> Iterator[tuple[str, bytes] | int]:
    """One process of the world: what it prints and on which stream, and at last its exit status."""
    process = subprocess.Popen(
        [sys.executable, "-m", "solon", *words],
        cwd=folder,
        env=os.environ | world,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    made: Queue[tuple[str, bytes]] = Queue()

    def read(name: str, stream: IO[bytes]) -> None:
        while found := stream.read(65536):
            made.put((name, found))
        made.put((name, b""))

    streams = {"stdout": process.stdout, "stderr": process.stderr}
    try:
        for name, stream in streams.items():
            threading.Thread(target=read, args=(name, stream), daemon=True).start()
        ended = 0
        while ended < len(streams):
            name, found = made.get()
            ended += not found
            yield name, found
        yield process.wait()
    finally:  # cancelled: stop at the next row or step, as at Ctrl-C
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def launch(words: Sequence[str], workers: int, where: str = "") -> int:
    """Run `solon WORDS` as so many processes of one world; the first exit status that is not 0."""
    begun(where or str(workers))
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
        places = [PlacementGroupSchedulingStrategy(group, number) for number in range(workers)]
        host, port = ray.get(
            address.options(num_cpus=1, num_gpus=devices, scheduling_strategy=places[0]).remote()
        )
        world = {"MASTER_ADDR": host, "MASTER_PORT": str(port), "WORLD_SIZE": str(workers), "LOCAL_RANK": "0"}
        parts = [
            part.options(
                num_returns="streaming", num_cpus=1, num_gpus=devices, scheduling_strategy=place
            ).remote(list(words), world | {"RANK": str(rank)}, os.getcwd())
            for rank, place in enumerate(places)
        ]
        return watched(parts)
    finally:
        remove_placement_group(group)


def watched(parts: Sequence[Any]) -> int:
    """Print what the first says, and of another that fails its last words; end the rest once one has
    failed.
    """
    with ThreadPoolExecutor(len(parts)) as readers:
        try:
            for done in as_completed(
                [readers.submit(followed, own, speaks=rank == 0) for rank, own in enumerate(parts)]
            ):
                if status := done.result():
                    return status
            return 0
        finally:
            for own in parts:
                ray.cancel(own)


def followed(made: Iterable[Any], *, speaks: bool) -> int:
    """One part to its end; its exit status, 1 where it was lost, 130 where it was cancelled."""
    last = b""
    try:
        for reference in made:
            found = ray.get(reference)
            if isinstance(found, int):
                if found and not speaks:
                    print(last.decode(errors="replace"), file=sys.stderr)
                return found
            name, words = found
            if speaks:
                stream = getattr(sys, name).buffer
                stream.write(words)
                stream.flush()
            elif name == "stderr":
                last = (last + words)[-4000:]
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
