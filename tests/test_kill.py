"""Kill -9 at random instants: the final tables and weights are byte-equal to those of a run that was left
alone.
"""

import hashlib
import multiprocessing
import random
import time
from pathlib import Path

import pytest

from tests.job import main

KILLS = 20
FORK = multiprocessing.get_context("fork")  # a forked child has its imports done, so kills land in the work


def contents(folder: Path) -> dict[str, str]:
    paths = [
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in ("lock", "run.json")
    ]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def left_alone(folder: Path) -> float:
    began = time.monotonic()
    process = FORK.Process(target=main, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - began


@pytest.mark.timeout(600)
def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    length = left_alone(tmp_path / "whole")
    wanted = contents(tmp_path / "whole")
    assert len(wanted) > 30
    rng, kills, attempt = random.Random(0), 0, 0
    stages: set[str] = set()
    while True:
        folder = tmp_path / f"killed {attempt}"
        process = FORK.Process(target=main, args=(folder,))
        process.start()
        process.join(timeout=rng.uniform(0.0, 0.3 * length) if kills < KILLS else None)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
            stages |= {name.rsplit("/", 1)[-1] for name in contents(folder)} if folder.exists() else set()
            continue
        assert process.exitcode == 0
        assert contents(folder) == wanted
        if kills >= KILLS:
            break
        attempt += 1
    assert {"supervised.checkpoint.safetensors", "policy.checkpoint.safetensors"} & stages, (
        "no kill fell inside a training stage"
    )
