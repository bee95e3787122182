"""Public comparisons, for preference-model pretraining (Askell et al. 2021, arXiv:2112.00861, section 4).

Three kinds of rows: a question with its answers, as the published StackExchange sets have them (`question`,
and `answers` with `text`, and either `pm_score` or `votes`, also `score`, and `selected`, also `accepted`);
an edit that was kept beside one that was reverted (`prompt`, `kept`, `reverted`); and a model's annotation of
two outputs, as AlpacaEval has them (`instruction`, `output_1`, `output_2`, `preference` from 1, the first, to
2).
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solon.data.published import ParsedFile, SkippedRow
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation

GOOD, BAD = "GOOD: ", "BAD: "


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer and what the public gave it."""

    text: str
    score: int


def answer_score(votes: int, accepted: bool) -> int:
    """round(log2(1 + votes)), one more where the asker accepted it, and -1 where votes are below zero.

    >>> [answer_score(votes, accepted) for votes, accepted in ((0, False), (1, False), (7, True), (-3, True))]
    [0, 1, 4, -1]
    """
    return -1 if votes < 0 else round(math.log2(1 + votes)) + int(accepted)


def exchange_comparisons(
    question: str, answers: Sequence[Answer], *, most: int = 10, seed: int = 0
) -> list[Comparison]:
    """Every pair of answers of unequal score, the better one first; of more than `most` pairs that many are
    drawn.
    """
    prompt = Conversation().human(question)
    pairs = [
        (a, b) if a.score > b.score else (b, a)
        for a, b in itertools.combinations(answers, 2)
        if a.score != b.score and a.text != b.text
    ]
    chosen = pairs if len(pairs) <= most else random.Random(f"{seed} {prompt.key}").sample(pairs, most)
    return [Comparison(prompt, better.text, worse.text, 1.0, "votes", "public") for better, worse in chosen]


def binarise(comparison: Comparison) -> tuple[Comparison, Comparison]:
    """A ranked pair as two that teach the words good and bad instead of the ranking, which later training
    would have to unlearn: the better reply called good over itself called bad, the worse called bad over
    itself called good.

    >>> first, second = binarise(Comparison(Conversation().human("q"), "a", "b", 1.0, "votes"))
    >>> (first.first, first.second), (second.first, second.second)
    (('GOOD: a', 'BAD: a'), ('BAD: b', 'GOOD: b'))
    """
    if comparison.p_first == 0.5:
        raise InputError(
            "a tie has no better reply, so it cannot be binarised: leave ties out and count them"
        )
    own = comparison if comparison.p_first > 0.5 else comparison.swapped()
    return (
        Comparison(own.prompt, GOOD + own.first, BAD + own.first, own.p_first, own.judge, own.axis),
        Comparison(own.prompt, BAD + own.second, GOOD + own.second, own.p_first, own.judge, own.axis),
    )


def read_public_comparisons(path: Path, *, most: int = 10, seed: int = 0) -> ParsedFile[Comparison]:
    """The comparisons of a file of questions, edits or annotations, by the fields of its first row. Edits
    that changed nothing, and annotations without a preference or with equal or empty outputs, are left out
    and counted.

    Raises InputError, with the line, on a row that lacks a field of its kind.
    """
    first = next(iter(read_rows(path)), None)
    if first is None:
        raise InputError(f"{path} holds no rows")
    if "answers" in first[1]:
        return read_stack_exchange(path, most=most, seed=seed)
    kinds = {"kept": _edit, "output_1": _annotation}
    parse = next((own for name, own in kinds.items() if name in first[1]), None)
    if parse is None:
        raise InputError(
            f"{path}: a row needs answers, or kept and reverted, or output_1, output_2 and preference; "
            f"found {sorted(first[1])}"
        )
    found: list[Comparison] = []
    skipped: list[SkippedRow] = []
    for line, row in read_rows(path):
        try:
            comparison = parse(row)
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        if not comparison.first.strip() or not comparison.second.strip():
            skipped.append(SkippedRow(line, "one side is empty"))
        elif comparison.first == comparison.second or comparison.p_first == 0.5:
            skipped.append(SkippedRow(line, "both sides are equal, or neither is preferred"))
        else:
            found.append(comparison)
    if not found:
        raise InputError(f"{path} holds no comparison that can be used; {len(skipped)} rows were left out")
    return ParsedFile(str(path), tuple(found), tuple(skipped))


def _edit(row: Mapping[str, Any]) -> Comparison:
    prompt, kept, reverted = (_text(row, name) for name in ("prompt", "kept", "reverted"))
    return Comparison(Conversation().human(prompt), kept, reverted, 1.0, "edits", "public")


def _annotation(row: Mapping[str, Any]) -> Comparison:
    prompt, first, second = (_text(row, name) for name in ("instruction", "output_1", "output_2"))
    if "preference" not in row:
        raise InputError(f"an annotation needs preference; found the fields {sorted(row)}")
    preference = row["preference"]
    if preference is None or preference != preference:
        preference = 1.5  # the annotator gave none
    if isinstance(preference, bool) or not isinstance(preference, (int, float)) or not 1 <= preference <= 2:
        raise InputError(f"preference must be a number from 1 (the first output) to 2; found {preference!r}")
    return Comparison(
        Conversation().human(prompt),
        first,
        second,
        2.0 - float(preference),
        str(row.get("annotator", "annotations")),
        "public",
    )


def _text(row: Mapping[str, Any], name: str) -> str:
    if not isinstance(row.get(name), str):
        raise InputError(f"{name} must be text; found the fields {sorted(row)}")
    return str(row[name])


def read_stack_exchange(path: Path, *, most: int = 10, seed: int = 0) -> ParsedFile[Comparison]:
    """The comparisons of a file of questions. Questions with fewer than two answers, or whose answers are all
    of one score, are left out and counted. Raises InputError, with the line, on a row without question,
    answers or scores.
    """
    found: list[Comparison] = []
    skipped: list[SkippedRow] = []
    for line, row in read_rows(path):
        try:
            question, answers = _question(row)
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        made = exchange_comparisons(question, answers, most=most, seed=seed)
        found += made
        if not made:
            skipped.append(
                SkippedRow(
                    line, "fewer than two answers" if len(answers) < 2 else "all answers have one score"
                )
            )
    if not found:
        raise InputError(
            f"{path} holds no question with two answers of unequal score; {len(skipped)} were left out"
        )
    return ParsedFile(str(path), tuple(found), tuple(skipped))


def _question(row: Mapping[str, Any]) -> tuple[str, list[Answer]]:
    question, answers = row.get("question"), row.get("answers")
    if not isinstance(question, str) or not question.strip() or not isinstance(answers, list):
        raise InputError(f"a question needs its text and a list of answers; found the fields {sorted(row)}")
    return question, [_answer(answer) for answer in answers]


def _answer(answer: object) -> Answer:
    if (
        not isinstance(answer, Mapping)
        or not isinstance(answer.get("text"), str)
        or not answer["text"].strip()
    ):
        raise InputError(f"an answer must be an object with text; found {answer!r:.80}")
    if isinstance(answer.get("pm_score"), int):
        return Answer(answer["text"], answer["pm_score"])
    votes = answer.get("votes", answer.get("score"))
    if not isinstance(votes, int) or isinstance(votes, bool):
        raise InputError(
            f"an answer needs pm_score or votes, a whole number; found the fields {sorted(answer)}"
        )
    return Answer(
        answer["text"], answer_score(votes, bool(answer.get("selected", answer.get("accepted", False))))
    )
