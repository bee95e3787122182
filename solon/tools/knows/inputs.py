"""What `solon knows` fits on: a model, and questions with free replies and known answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from solon.data.evaluations import Evaluation, read_evaluation
from solon.errors import InputError
from solon.records.report import Report
from solon.records.run import Run
from solon.study.conduct import Finished, conduct, open_model, skipped_counts
from solon.study.console import say
from solon.study.fingerprint import model_key
from solon.study.options import Model, RunOptions
from solon.study.outcomes import Form, digest_of, form_of_dialogue
from solon.tools.knows.settings import Settings
from solon.tools.knows.study import study
from solon.words.question import Problem


@dataclass(frozen=True)
class Options(RunOptions):
    """Teach a model when it knows, with a guaranteed rate of wrong answers; then let it answer only what it
    knows.
    """

    model: Model = ""
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
    """how questions are put: dialogue, text, or auto"""
    settings: Settings = field(default_factory=Settings)


def fit_knower(options: Options, *, argv: Sequence[str] = ()) -> Finished:
    """A run that fits the model on the questions and writes it, ready to be asked, to its folder."""
    evaluation, problems = free_questions(options.questions)
    model = open_model(options.model, options.precision)
    if form_of_dialogue(model, options.form) == "text":
        model = model.plain()

    def work(run: Run) -> Report:
        report = study(
            run, options.settings, model, problems, skipped_counts(evaluation.reading, evaluation.name)
        )
        say(f"fitted model  {run.folder / 'model'}")
        return report

    return conduct(
        "knows",
        options,
        work,
        settings={**asdict(options.settings), "form": options.form},
        inputs={"model": model_key(model), "questions": digest_of([], problems)},
        subject=model.name,
        argv=argv,
    )


def free_questions(path: Path | None) -> tuple[Evaluation, list[Problem]]:
    """A file's questions with free replies. Raises InputError where none has an answer, or kinds are
    mixed.
    """
    if path is None:
        raise InputError("give --questions")
    evaluation = read_evaluation(path)
    free = [problem for problem in evaluation.problems if not problem.options]
    answered = [problem for problem in free if problem.answers]
    if not answered:
        raise InputError(
            f"{path} is {evaluation.kind}: it holds no questions with free replies and known answers"
        )
    if len({(problem.max_tokens, problem.grade) for problem in answered}) > 1:
        raise InputError(f"{path} mixes kinds of reply; give each kind in a file of its own")
    return evaluation, free
