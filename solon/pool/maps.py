"""Maps over a pool of workers: in this process, in others, or on any `concurrent.futures.Executor`.

Items may be a stream: at most twice as many as there are workers are in memory at once. Results come in the
order of the items, so they do not depend on the number of workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from solon.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pool:
    """The number of workers, and a function that starts an executor over them (again, after one broke)."""

    workers: int
    start: Callable[[], Executor]


@dataclass(slots=True)
class Pending(Generic[Item, Result]):
    """An item without a result yet, and its future once it was submitted."""

    item: Item
    future: Future[Result] | None = None

    @property
    def settled(self) -> bool:
        """Whether the item has a result or raised an error; a broken executor settles nothing."""
        future = self.future
        return (
            future is not None
            and future.done()
            and not future.cancelled()
            and not isinstance(future.exception(), BrokenExecutor)
        )


def parallel_map(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    pool: Pool | None = None,
    *,
    name: Callable[[Item], str] = lambda item: repr(item)[:200],
    retries: int = 3,
) -> Iterator[Result]:
    """Yield work(item) of each item, in order and exactly once. With a pool, `work` must be picklable.

    Where the executor breaks (a worker was killed), it is started again and unfinished items are submitted
    again, at most `retries` times in a row without a result. Raises InputError then, and where a worker
    raises; both messages contain `name(item)`. Without a pool, errors of `work` pass unchanged.

    >>> list(parallel_map(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    if pool is None:
        yield from map(work, items)
        return
    source, waiting, broken = ((item,) for item in items), deque[Pending[Item, Result]](), 0
    executor = pool.start()
    try:
        while True:
            while len(waiting) < 2 * pool.workers and (taken := next(source, None)) is not None:
                waiting.append(Pending(taken[0]))
            if not waiting:
                return
            try:
                # after two breaks one item at a time, to know which one breaks the executor
                for pending in waiting if broken < 2 else (waiting[0],):
                    pending.future = pending.future or executor.submit(work, pending.item)
                with named_errors(name, waiting[0].item):
                    result = waiting[0].future.result()  # type: ignore[union-attr]
            except BrokenExecutor as error:
                broken += 1
                if broken > retries:
                    raise InputError(
                        f"workers died {broken} times over {name(waiting[0].item)}; perhaps it needs more "
                        "memory"
                    ) from error
                executor.shutdown(wait=False, cancel_futures=True)
                executor = pool.start()
                for pending in waiting:
                    pending.future = pending.future if pending.settled else None
                continue
            waiting.popleft()
            broken = 0
            yield result
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


@contextmanager
def named_errors(name: Callable[[Item], str], item: Item) -> Iterator[None]:
    """Turn an error inside the block into an InputError that names the item; BrokenExecutor passes."""
    try:
        yield
    except BrokenExecutor:
        raise
    except Exception as error:
        raise InputError(
            f"{name(item)}: {error if isinstance(error, InputError) else repr(error)}"
        ) from error


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield consecutive lists of `size` items; the last may be shorter.

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
