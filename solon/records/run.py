"""A run is a folder. Each stage is made once and read back ever after; long ones are kept as they are made.

    runs/<study>/<hash of settings, inputs and seed>/
        run.json                 what was asked, the versions and commit that answered (recorded, not hashed)
        <stage>.jsonl            rows, appended as they are made
        <stage>.safetensors      what a training stage ended on; <stage>.steps.jsonl its metrics
        <stage>.checkpoint.safetensors   while it trains: weights, moments, step number
        report.html .md .json

Killed at any instant and started again, a run ends on the same bytes (tests/test_kill.py).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any, Protocol, Self, TypeVar

from solon.errors import InputError
from solon.models.weights import load_tensors, save_tensors
from solon.pool import Pool, batched, mapped
from solon.records.progress import Progress, silent
from solon.training.steps import Diverged, State, Step

Item = TypeVar("Item")
Row = dict[str, Any]


class Trainable(Protocol):
    """What `Run.trained` needs of a model: a copy with its own trainable weights, written and read."""

    def copy(self) -> Self: ...

    def save(self, path: Path) -> None: ...

    def load(self, path: Path) -> None: ...


Model = TypeVar("Model", bound=Trainable)


def digest(*values: object) -> str:
    """16 hexadecimal digits over JSON values, the same on every machine."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Run:
    """Where one study with one seed keeps what it makes. `stop()` turning true ends it, work kept, at the next row or step;
    `say` is for what a person should know before the report is there.
    """

    folder: Path
    seed: int
    progress: Progress = silent
    stop: Callable[[], bool] = field(default=lambda: False)
    say: Callable[[str], None] = field(default=lambda words: None)
    checkpoint_seconds: float = 30.0

    @classmethod
    @contextmanager
    def open(
        cls,
        root: Path,
        study: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        *,
        seed: int,
        facts: Mapping[str, Any] | None = None,
        progress: Progress = silent,
        stop: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = lambda words: None,
    ) -> Iterator[Run]:
        """The run of these settings, inputs (name to content hash) and seed, new or begun, held by this process alone.

        Raises InputError where the folder cannot be written or another process is at work in it.
        """
        name = digest(settings, inputs, seed)[:12]
        folder = root / study / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "lock").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise InputError(f"another process is at work in {folder}; wait for it, or choose another --seed") from error
                about = {"study": study, "seed": seed, "settings": dict(settings), "inputs": dict(inputs), **(facts or {})}
                if not (folder / "run.json").exists():
                    write_text(folder / "run.json", json.dumps(about, indent=2, default=str) + "\n")
                for leftover in (*folder.glob("*.partial"), *folder.glob(".tmp*")):  # of a process that was killed while it wrote
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
                yield cls(folder, seed, progress, stop, say)
        except PermissionError as error:
            raise InputError(f"cannot write to the run folder {folder}: {error.strerror}; choose another with --runs") from error

    def rows(
        self, name: str, items: Sequence[Item], key: Callable[[Item], str], make: Callable[[Sequence[Item]], Sequence[Row]], *, size: int = 32
    ) -> list[Row]:
        """One row for each item, made `size` at a time and appended at once; what an earlier attempt made is read back.

        Chunks are the same however often it was stopped, and each row carries its item's key, so that rows of other
        inputs are found out and made again.
        """
        return list(self.stream(name, items, key, make, total=len(items), size=size))

    def stream(
        self,
        name: str,
        items: Iterable[Item],
        key: Callable[[Item], str],
        make: Callable[[Sequence[Item]], Sequence[Row]],
        *,
        total: int,
        size: int = 32,
        pool: Pool | None = None,
    ) -> Iterator[Row]:
        """The same for any number of items: each row is yielded once it is on disk, and only a few chunks are in memory.
        With a `pool`, chunks are made by its workers (`make` must be picklable); the rows are the same.
        """
        path = self.folder / f"{name}.jsonl"
        chunks, done, good = batched(items, size), 0, 0
        begun: list[list[Item]] = []  # the first chunk that is not on disk
        with path.open("r+b" if path.exists() else "w+b") as file:
            for chunk in chunks:
                found = _read_back(file, [key(item) for item in chunk])
                if found is None:
                    begun = [chunk]
                    break
                done, good = done + len(found), file.tell()
                yield from found
            file.truncate(good)
            file.seek(good)
            meter, given = self.progress(name, total, done), deque[list[Item]]()
            for made in mapped(make, _noted(chain(begun, chunks), given), pool, name=lambda chunk: f"{name}, {len(chunk)} items"):
                chunk = given.popleft()
                if len(made) != len(chunk):
                    raise AssertionError(f"stage {name} made {len(made)} rows of {len(chunk)} items")
                lines = [json.dumps({"key": key(item), **row}, ensure_ascii=False) for item, row in zip(chunk, made, strict=True)]
                file.write("".join(line + "\n" for line in lines).encode())
                file.flush()
                os.fsync(file.fileno())
                done += len(lines)
                meter(done)
                yield from (json.loads(line) for line in lines)
                if done < total:
                    self._check_stop()

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """A JSON value made once and read back ever after."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            self._check_stop()
            write_text(path, json.dumps(make(), indent=1, ensure_ascii=False) + "\n")
        return json.loads(path.read_text())

    def trained(
        self,
        name: str,
        start: Model,
        loop: Callable[[Model, State | None], Iterator[Step]],
        *,
        steps: int,
        record: Callable[[Step], Sequence[Row]] = lambda step: (),
    ) -> Model:
        """A copy of `start` after the loop has run on it; `start` itself never changes.

        The loop is given the copy and the state to go on from, if an earlier attempt left one. Each step's metrics go
        to `<name>.steps.jsonl`, what `record` makes of it to `<name>.rows.jsonl`. Where the loop diverges, the state
        before is kept and Diverged goes on to the caller.
        """
        model, path = start.copy(), self.folder / f"{name}.safetensors"
        checkpoint = self.folder / f"{name}.checkpoint.safetensors"
        if path.exists():
            checkpoint.unlink(missing_ok=True)
            model.load(path)
            return model
        state = load_tensors(checkpoint) if checkpoint.exists() else None
        done = int(state["number"]) if state is not None else 0
        logs = [self.folder / f"{name}.{kind}.jsonl" for kind in ("steps", "rows")]
        for log in logs:
            _cut_after(log, done)
        meter, saved, last = self.progress(name, steps, done), time.monotonic(), None
        try:
            for step in loop(model, state):
                last = step
                _append(logs[0], [{"number": step.number, **step.metrics}])
                _append(logs[1], [{"number": step.number, **row} for row in record(step)])
                meter(step.number, step.metrics)
                stopping = self.stop()
                if stopping or time.monotonic() - saved > self.checkpoint_seconds:
                    self._checkpoint(checkpoint, step)
                    saved = time.monotonic()
                if stopping:
                    raise KeyboardInterrupt
        except Diverged:
            if last is not None:
                self._checkpoint(checkpoint, last)
            raise
        with temporary(path) as partial:
            model.save(partial)
        checkpoint.unlink(missing_ok=True)
        return model

    def _checkpoint(self, path: Path, step: Step) -> None:
        with temporary(path) as partial:
            save_tensors(step.state(), partial)

    def artefact(self, name: str, write: Callable[[Path], None]) -> Path:
        """A file or folder that `write` makes, under a temporary name until it is whole; made once."""
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary(path) as partial:
                write(partial)
        return path

    def _check_stop(self) -> None:
        if self.stop():
            raise KeyboardInterrupt


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A path beside `path` that takes its name at the end; on any error it is removed and `path` stays as it was."""
    partial = path.with_name(f"{path.name}.partial")
    if partial.is_dir():
        shutil.rmtree(partial)
    try:
        yield partial
        partial.rename(path)
    except BaseException:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Text under a temporary name, synced, then renamed."""
    with temporary(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _append(path: Path, rows: Sequence[Row]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _lines(path: Path) -> Iterator[tuple[int, Row]]:
    """(end offset, row) of every whole line; a torn or damaged line ends it."""
    if not path.exists():
        return
    end = 0
    for line in path.read_bytes().splitlines(keepends=True):
        row = _row(line)
        if row is None:
            return
        end += len(line)
        yield end, row


def _read_back(file: IO[bytes], keys: Sequence[str]) -> list[Row] | None:
    """The next rows of a file where they are whole and of these items, else None."""
    found: list[Row] = []
    for key in keys:
        row = _row(file.readline())
        if row is None or row.get("key") != key:
            return None
        found.append(row)
    return found


def _noted(items: Iterable[Item], given: deque[Item]) -> Iterator[Item]:
    """The items, each put down in `given` as it is handed out."""
    for item in items:
        given.append(item)
        yield item


def _row(line: bytes) -> Row | None:
    """What one whole line says; None where it is torn or damaged."""
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return row if line.endswith(b"\n") and isinstance(row, dict) else None


def _cut_after(path: Path, number: int) -> None:
    """Drop what a log holds of steps after `number`: they are about to be made again."""
    if not path.exists():
        return
    end = max((end for end, row in _lines(path) if row["number"] <= number), default=0)
    with path.open("r+b") as file:
        file.truncate(end)


def step_metrics(run: Run, name: str) -> list[Row]:
    """The metrics of every step of a finished training stage."""
    return [row for _, row in _lines(run.folder / f"{name}.steps.jsonl")]
