"""One SQLite file that knows every run under a root: `runs/index.sqlite`. The folders stay the truth; this
finds them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from solon.errors import InputError


def m001_runs(db: sqlite3.Connection) -> None:
    db.execute(
        "create table runs (folder text primary key, study text not null, preset text not null, seed "
        "integer not null,"
        " model text not null, started real not null, seconds real, claims text)"
    )


def m002_runs_by_study(db: sqlite3.Connection) -> None:
    db.execute("create index runs_by_study on runs (study, started)")


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (m001_runs, m002_runs_by_study)


@contextmanager
def opened(root: Path) -> Iterator[sqlite3.Connection]:
    """The index, brought up to date. Raises InputError where a newer Solon made it."""
    root.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(root / "index.sqlite", timeout=30)
    db.row_factory = sqlite3.Row
    try:
        with db:
            db.execute("create table if not exists migrations (name text primary key)")
            done = {row["name"] for row in db.execute("select name from migrations")}
            unknown = done - {step.__name__ for step in MIGRATIONS}
            if unknown:
                raise InputError(
                    f"{root / 'index.sqlite'} was made by a newer Solon (it knows {sorted(unknown)[0]}); "
                    "upgrade Solon"
                )
            for step in MIGRATIONS:
                if step.__name__ not in done:
                    step(db)
                    db.execute("insert into migrations values (?)", (step.__name__,))
        with db:
            yield db
    finally:
        db.close()


def began(
    root: Path, folder: Path, *, study: str, preset: str, seed: int, model: str, started: float
) -> None:
    with opened(root) as db:
        words = (
            "insert into runs values (?, ?, ?, ?, ?, ?, null, null) on conflict (folder) do update set "
            "started = excluded.started"
        )
        db.execute(words, (str(folder.relative_to(root)), study, preset, seed, model, started))


def ended(root: Path, folder: Path, *, seconds: float, claims: list[Mapping[str, Any]]) -> None:
    with opened(root) as db:
        words = "update runs set seconds = ?, claims = ? where folder = ?"
        db.execute(words, (seconds, json.dumps(claims), str(folder.relative_to(root))))


def runs(root: Path) -> list[dict[str, Any]]:
    """Every run, the latest first; `claims` is None where it has not finished."""
    if not (root / "index.sqlite").exists():
        return []
    with opened(root) as db:
        rows = [dict(row) for row in db.execute("select * from runs order by started desc")]
    return [{**row, "claims": json.loads(row["claims"]) if row["claims"] else None} for row in rows]
