"""Language Models are Few-Shot Learners (Brown et al. 2020, arXiv:2005.14165): what examples in the context
are worth.

Tasks with options, at zero, one and few examples, options scored in four ways; models of several sizes; and
what of each task stands in a corpus that the models may have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from solon.errors import InputError
from solon.evaluation.measure import Outcome, choice_outcomes
from solon.evaluation.self_knowledge import hidden_options
from solon.models.base import LanguageModel, derive
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.few_shot.report import Findings, report
from solon.studies.few_shot.scoring import SCORINGS, Overlap, overlap, rescored, unconditional
from solon.study.outcomes import key_of, read, row_of
from solon.study.stages import slug
from solon.words.question import Problem


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    shots: tuple[int, ...] = (0, 1, 32)
    """worked examples before each problem"""
    draws: int = 1
    """different sets of examples for each number of them above 0"""
    problems: int = 0
    """of each task, drawn by content; 0 takes all"""
    scoring: str = "per token"
    """the score that claims are about: sum, per token, per character or over unconditional; all are in the
    tables
    """

    def __post_init__(self) -> None:
        if not self.shots or list(self.shots) != sorted(set(self.shots)) or self.shots[0] < 0:
            raise InputError(f"shots must rise from 0 or more; found {self.shots}")
        if self.scoring not in SCORINGS or self.draws < 1 or self.problems < 0:
            raise InputError(
                f"scoring is one of {', '.join(SCORINGS)}, draws at least 1, problems at least 0; found "
                f"{self.scoring!r}"
            )


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(shots=(0, 1, 5), problems=100)


def full() -> Settings:
    """The paper's shape."""
    return Settings(draws=3)


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
    corpus: Callable[[], Iterable[str]] | None = None
    counts: tuple[tuple[str, int], ...] = ()


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """All of it; every stage is kept, and gone on from."""
    found = Findings(counts=dict(inputs.counts))
    for task in inputs.tasks:
        order = sorted(
            map(hidden_options, task.problems),
            key=lambda own: derive(run.seed, "order", own.text, *own.options),
        )
        kept = order[: settings.problems or None]
        found.counts[f"{task.name}: problems not drawn"] = len(order) - len(kept)
        pool = list(map(hidden_options, task.examples))
        if len(pool) < max(settings.shots):
            raise InputError(
                f"{task.name} has {len(pool)} problems to draw examples from, too few for "
                f"{max(settings.shots)}"
            )
        found.problems[task.name] = kept
        if inputs.corpus is not None:
            found.overlaps[task.name] = _overlap(run, task.name, kept, inputs.corpus)
        for model in inputs.models:
            bare = kept_rows(
                run,
                f"{task.name} {model.name} unconditional",
                model,
                [unconditional(own) for own in kept],
                [],
            )
            for shots in settings.shots:
                for draw in range(settings.draws if shots else 1):
                    examples = sorted(
                        pool, key=lambda own: derive(run.seed, "example", draw, own.text, *own.options)
                    )[:shots]
                    rows = kept_rows(run, f"{task.name} {model.name} {shots} {draw}", model, kept, examples)
                    for how in SCORINGS:
                        scored = [rescored(row, own, how) for row, own in zip(rows, bare, strict=True)]
                        found.rows[task.name, model.name, shots, draw, how] = scored
    return report(asdict(settings), found, [model.name for model in inputs.models])


def kept_rows(
    run: Run, name: str, model: LanguageModel, problems: Sequence[Problem], examples: Sequence[Problem]
) -> list[Outcome]:
    def make(some: Sequence[Problem]) -> list[dict[str, Any]]:
        return [row_of(own) for own in choice_outcomes(model, some, examples=examples)]

    return [
        own
        for own in map(read, run.rows(slug(name), problems, key_of, make, size=128))
        if isinstance(own, Outcome)
    ]


def _overlap(
    run: Run, name: str, problems: Sequence[Problem], corpus: Callable[[], Iterable[str]]
) -> Overlap:
    kept = run.once(slug(f"overlap {name}"), lambda: asdict(overlap(problems, corpus())))
    return Overlap(kept["length"], tuple(kept["dirty"]), tuple(kept["short"]))
