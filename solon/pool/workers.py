"""Pools of workers: processes of this machine, or a Ray cluster (extra `solon[ray]`)."""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
import sys
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

from solon.errors import InputError
from solon.pool.maps import Pool

WORKER = "SOLON_WORKER"  # environment variable: the index of a worker process


def process_pool(workers: int, *, threads: int = 0) -> Pool:
    """Processes of this machine with `threads` threads each (0: the cores divided by the workers).

    Where there are accelerators, the models of worker n are on accelerator n modulo their number (see
    `worker_index`).
    """
    threads = threads or max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")  # a fork of a process whose threads compute may hang

    def start() -> Executor:
        counter = context.Value("i", 0)
        return ProcessPoolExecutor(
            workers, mp_context=context, initializer=_init_worker, initargs=(threads, counter)
        )

    return Pool(workers, start)


def _init_worker(threads: int, counter: Any) -> None:
    """Number this worker and set its threads, of torch too where it is already imported."""
    with counter.get_lock():
        os.environ[WORKER] = str(counter.value)
        counter.value += 1
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def worker_index() -> int | None:
    """The index of this process in its `process_pool`, from 0; None outside of one."""
    index = os.environ.get(WORKER)
    return None if index is None else int(index)


def pool_of(words: str) -> Pool | None:
    """The pool that `--workers` names: "here" (None), "processes:N", "ray", "ray:N" (N workers of a local
    Ray) or "ray:ADDRESS" (a cluster).

    Raises InputError on anything else, and where Ray is not installed.

    >>> pool_of("processes:2").workers
    2
    """
    kind, _, rest = words.partition(":")
    if kind == "processes" and rest.isdigit() and int(rest) > 0:
        return process_pool(int(rest))
    if kind == "ray":
        if importlib.util.find_spec("ray") is None:
            raise InputError("--workers ray needs Ray: pip install 'solon[ray]'")
        pool: Pool = importlib.import_module("solon.pool.on_ray").ray_pool(rest)
        return pool
    if words != "here":
        raise InputError(f"--workers must be here, processes:N, ray, ray:N or ray:ADDRESS; found {words!r}")
    return None
