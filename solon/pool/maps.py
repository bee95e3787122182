"""Where a map runs: here, in processes of this machine, or on whatever `concurrent.futures.Executor` is
given.

Items may stream: at most a few are in hand at once, so memory does not grow with their number. Results come
in the order of the items whatever the number of workers, so they do not depend on it.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from solon.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pool:
    """How many workers, and how to start the executor they stand behind: anew after one was killed."""

    workers: int
    start: Callable[[], Executor]


@dataclass(slots=True)
class InHand(Generic[Item, Result]):
    """An item and what was promised for it, if it has been given out."""

    item: Item
    future: Future[Result] | None = None

    @property
    def settled(self) -> bool:
        """Whether its result, or an error of its own, is there."""
        future = self.future
        return (
            future is not None
            and future.done()
            and not future.cancelled()
            and not isinstance(future.exception(), BrokenExecutor)
        )


def mapped(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    pool: Pool | None = None,
    *,
    name: Callable[[Item], str] = lambda item: repr(item)[:200],
    retries: int = 3,
) -> Iterator[Result]:
    """work(item) of each item, in order; none is lost and none comes twice. `work` must be picklable where
    there is a pool.

    Where the executor breaks (a worker was killed), it is started anew and what was in hand is given out
    again, up to `retries` times without a result between. Where a worker raises, InputError says
    `name(item)`; here, work's own errors pass.

    >>> list(mapped(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    if pool is None:
        yield from map(work, items)
        return
    source, waiting, broken = ((item,) for item in items), deque[InHand[Item, Result]](), 0
    executor = pool.start()
    try:
        while True:
            while len(waiting) < 2 * pool.workers and (taken := next(source, None)) is not None:
                waiting.append(InHand(taken[0]))
            if not waiting:
                return
            try:
                # one at a time, to know whose fault it is
                for own in waiting if broken < 2 else (waiting[0],):
                    own.future = own.future or executor.submit(work, own.item)
                with naming(name, waiting[0].item):
                    found = waiting[0].future.result()  # type: ignore[union-attr]
            except BrokenExecutor as error:
                broken += 1
                if broken > retries:
                    raise InputError(
                        f"workers died {broken} times over {name(waiting[0].item)}; perhaps it needs more "
                        "memory"
                    ) from error
                executor.shutdown(wait=False, cancel_futures=True)
                executor = pool.start()
                for own in waiting:
                    own.future = own.future if own.settled else None
                continue
            waiting.popleft()
            broken = 0
            yield found
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


@contextmanager
def naming(name: Callable[[Item], str], item: Item) -> Iterator[None]:
    """An item's errors say which it was. A broken executor is not the item's."""
    try:
        yield
    except BrokenExecutor:
        raise
    except Exception as error:
        raise InputError(
            f"{name(item)}: {error if isinstance(error, InputError) else repr(error)}"
        ) from error


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Consecutive lists of `size` items; the last may be shorter.

    >>> list(batched("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def processes(workers: int, *, threads: int = 0) -> Pool:
    """Processes of this machine, its cores shared out among them, or so many threads each. Where there are
    accelerators, models of the n-th worker stand on the n-th, round and round (see `worker`).
    """
    threads = threads or max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")  # a fork of a process whose threads compute may hang

    def start() -> Executor:
        begun = context.Value("i", 0)
        return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(threads, begun))

    return Pool(workers, start)


WORKER = "SOLON_WORKER"


def _begin(threads: int, begun: Any) -> None:
    """Number this worker; set its threads, for libraries that are still to be imported and for torch where it
    is there already.
    """
    with begun.get_lock():
        os.environ[WORKER] = str(begun.value)
        begun.value += 1
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def worker() -> int | None:
    """Which of a pool's processes this is, from 0; None outside of `processes`."""
    found = os.environ.get(WORKER)
    return None if found is None else int(found)


def pool_of(words: str) -> Pool | None:
    """What `--workers` says: "here", "processes:N", "ray", "ray:N" (a local Ray of N workers) or
    "ray:ADDRESS" (a cluster's).

    >>> pool_of("processes:2").workers
    2
    """
    kind, _, rest = words.partition(":")
    if kind == "processes" and rest.isdigit() and int(rest) > 0:
        return processes(int(rest))
    if kind == "ray":
        if importlib.util.find_spec("ray") is None:
            raise InputError("--workers ray needs Ray: pip install 'solon[ray]'")
        found: Pool = importlib.import_module("solon.pool.on_ray").ray_pool(rest)
        return found
    if words != "here":
        raise InputError(f"--workers must be here, processes:N, ray, ray:N or ray:ADDRESS; found {words!r}")
    return None
