"""What a run keeps on disk: rows in lines, files that take their name once they are whole."""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

Item = TypeVar("Item")
Row = dict[str, Any]


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A path beside `path` that takes its name at the end; on any error it is removed and `path` stays as it
    was.
    """
    partial = path.with_name(f"{path.name}.partial")
    if partial.is_dir():
        shutil.rmtree(partial)
    try:
        yield partial
        share(partial)
        partial.rename(path)
    except BaseException:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
        raise


def share(path: Path) -> None:
    """Give files that a library wrote for their owner alone (safetensors does) the mode that files usually
    get here.
    """
    mask = os.umask(0)
    os.umask(mask)
    for file in (path, *path.rglob("*")) if path.is_dir() else (path,):
        if file.is_file() and not file.stat().st_mode & 0o077:
            file.chmod(0o666 & ~mask)


def write_text(path: Path, text: str) -> None:
    """Text under a temporary name, synced, then renamed."""
    with temporary(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def append(path: Path, rows: Sequence[Row]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def lines(path: Path) -> Iterator[tuple[int, Row]]:
    """(end offset, row) of every whole line; a torn or damaged line ends it."""
    if not path.exists():
        return
    end = 0
    for line in path.read_bytes().splitlines(keepends=True):
        row = row_of(line)
        if row is None:
            return
        end += len(line)
        yield end, row


def read_back(file: IO[bytes], keys: Sequence[str]) -> list[Row] | None:
    """The next rows of a file where they are whole and of these items, else None."""
    found: list[Row] = []
    for key in keys:
        row = row_of(file.readline())
        if row is None or row.get("key") != key:
            return None
        found.append(row)
    return found


def noted(items: Iterable[Item], given: deque[Item]) -> Iterator[Item]:
    """The items, each put down in `given` as it is handed out."""
    for item in items:
        given.append(item)
        yield item


def row_of(line: bytes) -> Row | None:
    """What one whole line says; None where it is torn or damaged."""
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return row if line.endswith(b"\n") and isinstance(row, dict) else None


def cut_after(path: Path, number: int) -> None:
    """Drop what a log holds of steps after `number`: they are about to be made again."""
    if not path.exists():
        return
    end = max((end for end, row in lines(path) if row["number"] <= number), default=0)
    with path.open("r+b") as file:
        file.truncate(end)
