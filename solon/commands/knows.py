"""`solon knows MODEL --questions FILE`: fit what a model knows of itself; `solon knows RUN/model --ask TEXT`:
answer, or decline to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from solon.errors import InputError
from solon.study.conduct import show
from solon.study.console import answer
from solon.study.options import parse
from solon.tools.knows.inputs import Options, fit_knower, free_questions
from solon.tools.knows.knower import FILE, Knower, load
from solon.words.question import Problem

USAGE = (
    "solon knows needs a model, and --questions or, for a fitted model, --ask; `solon knows --help` lists "
    "the "
    "options"
)


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="knows")
    if not options.model or bool(options.questions) == bool(options.ask):
        raise InputError(USAGE)
    fitted = (Path(options.model) / FILE).exists()
    if options.ask and not fitted:
        raise InputError(
            f"{options.model} is not fitted yet: solon knows {options.model} --questions FILE writes a "
            "folder that can be asked"
        )
    if not fitted:
        finished = fit_knower(options, argv=["solon", "knows", *argv])
        return show("knows", finished, options, as_json=options.json)
    knower = load(Path(options.model), precision=options.precision)
    return answer_one(knower, options) if options.ask else answer_file(knower, options)


def answer_one(knower: Knower, options: Options) -> int:
    """One question, answered or declined."""
    like = knower.examples[0] if knower.examples else Problem("Question:")
    question = f"Question: {options.ask.strip()}"
    problem = Problem(question, opening=like.opening, grade=like.grade, max_tokens=like.max_tokens)
    [row] = knower.answered([problem])
    row.pop("right")
    words = row["answer"] if row["answers"] else "(it does not know this surely enough to answer)"
    threshold = knower.threshold
    human = (
        f"{words}\nconfidence {row['confidence']:.3f}, answers from {threshold.value:.3f}: "
        f"{threshold.guarantee}"
    )
    return answer({**row, "threshold": threshold.value}, human, as_json=options.json)


def answer_file(knower: Knower, options: Options) -> int:
    """A file of questions, each a line of JSON on standard output; the counts at the end."""
    problems = free_questions(options.questions)[1][: options.settings.limit or None]
    answered = wrong = 0
    for start in range(0, len(problems), 16):
        for row in knower.answered(problems[start : start + 16]):
            answered += row["answers"]
            wrong += row["answers"] and row["right"] is False
            print(json.dumps(row if row["answers"] else {**row, "answer": None}, ensure_ascii=False))
    result = {
        "questions": len(problems),
        "answered": answered,
        "wrong": wrong,
        "threshold": knower.threshold.value,
    }
    human = f"{answered} of {len(problems)} questions answered, {wrong} of the answers wrong"
    return answer(result, human, as_json=options.json)
