"""Language Models are Few-Shot Learners (Brown et al. 2020, arXiv:2005.14165), top to bottom.

Tasks with options, at zero, one and few examples, options scored in four ways; models of several sizes; and
what of each task stands in a corpus that the models may have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from solon.errors import InputError
from solon.evaluation.self_knowledge import hidden_options
from solon.models.base import LanguageModel, derive
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.few_shot.inputs import Inputs, Options, Task, read
from solon.studies.few_shot.report import Results, report
from solon.studies.few_shot.scoring import SCORINGS, Overlap, overlap, rescored, unconditional
from solon.studies.few_shot.settings import Settings, full, quick, toy
from solon.study.conduct import Study
from solon.study.outcomes import choice_stage
from solon.study.stages import slug
from solon.words.question import Problem


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """Every task, by every model, after every number of examples; each is a stage that is kept."""
    results = Results(tuple(model.name for model in inputs.models), counts=dict(inputs.counts))
    for task in inputs.tasks:
        pool = examples_of(task, max(settings.shots))
        problems = draw(task, settings.problems, seed=run.seed)
        results.problems[task.name] = problems
        results.counts[f"{task.name}: problems not drawn"] = len(task.problems) - len(problems)
        if inputs.corpus is not None:
            results.overlaps[task.name] = keep_overlap(run, task.name, problems, inputs.corpus)
        for model in inputs.models:
            ask(run, settings, task.name, model, problems, pool=pool, results=results)
    return report(settings, results)


def examples_of(task: Task, most: int) -> list[Problem]:
    """What examples are drawn from. Raises InputError where there are fewer than are to be shown."""
    if len(task.examples) < most:
        raise InputError(
            f"{task.name} has {len(task.examples)} problems to draw examples from, too few for {most}"
        )
    return [hidden_options(problem) for problem in task.examples]


def draw(task: Task, count: int, *, seed: int) -> list[Problem]:
    """So many problems of a task (0: all), in an order drawn by content."""
    hidden = map(hidden_options, task.problems)
    ordered = sorted(hidden, key=lambda problem: derive(seed, "order", problem.text, *problem.options))
    return ordered[: count or None]


def ask(
    run: Run,
    settings: Settings,
    task: str,
    model: LanguageModel,
    problems: Sequence[Problem],
    *,
    pool: Sequence[Problem],
    results: Results,
) -> None:
    """A model's outcomes on a task by number of examples, one list for each draw of them and score."""
    alone = [unconditional(problem) for problem in problems]
    bare = choice_stage(run, f"{task} {model.name} unconditional", model, alone)
    for shots in settings.shots:
        for draw in range(settings.draws if shots else 1):
            examples = sorted(
                pool, key=lambda problem: derive(run.seed, "example", draw, problem.text, *problem.options)
            )[:shots]
            name = f"{task} {model.name} {shots} {draw}"
            rows = choice_stage(run, name, model, problems, examples=examples)
            for scoring in SCORINGS:
                scored = [rescored(*pair, scoring) for pair in zip(rows, bare, strict=True)]
                results.outcomes.setdefault((task, model.name, shots, scoring), []).append(scored)


def keep_overlap(
    run: Run, task: str, problems: Sequence[Problem], corpus: Callable[[], Iterable[str]]
) -> Overlap:
    """Which problems share an N-gram with the corpus, found once."""
    row = run.once(slug(f"overlap {task}"), lambda: asdict(overlap(problems, corpus())))
    return Overlap(row["length"], tuple(row["dirty"]), tuple(row["short"]))


STUDY = Study(
    name="few_shot",
    options=Options,
    quick=quick,
    full=full,
    toy=toy,
    inputs=read,
    study=study,
    subject=lambda inputs: " ".join(model.name for model in inputs.models),
)
