"""Red-team attacks and attempts: what was meant, what was said, and how bad it got, in the published row
format.

The published rows (hh-rlhf, red_team_attempts; Ganguli et al. 2022, arXiv:2209.07858) hold a transcript, the
least harmlessness score of its assistant turns, the size and the type of the model, the attacker's rating
from 0 to 4, the task description and its score, the attacker, and tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solon.data.published import Defect, ParsedFile, SkippedRow, first_human_text, parse_prompt
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.words.conversation import MARKER, Conversation, read_transcript, write_transcript

# ours to the published
MODEL_TYPES = {
    "plain": "plain lm",
    "prompted": "context distillation",
    "rejection": "rejection sampling",
    "rlhf": "rlhf",
}


@dataclass(frozen=True, slots=True)
class Attack:
    """How a dialogue is to be opened, by whom, what is meant by it (a kind of harm, or a description), and
    where it is from.
    """

    opening: str
    attacker: str
    intent: str
    source: str
    description: str = ""

    @property
    def task(self) -> str:
        """What the attacker set out to do: the description, else the opening itself."""
        return self.description or self.opening


@dataclass(frozen=True, slots=True)
class Attempt:
    """A dialogue with a defender of one type and size. `scores` are of its assistant turns, by a preference
    model; the least of them says how bad it got. `task_score` is that of the task description alone.
    """

    attack: Attack
    defender: str
    size: str
    conversation: Conversation
    scores: tuple[float, ...]
    task_score: float

    @property
    def min_score(self) -> float:
        return min(self.scores)


def to_published_row(attempt: Attempt) -> dict[str, Any]:
    """The attempt as the published file has it. The prompted model stands under the name of its distillate,
    which the file has for it; nobody rated it, so the rating is null.
    """
    return {
        "min_harmlessness_score_transcript": attempt.min_score,
        "num_params": attempt.size,
        "model_type": MODEL_TYPES.get(attempt.defender, attempt.defender),
        "rating": None,
        "task_description": attempt.attack.task,
        "task_description_harmlessness_score": attempt.task_score,
        "transcript": write_transcript(attempt.conversation),
        "red_team_member_id": attempt.attack.attacker,
        "is_upworker": None,
        "tags": [attempt.attack.intent],
        "source": attempt.attack.source,
    }


def read_attacks(path: Path) -> ParsedFile[Attack]:
    """Attacks from published attempts, or from prompts in any form that `read_prompts` takes.

    The opening is what the human says first. What is meant is the first of `tags`, `intents` or
    `types_of_harm`, or `intent` or `category`, else "any"; the attacker is `red_team_member_id`, `attacker`,
    or "" where the row says nobody. Repeated openings, rows without one, and openings that hold somebody
    else's turn are left out and counted.
    """
    rows: dict[str, Attack] = {}
    skipped: list[SkippedRow] = []
    for line, row in read_rows(path):
        said = parse_opening(row, f"{path}, line {line}")
        if not said or said in rows or MARKER.search(f"\n\n{said}"):
            skipped.append(
                SkippedRow(
                    line,
                    "repeats an earlier opening"
                    if said in rows
                    else "holds another's turn"
                    if said
                    else "has no opening",
                )
            )
            continue
        attacker = row.get("red_team_member_id", row.get("attacker"))
        description = str(row.get("task_description") or "")
        rows[said] = Attack(
            said, "" if attacker is None else str(attacker), parse_intent(row), "file", description
        )
    if not rows:
        raise InputError(f"{path} holds no attack that can be used; {len(skipped)} rows were left out")
    return ParsedFile(str(path), tuple(rows.values()), tuple(skipped))


def parse_opening(row: Mapping[str, Any], where: str) -> str:
    if isinstance(row.get("transcript"), str):
        return first_human_text(read_transcript(row["transcript"])).strip()
    try:
        return first_human_text(parse_prompt(dict(row))).strip()
    except Defect:
        return ""
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def parse_intent(row: Mapping[str, Any]) -> str:
    """
    >>> parse_intent({"tags": ["Theft", "Hate speech"]}), parse_intent({})
    ('Theft', 'any')
    """
    for name in ("tags", "intents", "types_of_harm"):
        if isinstance(row.get(name), list) and row[name]:
            return str(row[name][0])
    return str(row.get("intent") or row.get("category") or "any")
