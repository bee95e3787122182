"""What the study works on: questions with free replies, multiple choice, models; or planted facts,
offline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from solon.data.evaluations import read_evaluation
from solon.errors import InputError
from solon.evaluation.self_knowledge import addition
from solon.models.torch_model import TorchModel
from solon.studies.know_what_they_know import toy_facts
from solon.studies.know_what_they_know.settings import Settings, quick
from solon.studies.know_what_they_know.toy_models import knower, sharpened
from solon.study.conduct import TOY, is_toy, open_model, open_models, skipped_counts
from solon.study.console import say
from solon.study.options import Model, StudyOptions
from solon.words.question import Problem


@dataclass(frozen=True)
class Options(StudyOptions):
    """Ask a model whether it is right, and whether it will be, and report how far it knows."""

    model: Model = TOY
    """smollm2, gemma3-270m, a model folder, or a hub id; toy: a small transformer that was taught half of
    some facts, offline
    """
    tasks: tuple[Path, ...] = ()
    """evaluations with free replies, the first being the one that P(IK) is also learned from alone; sums are
    always asked
    """
    choice_sets: tuple[Path, ...] = ()
    """evaluations with options"""
    others: tuple[str, ...] = ()
    """more models, which judge each other's samples and are crossed in P(IK)"""
    temper: str = ""
    """a model whose calibration one temperature should repair, such as one after reinforcement"""
    settings: Settings = field(default_factory=quick)


@dataclass(frozen=True, slots=True)
class Task:
    """Questions with free replies. `sources` maps a question's text to material that says or hints at its
    answer, weakest first.
    """

    name: str
    problems: tuple[Problem, ...]
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the study works on. The first model is the one that is studied; others are crossed with it.
    `temper` is a model whose calibration one temperature should repair (the first one after reinforcement,
    say).
    """

    models: tuple[TorchModel, ...]
    tasks: tuple[Task, ...]
    choices: tuple[tuple[str, tuple[Problem, ...]], ...]
    temper: TorchModel | None = None
    fixed_prompt: bool = True
    counts: tuple[tuple[str, int], ...] = ()


def read(options: Options) -> Inputs:
    """What the flags name. Raises InputError on a file that holds no questions of its kind."""
    if is_toy(options):
        return toy(options.seed)
    counts: list[tuple[str, int]] = []
    tasks, sets = [], []
    for path, free in [
        *((path, True) for path in options.tasks),
        *((path, False) for path in options.choice_sets),
    ]:
        evaluation = read_evaluation(path)
        counts += skipped_counts(evaluation.reading, evaluation.name).items()
        usable = [
            problem for problem in evaluation.problems if problem.answers and bool(problem.options) != free
        ]
        if not usable:
            raise InputError(
                f"{path} holds no "
                f"{'questions with free replies' if free else 'multiple choice with answers'}; it is "
                f"{evaluation.kind}"
            )
        if free:
            sources = {problem.text: hints(problem) for problem in usable if problem.tags.get("worked")}
            tasks.append(Task(evaluation.name, tuple(usable), sources))
        else:
            sets.append((evaluation.name, tuple(usable)))
    count = min(options.settings.questions, 600) + options.settings.shots
    tasks.append(Task("sums", tuple(addition(count, operands=(2,), seed=options.seed))))
    models = open_models([options.model, *options.others], options.precision)
    temper = open_model(options.temper, options.precision) if options.temper else None
    for task in tasks:
        kinds = sorted({(problem.max_tokens, problem.grade) for problem in task.problems})
        if len(kinds) > 1:
            raise InputError(
                f"the task {task.name} mixes kinds of reply: {kinds}; give each kind in a file of its own"
            )
    return Inputs(models, tuple(tasks), tuple(sets), temper, counts=tuple(counts))


def hints(problem: Problem, *, parts: int = 4) -> tuple[str, ...]:
    """A quarter, a half ... of the words of a worked solution."""
    words = problem.tags["worked"].split()
    return tuple(
        f"Hint: {' '.join(words[: max(1, len(words) * part // parts)])}" for part in range(1, parts + 1)
    )


def toy(seed: int, *, steps: int = 2000, make: Callable[..., TorchModel] = knower) -> Inputs:
    """Two models that were taught different halves of the same facts, and the first one sharpened, whose
    temperature is planted.
    """
    say("training two toy models")
    models = tuple(make(seed, known=known, steps=steps) for known in (0, 1))
    tasks = tuple(
        Task(name, tuple(problems), {own.text: (toy_facts.source(own),) for own in problems})
        for name, problems in ((task, toy_facts.questions(task)) for task in toy_facts.TASKS)
    )
    choices = tuple(
        (task.name, tuple(toy_facts.with_options(own) for own in task.problems)) for task in tasks
    )
    return Inputs(models, tasks, choices, sharpened(models[0], toy_facts.SHARPNESS), fixed_prompt=False)
