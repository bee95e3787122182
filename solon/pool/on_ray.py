"""A Ray cluster as an `Executor`. Only this file and `launch_ray` import Ray (extra `solon[ray]`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import ray

from solon.pool.maps import Pool


class RayExecutor(Executor):
    """Each call is a Ray task. Ray starts it again, up to `retries` times, where its worker or node dies.

    A call's exceptions come back as they were raised. Shutting down cancels calls that have not begun; the
    cluster, or the local Ray that was started, stays up for the next map of this process.
    """

    def __init__(self, *, retries: int = 3, devices: int = 0) -> None:
        self._task = ray.remote(max_retries=retries, num_cpus=1, num_gpus=devices)(_call)
        self._references: dict[Future[Any], Any] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `Executor.submit`."""
        reference = self._task.remote(fn, args, kwargs)
        future = reference.future()
        self._references[future] = reference
        future.add_done_callback(lambda done: self._references.pop(done, None))
        return _unwrapped(future)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `Executor.shutdown`."""
        for reference in list(self._references.values()) if cancel_futures else ():
            ray.cancel(reference, force=False)
        if wait and self._references:
            ray.wait(list(self._references.values()), num_returns=len(self._references))


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)


def _unwrapped(future: Future[Any]) -> Future[Any]:
    """A future that raises the call's exception instead of the RayTaskError around it."""
    unwrapped: Future[Any] = Future()

    def settle(done: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            unwrapped.set_result(done.result())
        elif isinstance(error, ray.exceptions.RayTaskError) and error.cause is not None:
            unwrapped.set_exception(error.cause)
        else:
            unwrapped.set_exception(error)

    future.add_done_callback(settle)
    return unwrapped


def ray_pool(where: str) -> Pool:
    """A pool on Ray: "" is a local Ray on every core, a number a local one of so many workers, anything else
    the address of a cluster.

    Where Ray has accelerators, each worker gets one, and there are as many workers as accelerators.
    """
    start_ray(where)
    resources = ray.cluster_resources()
    if resources.get("GPU", 0) >= 1:
        return Pool(int(resources["GPU"]), lambda: RayExecutor(devices=1))
    return Pool(max(1, int(resources.get("CPU", 1))), RayExecutor)


def start_ray(where: str) -> None:
    """Start a local Ray or join a cluster (see `ray_pool`), unless this process has one already."""
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if where and not where.isdigit():
            ray.init(address=where, log_to_driver=False, logging_level="ERROR")
        else:
            ray.init(
                num_cpus=int(where) if where else None,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
            )
