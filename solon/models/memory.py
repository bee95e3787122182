"""Running out of memory: half as much at a time, and on."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an accelerator or the system had none left."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def free_memory(words: str) -> None:
    """Say what is done about it, and give back what is no longer used."""
    warnings.warn(f"out of memory: {words}", RuntimeWarning, stacklevel=2)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def run_in_halves(work: Callable[[Sequence[Item]], None], items: Sequence[Item]) -> None:
    """work(items), which may be done in pieces; in two halves, and so on, where memory runs out. One item
    alone raises.
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
