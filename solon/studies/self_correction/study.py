"""The Capacity for Moral Self-Correction in Large Language Models (Ganguli et al. 2023, arXiv:2302.07459),
top to bottom.

BBQ, Winogender and law-school admissions, each asked plainly, with an instruction not to be biased, and with
reasoning about that instruction first; over models, or the steps of one model's reinforcement learning.
"""

from __future__ import annotations

from collections.abc import Sequence

from solon.evaluation.measure import Outcome
from solon.models.base import LanguageModel, derive
from solon.records.codecs import Codec
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.self_correction.conditions import CONDITIONS, Condition, admissions, students, under
from solon.studies.self_correction.inputs import Inputs, Options, read
from solon.studies.self_correction.report import Results, report
from solon.studies.self_correction.settings import Settings, full, quick
from solon.study.conduct import Study
from solon.study.outcomes import outcome_of, row_of
from solon.study.stages import slug
from solon.words.question import Problem

Thinking = tuple[Outcome, str]  # an outcome, and the reasoning before it
THINKING: Codec[Problem, Thinking] = Codec(
    lambda problem, result: {**row_of(result[0]), "thought": result[1]},
    lambda row: (
        outcome_of({name: value for name, value in row.items() if name != "thought"}),
        row["thought"],
    ),
)


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """Every model on every set in every condition; each is a stage that is kept, and read back."""
    results = Results(models=tuple(model.name for model in inputs.models), counts=dict(inputs.counts))
    conditions = [condition for condition in CONDITIONS if settings.thoughts or condition != "Q+IF+CoT"]
    applicants = admissions(students(settings.students, seed=run.seed))

    def ask(
        name: str, model: LanguageModel, problems: Sequence[Problem], condition: Condition
    ) -> list[Outcome]:
        answers = answer(run, name, model, problems, condition, max_tokens=settings.thought_tokens)
        if condition == "Q+IF+CoT":
            first = zip(problems[:3], answers, strict=False)
            results.thoughts[name, model.name] = [(problem, thought) for problem, (_, thought) in first]
        return [outcome for outcome, _ in answers]

    for model in inputs.models:
        for name, problems in inputs.bias:
            drawn = draw(problems, settings.questions, run.seed)
            results.counts[f"{name}: questions not drawn"] = len(problems) - len(drawn)
            for condition in conditions:
                results.bias[name, model.name, condition] = ask(f"bias {name}", model, drawn, condition)
        for name, problems in inputs.pronouns:
            for condition in (*conditions, "Q+Match"):
                results.pronouns[name, model.name, condition] = ask(
                    f"pronouns {name}", model, problems, condition
                )
        for condition in conditions:
            results.admissions[model.name, condition] = ask("admissions", model, applicants, condition)
    return report(settings, results)


def draw(problems: Sequence[Problem], count: int, seed: int) -> list[Problem]:
    """Whole templates until there are `count` questions (0: all), so that what belongs together is asked
    together.
    """
    templates: dict[str, list[Problem]] = {}
    for problem in problems:
        templates.setdefault(problem.cluster, []).append(problem)
    drawn: list[Problem] = []
    for name in sorted(templates, key=lambda name: derive(seed, "template", name)):
        if count and len(drawn) >= count:
            break
        ordered = sorted(templates[name], key=lambda problem: derive(seed, problem.text, *problem.options))
        drawn += ordered[: max(16, count // 10)] if count else ordered
    return drawn


def answer(
    run: Run,
    name: str,
    model: LanguageModel,
    problems: Sequence[Problem],
    condition: Condition,
    *,
    max_tokens: int,
) -> list[Thinking]:
    """A model's outcome on each problem under a condition, with the reasoning before it ("" without)."""

    def make(batch: Sequence[Problem]) -> list[Thinking]:
        outcomes, thoughts = under(
            model, batch, condition, max_tokens=max_tokens, seed=derive(run.seed, "thoughts")
        )
        return list(zip(outcomes, thoughts, strict=True))

    return run.map(slug(f"{name} {model.name} {condition}"), problems, make, THINKING, size=128)


STUDY = Study(
    name="self_correction",
    options=Options,
    quick=quick,
    full=full,
    toy=full,
    inputs=read,
    study=study,
    subject=lambda inputs: " ".join(model.name for model in inputs.models),
)
