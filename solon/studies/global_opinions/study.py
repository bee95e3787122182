"""Towards Measuring the Representation of Subjective Global Opinions (Durmus et al. 2023, arXiv:2306.16388),
top to bottom.

A model's answers to survey questions against those of people in each country: as asked, as someone from a
country would answer, and in other languages, over models or the steps of one model's training.
"""

from __future__ import annotations

from collections.abc import Sequence

from solon.errors import InputError
from solon.evaluation.measure import Outcome, choice_outcomes, with_problem_keys
from solon.evaluation.opinions import cross_national_prompt
from solon.models.base import LanguageModel, derive
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.global_opinions.inputs import Inputs, Options, read
from solon.studies.global_opinions.report import AS_ASKED, Results, report
from solon.studies.global_opinions.settings import Settings, full, quick, toy
from solon.study.conduct import Study
from solon.study.outcomes import OUTCOMES
from solon.study.stages import slug
from solon.words.question import Problem


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """Every model on the survey in every form; each is a stage that is kept, and read back."""
    results = Results(tuple(model.name for model in inputs.models), counts=dict(inputs.counts))
    ordered = sorted(
        inputs.survey, key=lambda problem: derive(run.seed, "order", problem.text, *problem.options)
    )
    survey = ordered[: settings.questions or None]
    results.counts["questions not drawn"] = len(ordered) - len(survey)

    forms = {AS_ASKED: [(problem, problem) for problem in survey]}
    for country in settings.countries:
        forms[f"as someone from {country}"] = [
            (problem, cross_national_prompt(problem, country)) for problem in survey
        ]
    for language, translations in inputs.translations.items():
        pairs = [(problem, translations[problem.key]) for problem in survey if problem.key in translations]
        if not pairs:
            raise InputError(
                f"no question of the survey is among those in {language}; its rows need the question "
                "and options of the survey as `original`"
            )
        results.counts[f"questions without a translation to {language}"] = len(survey) - len(pairs)
        forms[f"in {language}"] = pairs

    for model in inputs.models:
        for form, pairs in forms.items():
            results.outcomes[model.name, form] = answer(run, model, form, pairs)
    return report(settings, results)


def answer(
    run: Run, model: LanguageModel, form: str, pairs: Sequence[tuple[Problem, Problem]]
) -> list[Outcome]:
    """Outcomes of (the survey's question, the form it is asked in), under the keys of the survey's own."""

    def make(batch: Sequence[tuple[Problem, Problem]]) -> list[Outcome]:
        return with_problem_keys(
            choice_outcomes(model, [asked for _, asked in batch]), [problem for problem, _ in batch]
        )

    name = slug(f"{model.name} {form}")
    return run.map(name, pairs, make, OUTCOMES, key=lambda pair: pair[1].key, size=128)


STUDY = Study(
    name="global_opinions",
    options=Options,
    quick=quick,
    full=full,
    toy=toy,
    inputs=read,
    study=study,
    subject=lambda inputs: " ".join(model.name for model in inputs.models),
)
