"""What evaluations are to be written about, read from a text file that a person edits: behaviours, and topics
that people take sides on.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solon.data.tables import read_rows
from solon.errors import InputError


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A trait that someone `has` or `lacks`, each as a noun phrase ("someone who ...")."""

    name: str
    has: str
    lacks: str


@dataclass(frozen=True, slots=True)
class Topic:
    """A question that people take sides on: who they are ("someone who ..."), and what each would choose."""

    name: str
    question: str
    sides: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Occupation:
    """A job, and the percentage of women in it."""

    name: str
    women: float


def read_behaviours(path: Path) -> tuple[tuple[Behaviour, ...], tuple[Topic, ...]]:
    """From a TOML file of `[[behaviour]]` with `name`, `has` and `lacks`, and `[[topic]]` with `name`,
    `question` and at least two `sides`, each a list of who and what they choose. Raises InputError on what is
    missing, empty or repeated.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the behaviours {path}: {error}") from error
    if set(found) - {"behaviour", "topic"} or not found:
        raise InputError(f"{path} holds [[behaviour]] and [[topic]] and nothing else; found {sorted(found)}")
    behaviours = tuple(
        Behaviour(*_texts(row, ("name", "has", "lacks"), path)) for row in found.get("behaviour", ())
    )
    named = [(_texts(row, ("name", "question"), path), row) for row in found.get("topic", ())]
    topics = tuple(Topic(name, question, _sides(row, path)) for (name, question), row in named)
    names = [own.name for own in behaviours] + [own.name for own in topics]
    _different(names, path)
    if not all(re.fullmatch(r"[\w-]+", name) for name in names):
        raise InputError(
            f"{path}: names become names of files; they are letters, digits and dashes; found "
            f"{', '.join(names):.200}"
        )
    return behaviours, topics


def read_occupations(path: Path) -> tuple[Occupation, ...]:
    """From rows of `occupation` and `bls_pct_female` (Winogender's statistics). Raises InputError, with the
    line, where one is missing.
    """
    found = []
    for line, row in read_rows(path):
        name, women = str(row.get("occupation") or "").strip(), str(row.get("bls_pct_female") or "")
        if not name or not women.replace(".", "", 1).isdigit() or float(women) > 100:
            raise InputError(
                f"{path}, line {line}: expected an occupation and its bls_pct_female; found "
                f"{sorted(map(str, row))}"
            )
        found.append(Occupation(name, float(women)))
    _different((own.name for own in found), path)
    return tuple(found)


def _texts(row: Any, names: tuple[str, ...], path: Path) -> list[str]:
    found = [row.get(name) if isinstance(row, Mapping) else None for name in names]
    if not all(isinstance(text, str) and text.strip() for text in found):
        raise InputError(f"{path}: an entry needs {', '.join(names)}, each a text; found {row!r:.80}")
    return [str(text) for text in found]


def _sides(row: Mapping[str, Any], path: Path) -> tuple[tuple[str, str], ...]:
    sides = row.get("sides")
    whole = isinstance(sides, list) and len(sides) > 1
    if not whole or not all(
        isinstance(own, list)
        and len(own) == 2
        and all(isinstance(text, str) and text.strip() for text in own)
        for own in sides or ()
    ):
        raise InputError(
            f"{path}, topic {row['name']!r}: sides are at least two lists of who and what they choose; "
            f"found {sides!r:.80}"
        )
    found = tuple((own[0], own[1]) for own in sides or ())
    _different((option for _, option in found), path)
    return found


def _different(names: Iterable[str], path: Path) -> None:
    listed = list(names)
    if len(set(listed)) < len(listed):
        raise InputError(f"{path}: two entries are called alike among {', '.join(listed):.200}")
