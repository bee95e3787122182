"""A run that was killed, or whose files were cut, ends on the tables and weights of one that was left alone,
byte for byte.
"""

import hashlib
import multiprocessing
import random
import shutil
import time
from pathlib import Path

import pytest

from tests.job import main

KILLS = 20
FORK = multiprocessing.get_context("fork")  # a forked child has its imports done, so kills land in the work
BESIDE = ("lock", "run.json")  # what tells of an attempt and not of the work

pytestmark = pytest.mark.xdist_group("kill")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name not in BESIDE]


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files(folder)
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was left alone."""
    folder = tmp_path_factory.mktemp("whole")
    main(folder)
    assert len(contents(folder)) > 30
    return folder


def test_a_kill_inside_training_changes_nothing(whole: Path, tmp_path: Path) -> None:
    child = FORK.Process(target=main, args=(tmp_path,))
    child.start()
    while not (checkpoints := list(tmp_path.rglob("policy.checkpoint.safetensors"))):
        assert child.exitcode is None
        time.sleep(0.002)
    child.kill()
    child.join()
    assert checkpoints and not list(tmp_path.rglob("final.safetensors"))
    main(tmp_path)
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize("seed", range(6))
def test_a_run_cut_at_any_byte_changes_nothing(whole: Path, tmp_path: Path, seed: int) -> None:
    """What a crash leaves: files in the order in which they were finished, of rows a part of the last. Files
    that are no rows get their name when they are whole.
    """
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    rng = random.Random(seed)
    written = sorted(files(tmp_path), key=lambda path: path.stat().st_mtime_ns)
    last = rng.randrange(len(written))
    for path in written[last + 1 :]:
        path.unlink()
    if written[last].suffix == ".jsonl":
        with written[last].open("r+b") as file:
            file.truncate(int(rng.random() * written[last].stat().st_size))
    else:
        written[last].unlink()
    main(tmp_path)
    assert contents(tmp_path) == contents(whole)


@pytest.mark.slow
def test_twenty_kills_change_nothing(whole: Path, tmp_path: Path) -> None:
    """At random instants of several runs, until one is left alone."""
    began = time.monotonic()
    main(tmp_path / "timed")
    length, wanted = time.monotonic() - began, contents(whole)
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
