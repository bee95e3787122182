"""The Capacity for Moral Self-Correction in Large Language Models (Ganguli et al. 2023, arXiv:2302.07459),
top to bottom.

BBQ, Winogender and law-school admissions, each asked plainly, with an instruction not to be biased, and with
reasoning about that instruction first; over models, or the steps of one model's reinforcement learning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from solon.errors import InputError
from solon.evaluation.measure import Outcome
from solon.models.base import LanguageModel, derive
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.self_correction.conditions import CONDITIONS, Condition, admissions, students, under
from solon.studies.self_correction.report import Findings, report
from solon.study.outcomes import key_of, read, row_of
from solon.study.stages import slug
from solon.words.question import Problem


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    questions: int = 0
    """of each bias set, drawn by template; 0 takes all"""
    students: int = 200
    """made up, each asked about twice"""
    thought_tokens: int = 256
    """of a chain of thought"""
    thoughts: bool = True
    """ask with reasoning too; its sampling takes most of the time"""

    def __post_init__(self) -> None:
        if self.questions < 0 or min(self.students, self.thought_tokens) < 1:
            raise InputError("questions is at least 0, students and thought_tokens at least 1")


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(questions=120, students=30, thought_tokens=48)


def full() -> Settings:
    """The paper's shape."""
    return Settings(students=2000)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Models in the order of their size or of their training; bias sets in BBQ's form; pronouns in
    Winogender's.
    """

    models: tuple[LanguageModel, ...]
    bias: tuple[tuple[str, tuple[Problem, ...]], ...]
    pronouns: tuple[tuple[str, tuple[Problem, ...]], ...]
    counts: tuple[tuple[str, int], ...] = ()


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """All of it; every stage is kept, and gone on from."""
    found = Findings(counts=dict(inputs.counts))
    conditions = [own for own in CONDITIONS if settings.thoughts or own != "Q+IF+CoT"]
    asked_of = admissions(students(settings.students, seed=run.seed))
    for model in inputs.models:
        for name, problems in inputs.bias:
            kept = drawn(problems, settings.questions, run.seed)
            found.counts[f"{name}: questions not drawn"] = len(problems) - len(kept)
            for condition in conditions:
                found.bias[name, model.name, condition] = answered(
                    run, f"bias {name}", model, kept, condition, settings, found
                )
        for name, problems in inputs.pronouns:
            for condition in (*conditions, "Q+Match"):
                found.pronouns[name, model.name, condition] = answered(
                    run, f"pronouns {name}", model, problems, condition, settings, found
                )
        for condition in conditions:
            found.admissions[model.name, condition] = answered(
                run, "admissions", model, asked_of, condition, settings, found
            )
    return report(asdict(settings), found, [model.name for model in inputs.models])


def drawn(problems: Sequence[Problem], count: int, seed: int) -> list[Problem]:
    """Whole templates until there are so many questions: what belongs together is asked together."""
    clusters: dict[str, list[Problem]] = {}
    for own in problems:
        clusters.setdefault(own.cluster, []).append(own)
    kept: list[Problem] = []
    for name in sorted(clusters, key=lambda name: derive(seed, "template", name)):
        if count and len(kept) >= count:
            break
        some = sorted(clusters[name], key=lambda one: derive(seed, one.text, *one.options))
        kept += some[: max(16, count // 10)] if count else some
    return kept


def answered(
    run: Run,
    name: str,
    model: LanguageModel,
    problems: Sequence[Problem],
    condition: Condition,
    settings: Settings,
    found: Findings,
) -> list[Outcome]:
    """Outcomes under a condition, kept with the reasoning as rows."""

    def make(some: Sequence[Problem]) -> list[dict[str, Any]]:
        rows, thoughts = under(
            model, some, condition, max_tokens=settings.thought_tokens, seed=derive(run.seed, "thoughts")
        )
        return [{**row_of(row), "thought": thought} for row, thought in zip(rows, thoughts, strict=True)]

    kept = run.rows(slug(f"{name} {model.name} {condition}"), problems, key_of, make, size=128)
    if condition == "Q+IF+CoT":
        found.thoughts[name, model.name] = [
            (problem, row["thought"]) for problem, row in zip(problems[:3], kept, strict=False)
        ]
    rows = [read({key: value for key, value in row.items() if key != "thought"}) for row in kept]
    return [row for row in rows if isinstance(row, Outcome)]
