"""`solon knows MODEL --questions FILE`: fit what a model knows of itself; `solon knows RUN/model --ask TEXT`:
answer, or decline to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from solon.data.evaluations import Evaluation, read_evaluation
from solon.errors import InputError
from solon.models.load import load_open
from solon.study.legacy import StudyOptions, answer, parse, run_study, say, skipped_counts
from solon.study.outcomes import Form, digest_of, form_of_dialogue
from solon.tools.knows.study import FILE, Knower, load, study
from solon.tools.knows.settings import Settings
from solon.words.question import Problem


@dataclass(frozen=True)
class Options(StudyOptions):
    """Teach a model when it knows, with a guaranteed rate of wrong answers; then let it answer only what it
    knows.
    """

    model: Annotated[str, tyro.conf.Positional] = ""
    """smollm2, gemma3-270m, a model folder or a hub id to fit; or RUN/model, as this command wrote it, to
    answer with
    """
    questions: Path | None = None
    """questions with answers (NQ-open, GSM8K, or rows of {question, answers}) to fit on; or, with a fitted
    model, to answer
    """
    ask: str = ""
    """one question for a fitted model"""
    form: Form = "auto"
    preset: Annotated[Literal["quick", "full"], tyro.conf.Suppress] = "quick"
    settings: Settings = field(default_factory=Settings)


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="knows")
    fitted = bool(options.model) and (Path(options.model) / FILE).exists()
    if not options.model or bool(options.questions) == bool(options.ask):
        raise InputError(
            "solon knows needs a model, and --questions or, for a fitted model, --ask; `solon knows "
            "--help` lists the options"
        )
    if options.ask and not fitted:
        raise InputError(
            f"{options.model} is not fitted yet: solon knows {options.model} --questions FILE writes a "
            "folder that can be asked"
        )
    if fitted:
        knower = load(Path(options.model), precision=options.precision)
        return asked(knower, options) if options.ask else answered(knower, options)
    found = usable(options.questions)
    model = load_open(options.model, precision=options.precision, say=say)
    model = model.plain() if form_of_dialogue(model, options.form) == "text" else model
    problems = [own for own in found.problems if not own.options]
    inputs = {"model": model.fingerprint, "questions": digest_of([], problems)}
    counts, settings = (
        skipped_counts(found.reading, found.name),
        {**asdict(options.settings), "form": options.form},
    )

    def work(run: Any) -> Any:
        made = study(run, options.settings, model, problems, counts)
        say(f"fitted model  {run.folder / 'model'}")
        return made

    return run_study(options, "knows", settings, inputs, model.name, work)


def usable(path: Path | None) -> Evaluation:
    """Questions with free replies and answers. Raises InputError where there are none."""
    if path is None:
        raise InputError("give --questions")
    found = read_evaluation(path)
    free = [own for own in found.problems if not own.options and own.answers]
    if not free:
        raise InputError(f"{path} is {found.kind}: it holds no questions with free replies and known answers")
    if len({(own.max_tokens, own.grade) for own in free}) > 1:
        raise InputError(f"{path} mixes kinds of reply; give each kind in a file of its own")
    return found


def asked(knower: Knower, options: Options) -> int:
    """One question, answered or declined."""
    like = knower.examples[0] if knower.examples else Problem("Question:")
    put = Problem(
        f"Question: {options.ask.strip()}", opening=like.opening, grade=like.grade, max_tokens=like.max_tokens
    )
    [row] = knower.answered([put])
    row.pop("right")
    words = row["answer"] if row["answers"] else "(it does not know this surely enough to answer)"
    human = (
        f"{words}\nconfidence {row['confidence']:.3f}, answers from {knower.threshold.value:.3f}: "
        f"{knower.threshold.guarantee}"
    )
    return answer({**row, "threshold": knower.threshold.value}, human, as_json=options.json)


def answered(knower: Knower, options: Options) -> int:
    """A file of questions, each a line of JSON on standard output; what came of it at the end."""
    problems = [own for own in usable(options.questions).problems if not own.options][
        : options.settings.limit or None
    ]
    given = wrong = 0
    for start in range(0, len(problems), 16):
        for row in knower.answered(problems[start : start + 16]):
            given, wrong = given + row["answers"], wrong + (row["answers"] and row["right"] is False)
            print(json.dumps(row if row["answers"] else {**row, "answer": None}, ensure_ascii=False))
    found = {
        "questions": len(problems),
        "answered": given,
        "wrong": wrong,
        "threshold": knower.threshold.value,
    }
    return answer(
        found,
        f"{given} of {len(problems)} questions answered, {wrong} of the answers wrong",
        as_json=options.json,
    )
