"""Public comparisons, for preference-model pretraining (Askell et al. 2021, arXiv:2112.00861, section 4).

Rows are of three kinds. A question with its answers, as in the published StackExchange sets: `question`, and
`answers` with `text` and either `pm_score`, or `votes` (or `score`) and `selected` (or `accepted`). An edit
that was kept and one that was reverted: `prompt`, `kept`, `reverted`. A model's annotation of two outputs, as
in AlpacaEval: `instruction`, `output_1`, `output_2`, and `preference` from 1 (the first) to 2.
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
    """One answer and its score from public votes (`answer_score`)."""

    text: str
    score: int


def answer_score(votes: int, accepted: bool) -> int:
    """round(log2(1 + votes)), plus 1 for an accepted answer; -1 where votes are negative.

    >>> [answer_score(votes, accepted) for votes, accepted in ((0, False), (1, False), (7, True), (-3, True))]
    [0, 1, 4, -1]
    """
    return -1 if votes < 0 else round(math.log2(1 + votes)) + int(accepted)


def exchange_comparisons(
    question: str, answers: Sequence[Answer], *, most: int = 10, seed: int = 0
) -> list[Comparison]:
    """Every pair of answers of unequal score, the better first; a sample of `most` pairs where there are
    more.
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
    """A ranked pair as two comparisons of a reply with itself: the better one, labelled good over labelled
    bad, and the worse one, labelled bad over labelled good. A model trained on these learns the labels and
    no ranking that later training would have to unlearn (Askell et al. 2021). Raises InputError on a tie.

    >>> first, second = binarise(Comparison(Conversation().human("q"), "a", "b", 1.0, "votes"))
    >>> (first.first, first.second), (second.first, second.second)
    (('GOOD: a', 'BAD: a'), ('BAD: b', 'GOOD: b'))
    """
    if comparison.p_first == 0.5:
        raise InputError("a tie has no better reply and cannot be binarised: leave ties out and count them")
    ranked = comparison if comparison.p_first > 0.5 else comparison.swapped()
    return (
        Comparison(
            ranked.prompt, GOOD + ranked.first, BAD + ranked.first, ranked.p_first, ranked.judge, ranked.axis
        ),
        Comparison(
            ranked.prompt,
            BAD + ranked.second,
            GOOD + ranked.second,
            ranked.p_first,
            ranked.judge,
            ranked.axis,
        ),
    )


def read_public_comparisons(path: Path, *, most: int = 10, seed: int = 0) -> ParsedFile[Comparison]:
    """The comparisons in a file of questions, edits or annotations; the fields of its first row say which.
    Rows with equal or empty sides, or without a preference, are skipped and counted.

    Raises InputError, with the line, on a row that lacks a field of its kind, and where no row can be used.
    """
    first = next(iter(read_rows(path)), None)
    if first is None:
        raise InputError(f"{path} holds no rows")
    if "answers" in first[1]:
        return read_stack_exchange(path, most=most, seed=seed)
    kinds = {"kept": _edit, "output_1": _annotation}
    parse = next((parser for name, parser in kinds.items() if name in first[1]), None)
    if parse is None:
        raise InputError(
            f"{path}: a row needs answers, or kept and reverted, or output_1, output_2 and preference; "
            f"found {sorted(first[1])}"
        )
    comparisons: list[Comparison] = []
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
            comparisons.append(comparison)
    if not comparisons:
        raise InputError(f"{path} holds no comparison that can be used; {len(skipped)} rows were left out")
    return ParsedFile(str(path), tuple(comparisons), tuple(skipped))


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
    """The comparisons in a file of questions. Questions with fewer than two answers, or with answers of one
    score, are skipped and counted. Raises InputError, with the line, on a row without question, answers or
    scores, and where no question can be used.
    """
    comparisons: list[Comparison] = []
    skipped: list[SkippedRow] = []
    for line, row in read_rows(path):
        try:
            question, answers = _question(row)
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        pairs = exchange_comparisons(question, answers, most=most, seed=seed)
        comparisons += pairs
        if not pairs:
            skipped.append(
                SkippedRow(
                    line, "fewer than two answers" if len(answers) < 2 else "all answers have one score"
                )
            )
    if not comparisons:
        raise InputError(
            f"{path} holds no question with two answers of unequal score; {len(skipped)} were left out"
        )
    return ParsedFile(str(path), tuple(comparisons), tuple(skipped))


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
