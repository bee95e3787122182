"""Prompts and comparisons from published formats. Rows that cannot be used are skipped and counted by
reason.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from solon.data.rows import comparison_from_row, from_messages
from solon.data.tables import Row, read_rows
from solon.errors import InputError
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation, Message, read_transcript, write_transcript

Value = TypeVar("Value")
SPEAKER = re.compile(r"(?<!\w)(Human|Assistant):")
PROMPT_FIELDS = ("prompt", "messages", "conversation", "chosen", "instruction", "question", "goal", "text")


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row that cannot be used: its line and the reason."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class ParsedFile(Generic[Value]):
    """The usable rows of a file and the skipped ones; every row is in one of the two."""

    source: str
    rows: tuple[Value, ...]
    skipped: tuple[SkippedRow, ...]

    def counts(self) -> dict[str, int]:
        """The number of skipped rows by reason."""
        return dict(Counter(skip.reason for skip in self.skipped))


class Defect(Exception):
    """A row has a known fault of published data: it is skipped and counted, and reading goes on."""


def parse_rows(
    path: Path,
    numbered: Iterable[tuple[int, Row]],
    parse: Callable[[Row], Value],
    key: Callable[[Value], str],
) -> ParsedFile[Value]:
    """`parse` of every numbered row. A row is skipped where `parse` raises Defect, or where its `key` repeats
    an earlier one. Raises InputError, with the line, on a row of another form, and where no row is usable.
    """
    rows: dict[str, Value] = {}
    skipped: list[SkippedRow] = []
    for line, row in numbered:
        try:
            value = parse(row)
            if key(value) in rows:
                raise Defect("repeats an earlier row")
            rows[key(value)] = value
        except Defect as defect:
            skipped.append(SkippedRow(line, str(defect)))
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InputError(
                f"{path}, line {line}: not of the form of the rows before ({type(error).__name__}: "
                f"{error}); its fields are {sorted(map(str, row))}"
            ) from error
    if not rows:
        raise InputError(f"{path} holds no usable row; left out: {dict(Counter(s.reason for s in skipped))}")
    return ParsedFile(str(path), tuple(rows.values()), tuple(skipped))


def read_prompts(path: Path) -> ParsedFile[Conversation]:
    """Prompts that end on a human turn, from JSONL, JSON, CSV, TSV, Parquet or plain text (one prompt a
    line).

    The prompt is text, a transcript or chat messages in the first field present of `PROMPT_FIELDS`. Of a
    conversation that ends on a reply, such as hh-rlhf's `chosen`, the reply is removed. Repeats are skipped
    and counted. Raises InputError, with the line, on a row without any such field.
    """
    return parse_rows(path, read_rows(path), parse_prompt, lambda prompt: prompt.key)


def parse_prompt(row: Row) -> Conversation:
    """The prompt of one row. Raises Defect where it cannot be used, InputError where the row has none."""
    name = next((name for name in PROMPT_FIELDS if row.get(name)), None)
    if name is None:
        raise InputError(f"no prompt in the fields {sorted(row)}; expected one of {', '.join(PROMPT_FIELDS)}")
    value = row[name]
    if name == "instruction" and isinstance(row.get("input"), str) and row["input"]:
        value = f"{value}\n\n{row['input']}"  # Alpaca rows have the instruction's subject in a second field
    prompt = _conversation(value)
    if prompt.turns and prompt.turns[-1].role == "assistant":
        prompt = Conversation(prompt.turns[:-1])
    if not prompt.awaits_reply or not prompt.last.strip():
        raise Defect("does not end on what a human said")
    _check_turns(prompt)
    return prompt


def _conversation(value: Any) -> Conversation:
    if isinstance(value, list):
        return from_messages(value)
    if not isinstance(value, str):
        raise InputError(f"a prompt must be text or a list of chat messages; found {type(value).__name__}")
    return read_transcript(value) if value.startswith("\n\nHuman:") else Conversation().human(value.strip())


def _check_turns(conversation: Conversation) -> None:
    spoken = [turn.role for turn in conversation.turns if turn.role != "system"]
    if any(a == b for a, b in itertools.pairwise(spoken)):
        raise Defect("one speaker has two turns in a row")


def read_comparisons(path: Path, *, axis: str = "") -> ParsedFile[Comparison]:
    """Comparisons from hh-rlhf pairs (`chosen` and `rejected` transcripts) or from Solon's rows. `axis` is
    set on those from pairs.

    Pairs with a known defect are skipped and counted: the transcripts differ before the last reply, a final
    reply is empty, a speaker has two turns in a row, a reply contains "Human:", or both replies are equal.
    """
    return parse_rows(
        path,
        read_rows(path),
        lambda row: _pair(row, axis) if "chosen" in row else _checked(comparison_from_row(row)),
        lambda comparison: comparison.key,
    )


def _pair(row: Row, axis: str) -> Comparison:
    if not isinstance(row.get("chosen"), str) or not isinstance(row.get("rejected"), str):
        raise InputError(f"a pair needs chosen and rejected transcripts; found the fields {sorted(row)}")
    sides = [read_transcript(row[name]) for name in ("chosen", "rejected")]
    for side in sides:
        if not side.turns or side.turns[-1].role != "assistant" or not side.last.strip():
            raise Defect("a final reply is empty")
    prompt, other_prompt = (Conversation(side.turns[:-1]) for side in sides)
    if prompt != other_prompt:
        raise Defect("the two sides differ before the last reply")
    _check_turns(sides[0])
    if any(SPEAKER.search(side.last) for side in sides):
        raise Defect("a reply goes on to speak for the human")
    return _checked(Comparison(prompt, sides[0].last, sides[1].last, 1.0, "human", axis))


def _checked(comparison: Comparison) -> Comparison:
    if not isinstance(comparison.first, str) or not isinstance(comparison.second, str):
        raise InputError("a comparison's first and second must be text")
    if not comparison.first.strip() or not comparison.second.strip():
        raise Defect("a final reply is empty")
    if comparison.first == comparison.second:
        raise Defect("the two replies are equal")
    if not comparison.prompt.awaits_reply:
        raise Defect("does not end on what a human said")
    return comparison


def to_hh_pair(comparison: Comparison) -> dict[str, str]:
    """An hh-rlhf row whose `chosen` is the preferred reply. Raises InputError on a tie, which the format
    cannot express.
    """
    if comparison.p_first == 0.5:
        raise InputError("a tie has no chosen side: hh-rlhf pairs cannot hold it")
    better = comparison if comparison.p_first > 0.5 else comparison.swapped()
    return {
        "chosen": _transcript(better.prompt, better.first),
        "rejected": _transcript(better.prompt, better.second),
    }


def _transcript(prompt: Conversation, reply: str) -> str:
    return write_transcript(prompt.assistant(reply))


def first_human_text(conversation: Conversation) -> str:
    """The text of the first human turn. Prompts that share it come from one dialogue, so it serves as cluster
    and as the unit of a split.
    """
    return next((turn.text for turn in conversation.turns if turn.role == "human"), "")


def split_by_opening(
    values: list[Value], opening_of: Callable[[Value], str], sizes: list[int]
) -> Iterator[list[Value]]:
    """Consecutive parts of the given sizes such that no opening occurs in two parts.

    All rows of an opening go to the first part that has room for one; rows beyond a part's size are left out.
    Raises InputError where there are too few rows.
    """
    groups: dict[str, list[Value]] = {}
    for value in values:
        groups.setdefault(opening_of(value), []).append(value)
    waiting = iter(groups.values())
    for size in sizes:
        part: list[Value] = []
        while len(part) < size:
            group = next(waiting, None)
            if group is None:
                raise InputError(
                    f"{len(values)} rows are too few for parts of {sizes} that share no dialogue"
                )
            part.extend(group)
        yield part[:size]


def read_dialogues(path: Path) -> Conversation:
    """A file of dialogues as one conversation, to serve as a context: transcripts (`Human: ...`, `Assistant:
    ...`, blank lines between) separated by lines of ---. Lines at the top that begin with # are comments.

    Raises InputError where a dialogue does not alternate from a human's turn to an assistant's.
    """
    lines = path.read_text().splitlines()
    while lines and (lines[0].startswith("#") or not lines[0].strip()):
        lines.pop(0)
    turns: list[Message] = []
    for number, part in enumerate(re.split(r"(?m)^---\s*$", "\n".join(lines)), 1):
        dialogue = read_transcript("\n\n" + part.strip())
        roles = [turn.role for turn in dialogue.turns]
        if not roles or len(roles) % 2 or roles != ["human", "assistant"] * (len(roles) // 2):
            raise InputError(
                f"{path}, dialogue {number}: the turns are {', '.join(roles)}; each must go from human to "
                "assistant"
            )
        turns += dialogue.turns
    return Conversation(tuple(turns))
