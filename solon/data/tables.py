"""Rows of JSONL, JSON, CSV, TSV, Parquet and text files, with their line numbers."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from solon.errors import InputError

Row = dict[str, Any]
FORMATS = ".jsonl, .json, .csv, .tsv, .parquet or .txt, each but Parquet also as .gz"


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """(line number, row) of each row; a line of a text file is {"text": line}. Lines count from 1, a table's
    header included; blank lines are skipped. Raises InputError, with the line, on what cannot be read, and on
    a file without rows.
    """
    any_row = False
    try:
        for found_row in _rows(path):
            any_row = True
            yield found_row
    except (OSError, UnicodeDecodeError, gzip.BadGzipFile, EOFError, pa.ArrowInvalid, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not any_row:
        raise InputError(f"{path} is empty: no row to read")


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])
    if kind == ".parquet":
        parts = pq.ParquetFile(path).iter_batches(batch_size=1024)
        yield from enumerate((row for part in parts for row in part.to_pylist()), start=1)
        return
    if kind not in (".jsonl", ".json", ".csv", ".tsv", ".txt"):
        raise InputError(
            f"{path}: cannot tell the format from {''.join(suffixes) or 'no suffix'!r}; expected {FORMATS}"
        )
    opened = gzip.open if suffixes[-1] == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="" if kind in (".csv", ".tsv") else "\n") as file:
        if kind == ".json":
            yield from enumerate(_json_list(file.read(), path), start=1)
        elif kind == ".jsonl":
            yield from _json_lines(file, path)
        elif kind == ".txt":
            yield from (
                (number, {"text": line.removesuffix("\n")})
                for number, line in enumerate(file, 1)
                if line.strip()
            )
        else:
            yield from _delimited(file, path, "\t" if kind == ".tsv" else ",")


def _json_list(text: str, path: Path) -> list[Row]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path} must be a JSON list of objects; found {type(rows).__name__}")
    return rows


def _json_lines(lines: Iterable[str], path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: not JSON ({error.msg}): {line[:60]!r}") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: expected an object, found {type(row).__name__}")
        yield number, row


def _delimited(lines: Iterable[str], path: Path, delimiter: str) -> Iterator[tuple[int, Row]]:
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
    for row in reader:
        if None in row or None in row.values():
            raise InputError(
                f"{path}, line {reader.line_num}: {len(reader.fieldnames or ())} columns expected; this "
                "row differs"
            )
        yield reader.line_num, dict(row)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as JSONL, CSV, TSV or Parquet, by the suffix. Nested values become JSON text in CSV and
    TSV. Raises InputError on another suffix.
    """
    listed: Sequence[Mapping[str, Any]] = list(rows)
    if path.suffix == ".jsonl":
        path.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in listed), encoding="utf-8"
        )
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([dict(row) for row in listed]), path)
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            columns = list(dict.fromkeys(name for row in listed for name in row))
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerow(columns)
            writer.writerows([_cell(row.get(name, "")) for name in columns] for row in listed)
    else:
        raise InputError(f"cannot write {path}: choose .jsonl, .csv, .tsv or .parquet")


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list, tuple)) else value
