"""A constitution: the principles of critiques, revisions and comparisons, read from a text file."""

from __future__ import annotations

import configparser
import random
from dataclasses import dataclass
from pathlib import Path

from solon.errors import InputError

FIELDS = ("critique", "revision", "preference")


@dataclass(frozen=True, slots=True)
class Principle:
    """A critique request with its revision request, a preference question, or all three; "" where absent."""

    name: str
    critique: str = ""
    revision: str = ""
    preference: str = ""


@dataclass(frozen=True, slots=True)
class Constitution:
    """Principles in order. Constitutional AI has 16 for revisions and 16 others for comparisons
    (arXiv:2212.08073).
    """

    principles: tuple[Principle, ...]

    @property
    def revision_principles(self) -> tuple[Principle, ...]:
        """The principles that have a critique request."""
        return tuple(p for p in self.principles if p.critique)

    @property
    def preference_principles(self) -> tuple[Principle, ...]:
        """The principles that have a preference question."""
        return tuple(p for p in self.principles if p.preference)

    def draw_revision_principle(self, rng: random.Random) -> Principle:
        """One of `revision_principles`, each as likely."""
        return rng.choice(self.revision_principles)

    def draw_preference_principle(self, rng: random.Random) -> Principle:
        """One of `preference_principles`, each as likely."""
        return rng.choice(self.preference_principles)


def parse_constitution(text: str, *, source: str = "constitution") -> Constitution:
    """Principles from text: a `[name]` line, then `critique:` and `revision:` lines, a `preference:` line, or
    all three. A line that starts with `#` is a comment; an indented line continues the one above.

    Raises InputError on text without principles, on unknown or empty fields, on a critique without its
    revision, and where no principle has a critique or none a preference question. `source` names the text
    in messages.

    >>> text = '''
    ... [kind]
    ... critique: Was that reply unkind?
    ... revision: Rewrite it kindly.
    ... preference: Which reply is kinder?
    ... '''
    >>> parse_constitution(text).principles[0].revision
    'Rewrite it kindly.'
    """
    parser = configparser.ConfigParser(
        delimiters=(":",),
        comment_prefixes=("#",),
        interpolation=None,
        default_section="\0",
        empty_lines_in_values=False,
    )
    try:
        parser.read_string(text, source=source)
    except configparser.Error as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{source} is not a constitution: {reason}; expected [name] lines with {FIELDS}"
        ) from error
    principles = []
    for name in parser.sections():
        fields = {key: " ".join(value.split()) for key, value in parser.items(name)}
        unknown = sorted(set(fields) - set(FIELDS))
        if unknown:
            raise InputError(
                f"{source}: principle [{name}] has the unknown field {unknown[0]!r}; expected {FIELDS}"
            )
        empty = [key for key, value in fields.items() if not value]
        if empty or not fields:
            raise InputError(f"{source}: principle [{name}] has no text for {empty[0] if empty else FIELDS}")
        if ("critique" in fields) != ("revision" in fields):
            raise InputError(f"{source}: principle [{name}] needs both a critique and a revision, or neither")
        principles.append(Principle(name, **fields))
    constitution = Constitution(tuple(principles))
    if not principles:
        raise InputError(
            f"{source} holds no principles; write at least one [name] with critique, revision and preference"
        )
    if not constitution.revision_principles or not constitution.preference_principles:
        lacking = "critique and revision" if not constitution.revision_principles else "preference"
        raise InputError(f"{source}: no principle has a {lacking}; alignment needs at least one of each kind")
    return constitution


def read_constitution(path: Path) -> Constitution:
    """`parse_constitution` of a UTF-8 file. Raises InputError where the file cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the constitution {path}: {error}") from error
    return parse_constitution(text, source=str(path))
