"""Maps over workers: order, errors that name the row, killed workers, streams, and rows that do not depend on
how many.
"""

import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch

from solon.errors import InputError
from solon.models.backbones.backbone import default_device
from solon.models.backbones.small_files import save_small
from solon.models.pooled import ModelSource, PooledModel
from solon.pool.maps import Pool, parallel_map
from solon.pool.workers import pool_of, process_pool, worker_index
from solon.records.run import Run
from tests.models.test_models import asked, model


def doubled(number: int) -> int:
    if number < 0:
        raise ValueError("too small")
    return 2 * number


def dying(marks: Path, number: int) -> int:
    """Kills its own process the first time it is asked for 3."""
    mark = marks / str(number)
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def made(numbers: list[int]) -> list[dict[str, int]]:
    return [{"value": 2 * number} for number in numbers]


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_whatever_the_number_of_workers(workers: int) -> None:
    assert list(parallel_map(doubled, range(50), Pool(workers, lambda: ThreadPoolExecutor(workers)))) == list(
        range(0, 100, 2)
    )


def test_an_error_names_the_row() -> None:
    with pytest.raises(InputError, match=r"item -1.*too small"):
        list(
            parallel_map(
                doubled, [1, -1, 2], Pool(2, lambda: ThreadPoolExecutor(2)), name=lambda item: f"item {item}"
            )
        )


def test_a_killed_worker_loses_and_doubles_nothing(tmp_path: Path) -> None:
    assert list(parallel_map(partial(dying, tmp_path), range(8), process_pool(2))) == list(range(8))
    assert (tmp_path / "3").exists()


def test_what_always_kills_its_worker_ends_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workers died"):
        list(parallel_map(_suicide, [1], process_pool(1), retries=1))


def _suicide(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_items_stream() -> None:
    """No more are taken than are in hand, so an endless source is no problem."""
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    found = parallel_map(doubled, endless(), Pool(2, lambda: ThreadPoolExecutor(2)))
    assert [next(found) for _ in range(10)] == list(range(2, 22, 2))
    assert taken <= 10 + 4


def test_a_run_streams_a_hundred_times_the_rows_in_the_same_memory(tmp_path: Path) -> None:
    def grown(count: int, name: str) -> int:
        with Run.open(tmp_path, "stream", {"n": name}, {}, seed=0) as run:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            rows = run.stream(
                "rows",
                range(count),
                str,
                lambda some: [{"text": "x" * 2000} for _ in some],
                total=count,
                size=256,
            )
            assert sum(1 for _ in rows) == count
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    grown(500, "warm")
    assert grown(50_000, "large") < 30 * 1024  # KiB; the rows are 100 MB


def test_a_stopped_stream_goes_on_with_a_pool_to_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for name, pool in (("here", None), ("pool", Pool(3, lambda: ThreadPoolExecutor(3)))):
        with Run.open(tmp_path, name, {}, {}, seed=0) as run:
            if pool:
                next(run.stream("rows", range(100), str, made, total=100, size=8))
            rows = list(run.stream("rows", range(100), str, made, total=100, size=8, pool=pool))
            assert [row["value"] for row in rows] == list(range(0, 200, 2))
            files.append((run.folder / "rows.jsonl").read_bytes())
    assert files[0] == files[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "model"
    save_small(model(), path)
    return path


def test_a_spread_model_replies_as_one_does(folder: Path) -> None:
    prompts = [*asked(40), *asked(3)]  # three of them twice
    alone, spread = (
        PooledModel(ModelSource(str(folder)), None),
        PooledModel(ModelSource(str(folder)), process_pool(2)),
    )
    assert spread.sample(prompts, count=2, max_tokens=5, seed=1) == alone.sample(
        prompts, count=2, max_tokens=5, seed=1
    )
    replies = ["w1 w2" for _ in prompts]
    assert spread.score(prompts, replies) == alone.score(prompts, replies)
    with pytest.raises(InputError, match="the prompt that ends on"):
        spread.score(prompts[:3], ["w1", "", "w2"])


@pytest.mark.extra
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (extra solon[ray])")
def test_on_ray_too(tmp_path: Path) -> None:
    pool = pool_of("ray:2")
    assert pool is not None
    assert list(parallel_map(partial(dying, tmp_path), range(8), pool)) == list(range(8))
    with pytest.raises(InputError, match=r"item -1.*too small"):
        list(parallel_map(doubled, [1, -1], pool, name=lambda item: f"item {item}"))


def number_of(item: int) -> int | None:
    time.sleep(0.3)  # so that both workers are asked
    return worker_index()


def test_workers_are_numbered_so_that_each_can_take_its_own_accelerator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert set(parallel_map(number_of, range(8), process_pool(2))) == {0, 1}
    assert worker_index() is None
    monkeypatch.setenv("SOLON_WORKER", "5")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert default_device() == torch.device("cuda:1")


@pytest.mark.extra
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (extra solon[ray])")
def test_ray_starts_the_parts_of_one_world(tmp_path: Path) -> None:
    """In a process of its own, since a process has one Ray."""
    done = launched("2", "--", "studies", "--json")
    assert done.returncode == 0
    # what the first of them prints, once
    assert len(json.loads(done.stdout.splitlines()[-1])["studies"]) >= 30
    assert done.stdout.count("studies") == 1
    failed = launched("2", "--", "align", str(tmp_path / "nothing"))
    assert failed.returncode == 2
    assert "nothing" in failed.stderr


def launched(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "solon.pool.launch_ray", *words], capture_output=True, text=True, timeout=200
    )


def test_where_to_run_is_checked() -> None:
    assert pool_of("here") is None
    with pytest.raises(InputError, match="processes:N"):
        pool_of("everywhere")
