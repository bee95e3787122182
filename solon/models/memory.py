"""When memory runs out: warn, free what is unused, and go on with half as much at a time."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an accelerator or the system is out of memory."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def free_memory(action: str) -> None:
    """Warn that memory ran out and what happens now (`action`), and release unused memory."""
    warnings.warn(f"out of memory: {action}", RuntimeWarning, stacklevel=2)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def run_in_halves(work: Callable[[Sequence[Item]], None], items: Sequence[Item]) -> None:
    """work(items); where memory runs out, work on each half, recursively. `work` must be divisible so.

    Raises the error where one item alone is too much.
    """
    try:
        work(items)
        return
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or len(items) < 2:
            raise
    free_memory(f"going on with {len(items) // 2} rows at a time instead of {len(items)}")
    run_in_halves(work, items[: len(items) // 2])
    run_in_halves(work, items[len(items) // 2 :])
