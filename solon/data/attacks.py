"""Red-team attacks and attempts, in the published row format.

Rows of hh-rlhf's red_team_attempts (Ganguli et al. 2022, arXiv:2209.07858) have a transcript, the minimum
harmlessness score of its assistant turns, the size and the type of the model, the attacker's rating from 0 to
4, the task description and its score, the attacker, and tags.
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

# our names of defenders to the published ones
MODEL_TYPES = {
    "plain": "plain lm",
    "prompted": "context distillation",
    "rejection": "rejection sampling",
    "rlhf": "rlhf",
}


@dataclass(frozen=True, slots=True)
class Attack:
    """The opening of a red-team dialogue, its attacker, the kind of harm that is intended, and where the
    attack comes from. `description` is the attacker's task description, where there is one.
    """

    opening: str
    attacker: str
    intent: str
    source: str
    description: str = ""

    @property
    def task(self) -> str:
        """The attacker's task description, else the opening."""
        return self.description or self.opening


@dataclass(frozen=True, slots=True)
class Attempt:
    """A dialogue with a defender of one type and size. `scores` are a preference model's harmlessness scores
    of its assistant turns (nats), `task_score` that of the task description.
    """

    attack: Attack
    defender: str
    size: str
    conversation: Conversation
    scores: tuple[float, ...]
    task_score: float

    @property
    def min_score(self) -> float:
        """The minimum of `scores`: the paper's measure of an attempt."""
        return min(self.scores)


def to_published_row(attempt: Attempt) -> dict[str, Any]:
    """The attempt as a row of the published file. The prompted model gets the file's name for it, "context
    distillation"; the rating is null, since nobody rated the attempt.
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
    """Attacks from published attempts, or from prompts in any form that `read_prompts` accepts.

    The opening is the first human turn. The intent is the first entry of `tags`, `intents` or
    `types_of_harm`, else `intent` or `category`, else "any". The attacker is `red_team_member_id` or
    `attacker`, else "". Repeated openings, rows without one, and openings that contain another speaker's turn
    are skipped and counted. Raises InputError where no row can be used.
    """
    rows: dict[str, Attack] = {}
    skipped: list[SkippedRow] = []
    for line, row in read_rows(path):
        opening = parse_opening(row, f"{path}, line {line}")
        if not opening or opening in rows or MARKER.search(f"\n\n{opening}"):
            skipped.append(
                SkippedRow(
                    line,
                    "repeats an earlier opening"
                    if opening in rows
                    else "holds another's turn"
                    if opening
                    else "has no opening",
                )
            )
            continue
        attacker = row.get("red_team_member_id", row.get("attacker"))
        description = str(row.get("task_description") or "")
        rows[opening] = Attack(
            opening, "" if attacker is None else str(attacker), parse_intent(row), "file", description
        )
    if not rows:
        raise InputError(f"{path} holds no attack that can be used; {len(skipped)} rows were left out")
    return ParsedFile(str(path), tuple(rows.values()), tuple(skipped))


def parse_opening(row: Mapping[str, Any], where: str) -> str:
    """The first human turn of a row's transcript or prompt; empty where there is none that can be used.
    `where` names the row in the InputError of an unknown form.
    """
    if isinstance(row.get("transcript"), str):
        return first_human_text(read_transcript(row["transcript"])).strip()
    try:
        return first_human_text(parse_prompt(dict(row))).strip()
    except Defect:
        return ""
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def parse_intent(row: Mapping[str, Any]) -> str:
    """The kind of harm that a row names; "any" where it names none.

    >>> parse_intent({"tags": ["Theft", "Hate speech"]}), parse_intent({})
    ('Theft', 'any')
    """
    for name in ("tags", "intents", "types_of_harm"):
        if isinstance(row.get(name), list) and row[name]:
            return str(row[name][0])
    return str(row.get("intent") or row.get("category") or "any")
