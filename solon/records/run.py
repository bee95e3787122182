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
from typing import Any, Protocol, Self, TypeVar

from solon.errors import InputError
from solon.models.weights import load_tensors, save_tensors
from solon.pool.maps import Pool, batched, parallel_map
from solon.records.codecs import Codec, own_key
from solon.records.files import Row, append, cut_after, lines, noted, read_back, temporary, write_text
from solon.records.progress import Progress, silent
from solon.records.sinks import Sink, nowhere
from solon.training.parallel import SINGLE_PROCESS, World, load_state, save_state
from solon.training.steps import Diverged, State, Step

Item = TypeVar("Item")
Value = TypeVar("Value")


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
    """Where one study with one seed keeps what it makes. `stop()` turning true ends it, work kept, at the
    next row or step; `say` is for what a person should know before the report is there. In a `world` of
    several processes all of them run the study: the first makes and writes what is kept, the others wait and
    read it, and all train.
    """

    folder: Path
    seed: int
    progress: Progress = silent
    stop: Callable[[], bool] = field(default=lambda: False)
    say: Callable[[str], None] = field(default=lambda words: None)
    world: World = SINGLE_PROCESS
    checkpoint_seconds: float = 30.0
    sink: Sink = nowhere

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
        world: World = SINGLE_PROCESS,
    ) -> Iterator[Run]:
        """The run of these settings, inputs (name to content hash) and seed, new or begun, held by this
        process alone.

        Raises InputError where the folder cannot be written or another process is at work in it.
        """
        name = digest(settings, inputs, seed)[:12]
        folder = root / study / name
        if world.rank:
            world.broadcast(None)  # the first process has the folder
            yield cls(folder, seed, stop=stop, world=world)
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "lock").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise InputError(
                        f"another process is at work in {folder}; wait for it, or choose another --seed"
                    ) from error
                about = {
                    "study": study,
                    "seed": seed,
                    "settings": dict(settings),
                    "inputs": dict(inputs),
                    **(facts or {}),
                }
                if not (folder / "run.json").exists():
                    write_text(folder / "run.json", json.dumps(about, indent=2, default=str) + "\n")
                # of a process that was killed while it wrote
                for leftover in (*folder.glob("*.partial"), *folder.glob(".tmp*")):
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
                world.broadcast(None)
                yield cls(folder, seed, progress, stop, say, world)
        except PermissionError as error:
            raise InputError(
                f"cannot write to the run folder {folder}: {error.strerror}; choose another with --runs"
            ) from error

    def map(
        self,
        name: str,
        items: Sequence[Item],
        make: Callable[[Sequence[Item]], Sequence[Value]],
        codec: Codec[Item, Value],
        *,
        key: Callable[[Item], str] | None = None,
        size: int = 32,
    ) -> list[Value]:
        """What `make` makes of every item, `size` at a time, kept as rows by the codec; what an earlier
        attempt made is read back. Items are known by their `key` unless another is given.
        """

        def rows(batch: Sequence[Item]) -> list[Row]:
            return [codec.encode(item, value) for item, value in zip(batch, make(batch), strict=True)]

        return [codec.decode(row) for row in self.rows(name, items, key or own_key, rows, size=size)]  # type: ignore[arg-type]

    def rows(
        self,
        name: str,
        items: Sequence[Item],
        key: Callable[[Item], str],
        make: Callable[[Sequence[Item]], Sequence[Row]],
        *,
        size: int = 32,
    ) -> list[Row]:
        """One row for each item, made `size` at a time and appended at once; what an earlier attempt made is
        read back.

        Chunks are the same however often it was stopped, and each row carries its item's key, so that rows of
        other inputs are found out and made again.
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
        """The same for any number of items: each row is yielded once it is on disk, and only a few chunks are
        in memory. With a `pool`, chunks are made by its workers (`make` must be picklable); the rows are the
        same.
        """
        if self.world.rank:
            self.world.broadcast(None)  # all rows are on disk
        path = self.folder / f"{name}.jsonl"
        chunks, done, good = batched(items, size), 0, 0
        begun: list[list[Item]] = []  # the first chunk that is not on disk
        with path.open("r+b" if path.exists() else "w+b") as file:
            for chunk in chunks:
                found = read_back(file, [key(item) for item in chunk])
                if found is None:
                    begun = [chunk]
                    break
                done, good = done + len(found), file.tell()
                yield from found
            if self.world.rank and begun:
                raise AssertionError(f"stage {name} is not what the first process wrote")
            file.truncate(good)
            file.seek(good)
            if begun:
                self._check_stop()
            meter, given = self.progress(name, total, done), deque[list[Item]]()
            for made in parallel_map(
                make,
                noted(chain(begun, chunks), given),
                pool,
                name=lambda chunk: f"{name}, {len(chunk)} items",
            ):
                chunk = given.popleft()
                if len(made) != len(chunk):
                    raise AssertionError(f"stage {name} made {len(made)} rows of {len(chunk)} items")
                written = [
                    json.dumps({"key": key(item), **row}, ensure_ascii=False)
                    for item, row in zip(chunk, made, strict=True)
                ]
                file.write("".join(line + "\n" for line in written).encode())
                file.flush()
                os.fsync(file.fileno())
                done += len(written)
                meter(done)
                yield from (json.loads(line) for line in written)
                if done < total:
                    self._check_stop()
        if not self.world.rank:
            self.world.broadcast(None)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """A JSON value made once and read back ever after."""
        path = self.folder / f"{name}.json"
        if not path.exists() and not self.world.rank:
            self._check_stop()
            write_text(path, json.dumps(make(), indent=1, ensure_ascii=False) + "\n")
        self.world.broadcast(None)
        return json.loads(path.read_text())

    def value(self, name: str, make: Callable[[], Value], codec: Codec[str, Value]) -> Value:
        """A value made once and read back ever after, kept by its codec."""
        return codec.decode(self.once(name, lambda: codec.encode(name, make())))

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

        The loop is given the copy and the state to go on from, if an earlier attempt left one. Each step's
        metrics go to `<name>.steps.jsonl`, what `record` makes of it to `<name>.rows.jsonl`. Where the loop
        diverges, the state before is kept and Diverged goes on to the caller.
        """
        model, path, world = start.copy(), self.folder / f"{name}.safetensors", self.world
        checkpoint, first = self.folder / f"{name}.checkpoint.safetensors", not self.world.rank
        if world.broadcast(path.exists()):
            self._forget(name)
            model.load(path)
            return model
        shards = self._shards(name)
        state = (
            load_tensors(checkpoint) if checkpoint.exists() else load_state(shards[-1]) if shards else None
        )
        done = int(state["number"]) if state is not None else 0
        logs = [self.folder / f"{name}.{kind}.jsonl" for kind in ("steps", "rows")]
        for log in logs if first else ():
            cut_after(log, done)
        meter, saved, last = self.progress(name, steps, done), time.monotonic(), None
        try:
            for step in loop(model, state):
                last = step
                if first:
                    append(logs[0], [{"number": step.number, **step.metrics}])
                    self.sink(name, step.number, step.metrics)
                    append(logs[1], [{"number": step.number, **row} for row in record(step)])
                    meter(step.number, step.metrics)
                stopping, due = world.broadcast(
                    (self.stop(), time.monotonic() - saved > self.checkpoint_seconds)
                )
                if stopping or due:
                    self._checkpoint(name, step)
                    saved = time.monotonic()
                if stopping:
                    raise KeyboardInterrupt
        except Diverged:
            if last is not None:
                self._checkpoint(name, last)
            raise
        # all have to gather, one has to keep
        mine = path if first else self.folder / f".tmp-{name}-{world.rank}"
        with temporary(mine) as partial:
            model.save(partial)
        world.broadcast(None)
        self._forget(name)
        if world.size == 1:
            return model
        if not first:
            mine.unlink()
        whole = start.copy()  # the one that trained is in shards
        whole.load(path)
        return whole

    def _shards(self, name: str) -> list[Path]:
        """What several processes left of a training stage, the newest last."""
        found = [
            path for path in self.folder.glob(f"{name}.checkpoint-*") if not path.name.endswith(".partial")
        ]
        return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))

    def _checkpoint(self, name: str, step: Step) -> None:
        """The whole state after a step: a file, or of several processes a folder of their shards. The one
        before is only removed once the new one is there.
        """
        if self.world.size == 1:
            with temporary(self.folder / f"{name}.checkpoint.safetensors") as partial:
                save_tensors(step.state(), partial)
            for old in self._shards(name):
                shutil.rmtree(old)
            return
        folder = self.folder / f"{name}.checkpoint-{step.number}"
        partial = folder.with_name(f"{folder.name}.partial")
        save_state(step.state(), partial)
        if not self.world.rank:
            older = self._shards(name)
            partial.rename(folder)
            (self.folder / f"{name}.checkpoint.safetensors").unlink(missing_ok=True)
            for old in older:
                shutil.rmtree(old)
        self.world.broadcast(None)

    def _forget(self, name: str) -> None:
        if not self.world.rank:
            (self.folder / f"{name}.checkpoint.safetensors").unlink(missing_ok=True)
            for old in self._shards(name):
                shutil.rmtree(old)

    def artefact(self, name: str, write: Callable[[Path], None]) -> Path:
        """A file or folder that `write` makes, under a temporary name until it is whole; made once."""
        path = self.folder / name
        if not path.exists() and not self.world.rank:
            self._check_stop()
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary(path) as partial:
                write(partial)
        return path

    def _check_stop(self) -> None:
        if self.stop():
            raise KeyboardInterrupt


def step_metrics(run: Run, name: str) -> list[Row]:
    """The metrics of every step of a finished training stage."""
    return [row for _, row in lines(run.folder / f"{name}.steps.jsonl")]
