"""What the study works on: evaluations with options, and texts that the models may have seen; or scripted
models that learn from examples as planted.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from solon.data.evaluations import read_evaluation
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.models.base import LanguageModel
from solon.records.run import digest
from solon.studies.few_shot.settings import Settings, quick
from solon.studies.few_shot.toy import LEARNS, SEEN, planted, problems
from solon.study.conduct import TOY, is_toy, open_models, skipped_counts
from solon.study.fingerprint import Keyed, content_hash
from solon.study.options import Models, StudyOptions
from solon.study.outcomes import form_of_dialogue
from solon.words.question import Problem

LONGEST = 13  # words of the longest N-gram


@dataclass(frozen=True)
class Options(StudyOptions):
    """Measure what worked examples in the context are worth, with four scores side by side and what a corpus
    holds of the tasks.
    """

    models: Models = (TOY,)
    """smollm2, gemma3-270m, model folders or hub ids, in the order of size; toy: scripted models, offline"""
    tasks: tuple[Path, ...] = ()
    """evaluations with options; examples are drawn from the same file unless --examples names another for
    each
    """
    examples: tuple[Path, ...] = ()
    """one file for each task"""
    corpus: tuple[Path, ...] = ()
    """texts that the models may have seen: .txt, or rows with text"""
    settings: Settings = field(default_factory=quick)


@dataclass(frozen=True, slots=True)
class Task:
    """Problems with options and answers, and others that examples are drawn from."""

    name: str
    problems: tuple[Problem, ...]
    examples: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Models in the order of their size; `corpus`, if it is given, yields the texts that they may have seen,
    anew at each call.
    """

    models: tuple[LanguageModel, ...]
    tasks: tuple[Task, ...]
    corpus: Keyed[[], Iterable[str]] | None = None
    counts: tuple[tuple[str, int], ...] = ()


def read(options: Options) -> Inputs:
    """What the flags name. Raises InputError on a task without options or answers."""
    if is_toy(options):
        return toy()
    if options.examples and len(options.examples) != len(options.tasks):
        raise InputError(
            f"give no --examples, or one for each of --tasks; found {len(options.examples)} for "
            f"{len(options.tasks)}"
        )
    counts: dict[str, int] = {}
    tasks = []
    for index, path in enumerate(options.tasks):
        evaluation = read_evaluation(path)
        task = Task(evaluation.name, _usable(evaluation.problems, path), ())
        counts |= skipped_counts(evaluation.reading, task.name)
        if options.examples:
            source = options.examples[index]
            task = without_shown(task, _usable(read_evaluation(source).problems, source))
            left, why = len(task.problems), "problems that stand among the examples, not asked"
        else:
            most = max(4 * max(options.settings.shots), 16)
            task = split(task, most, seed=options.seed)
            left, why = len(task.problems), "problems kept for examples, not asked"
        counts[f"{task.name}: {why}"] = len(_usable(evaluation.problems, path)) - left
        tasks.append(task)
    corpus: Keyed[[], Iterable[str]] | None = None
    if options.corpus:
        key = digest([content_hash(path) for path in options.corpus])
        corpus = Keyed(key, lambda: texts(options.corpus))
    models = tuple(
        model.plain() if form_of_dialogue(model, "auto") == "text" else model
        for model in open_models(options.models, options.precision)
    )
    return Inputs(models, tuple(tasks), corpus, tuple(counts.items()))


def without_shown(task: Task, examples: tuple[Problem, ...]) -> Task:
    """The task with these examples, and without the problems that stand among them."""
    shown = {(problem.text, problem.options) for problem in examples}
    asked = tuple(problem for problem in task.problems if (problem.text, problem.options) not in shown)
    return Task(task.name, asked, examples)


def split(task: Task, most: int, *, seed: int) -> Task:
    """The task with at most `most` of its problems, and at most half, kept for examples and not asked."""
    rng, total = random.Random(f"{seed} {task.name}"), len(task.problems)
    kept = set(rng.sample(range(total), min(most, total // 2)))
    asked = tuple(problem for index, problem in enumerate(task.problems) if index not in kept)
    examples = tuple(problem for index, problem in enumerate(task.problems) if index in kept)
    return Task(task.name, asked, examples)


def texts(paths: Sequence[Path]) -> Iterator[str]:
    """The texts of files. A line of a text file comes with the words before it, so that no run of words is
    lost where a line ends.
    """
    for path in paths:
        before: list[str] = []
        for _, row in read_rows(path):
            text = " ".join(str(value) for value in row.values() if isinstance(value, str))
            yield " ".join([*before, text])
            before = [*before, *text.split()][-LONGEST:] if set(row) == {"text"} else []


def toy() -> Inputs:
    """A small model that learns nothing from examples and a large one that does."""
    asked, examples = problems(240, seed=0), problems(40, seed=1)
    models = tuple(planted(name, gain, (*asked, *examples)) for name, gain in LEARNS.items())
    seen: Keyed[[], Iterable[str]] = Keyed(
        "the first problems", lambda: [problem.text for problem in asked[:SEEN]]
    )
    return Inputs(models, (Task("walks", asked, examples),), seen)


def _usable(problems: Sequence[Problem], path: Path) -> tuple[Problem, ...]:
    usable = tuple(problem for problem in problems if problem.options and problem.answers)
    if not usable:
        raise InputError(f"{path} holds no problem with options and a known answer")
    return usable
