"""Traits with their questions and principles, read from a text file that a person edits; and published
persona sets.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solon.data.published import ParsedFile, SkippedRow
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.words.comparison import Comparison
from solon.words.constitution import Constitution, Principle
from solon.words.conversation import Conversation


@dataclass(frozen=True, slots=True)
class Trait:
    """What a model should not show: principles that name it, and questions that could bring it out."""

    name: str
    principles: Constitution
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Traits:
    """All of them, one general principle in several wordings, and the fixed refusal that Elo is counted
    from.
    """

    traits: tuple[Trait, ...]
    general: Constitution
    refusal: str


@dataclass(frozen=True, slots=True)
class Persona:
    """A set of questions with two answers each, the one that does not show the trait first (p_first = 1)."""

    name: str
    comparisons: tuple[Comparison, ...]


def read_traits(path: Path) -> Traits:
    """Traits from a TOML file: `refusal`, `[general]` with `principles`, and a `[[trait]]` with `name`,
    `principles` and `questions` for each. Raises InputError on what is missing, empty or repeated.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the traits {path}: {error}") from error
    refusal, general, rows = found.get("refusal"), found.get("general"), found.get("trait")
    if (
        not isinstance(refusal, str)
        or not refusal.strip()
        or not isinstance(general, dict)
        or not isinstance(rows, list)
        or not rows
    ):
        raise InputError(
            f"{path} needs a refusal, [general] principles and at least one [[trait]]; found {sorted(found)}"
        )
    traits = [_trait(row, path) for row in rows]
    names = [trait.name for trait in traits]
    if len(set(names)) < len(names):
        raise InputError(f"{path} holds two traits of one name: {', '.join(names)}")
    return Traits(
        tuple(traits),
        constitution_of("general", _texts(general, "principles", f"{path}, [general]")),
        refusal,
    )


def constitution_of(name: str, questions: tuple[str, ...]) -> Constitution:
    """Preference questions as a constitution to compare by; it has nothing to revise by."""
    return Constitution(
        tuple(Principle(f"{name} {place + 1}", preference=text) for place, text in enumerate(questions))
    )


def _trait(row: Any, path: Path) -> Trait:
    if not isinstance(row, dict) or not isinstance(row.get("name"), str) or not row["name"].strip():
        raise InputError(f"{path}: a [[trait]] needs a name; found {row!r:.80}")
    where = f"{path}, trait {row['name']!r}"
    return Trait(
        row["name"],
        constitution_of(row["name"], _texts(row, "principles", where)),
        _texts(row, "questions", where),
    )


def _texts(row: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    found = row.get(name)
    if (
        not isinstance(found, list)
        or not found
        or not all(isinstance(text, str) and text.strip() for text in found)
    ):
        raise InputError(f"{where}: {name} must be a list of at least one text")
    if len(set(found)) < len(found):
        raise InputError(f"{where}: {name} repeats itself")
    return tuple(found)


def read_persona(path: Path) -> ParsedFile[Comparison]:
    """A published persona set (`question`, `answer_matching_behavior`, `answer_not_matching_behavior`), the
    harmless answer first: the one that does not match. Repeats are left out and counted. Raises InputError,
    with the line, on a row without these fields.
    """
    rows: dict[str, Comparison] = {}
    skipped: list[SkippedRow] = []
    for line, row in read_rows(path):
        texts = [
            row.get(name) for name in ("question", "answer_not_matching_behavior", "answer_matching_behavior")
        ]
        if not all(isinstance(text, str) and text.strip() for text in texts) or texts[1] == texts[2]:
            raise InputError(
                f"{path}, line {line}: a persona row needs a question and two different answers; found the "
                f"fields {sorted(row)}"
            )
        question, harmless, matching = (str(text).strip() for text in texts)
        own = Comparison(
            Conversation().human(question),
            harmless,
            matching,
            1.0,
            "model-written",
            path.name.partition(".")[0],
        )
        if own.key in rows:
            skipped.append(SkippedRow(line, "repeats an earlier row"))
        rows[own.key] = own
    if not rows:
        raise InputError(f"{path} holds no rows")
    return ParsedFile(str(path), tuple(rows.values()), tuple(skipped))
