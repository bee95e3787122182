"""A Ray cluster as an `Executor`. Only this file and `launch_ray` import Ray (extra `solon[ray]`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import ray

from solon.pool.maps import Pool


class RayExecutor(Executor):
    """Each call is a Ray task, which Ray itself starts again elsewhere where its worker or node dies.

    A call's own exceptions come back as they were raised. Shutting down cancels what has not begun; the
    cluster, or the local Ray that was started, stays up for the next map of this process.
    """

    def __init__(self, *, retries: int = 3, devices: int = 0) -> None:
        self._task = ray.remote(max_retries=retries, num_cpus=1, num_gpus=devices)(_call)
        self._asked: dict[Future[Any], Any] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        reference = self._task.remote(fn, args, kwargs)
        future = reference.future()
        self._asked[future] = reference
        future.add_done_callback(lambda done: self._asked.pop(done, None))
        return _unwrapped(future)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for reference in list(self._asked.values()) if cancel_futures else ():
            ray.cancel(reference, force=False)
        if wait:
            ray.wait(list(self._asked.values()), num_returns=len(self._asked)) if self._asked else None


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)


def _unwrapped(future: Future[Any]) -> Future[Any]:
    """A future that raises the call's own exception, not Ray's around it."""
    own: Future[Any] = Future()

    def done(found: Future[Any]) -> None:
        error = found.exception()
        if error is None:
            own.set_result(found.result())
        else:
            own.set_exception(
                error.cause
                if isinstance(error, ray.exceptions.RayTaskError) and error.cause is not None
                else error
            )

    future.add_done_callback(done)
    return own


def ray_pool(where: str) -> Pool:
    """ "" is a local Ray on every core, a number a local one of so many workers, anything else a cluster's
    address. Where Ray finds accelerators, each worker has one of its own, and there are no more workers than
    those.
    """
    begun(where)
    found = ray.cluster_resources()
    if found.get("GPU", 0) >= 1:
        return Pool(int(found["GPU"]), lambda: RayExecutor(devices=1))
    return Pool(max(1, int(found.get("CPU", 1))), RayExecutor)


def begun(where: str) -> None:
    """Start or join a Ray, unless this process has one."""
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
