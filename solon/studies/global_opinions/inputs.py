"""What the study works on: a survey with the answers of people by country, and its translations; or scripted
models with planted opinions on a survey of invented countries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from solon.data.evaluations import read_evaluation
from solon.data.survey import OPENING
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.evaluation.opinions import INVENTED_COUNTRIES, invented_survey, planted_opinions
from solon.models.base import LanguageModel
from solon.studies.global_opinions.settings import Settings, quick
from solon.study.conduct import TOY, is_toy, open_models, skipped_counts
from solon.study.options import Models, StudyOptions
from solon.words.question import Problem


@dataclass(frozen=True)
class Options(StudyOptions):
    """Compare a model's answers to survey questions with those of people in each country."""

    models: Models = (TOY,)
    """smollm2, gemma3-270m, model folders or hub ids, in the order of size or of training; toy: scripted
    models with planted opinions, offline
    """
    survey: Path | None = None
    """GlobalOpinionQA rows"""
    translations: tuple[str, ...] = ()
    """LANGUAGE=FILE: rows of {original: {question, options}, question, options}, options in the same order"""
    settings: Settings = field(default_factory=quick)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Models in order; the survey; and the same questions in other languages: language to the key of the
    question to its translation.
    """

    models: tuple[LanguageModel, ...]
    survey: tuple[Problem, ...]
    translations: Mapping[str, Mapping[str, Problem]] = field(default_factory=dict)
    counts: tuple[tuple[str, int], ...] = ()


def read(options: Options) -> Inputs:
    """What the flags name. Raises InputError on a survey or a translation of another form."""
    if is_toy(options):
        return toy()
    assert options.survey is not None  # the paper's needs name it as required
    evaluation = read_evaluation(options.survey)
    if evaluation.measure != "opinions":
        raise InputError(f"{options.survey} is {evaluation.kind}; GlobalOpinionQA rows are expected")
    by_content = {(problem.text, problem.options): problem for problem in evaluation.problems}
    translations = dict(read_translation(flag, by_content) for flag in options.translations)
    counts = tuple(skipped_counts(evaluation.reading, evaluation.name).items())
    models = open_models(options.models, options.precision)
    return Inputs(models, evaluation.problems, translations, counts)


def toy() -> Inputs:
    """One model that answers as Orinia does whatever it is asked, and one that follows who it is asked to
    be.
    """
    survey = tuple(invented_survey())
    follows = {"stubborn": False, "pliant": True}
    models = tuple(
        planted_opinions(name, survey, INVENTED_COUNTRIES[0], follows=pliant)
        for name, pliant in follows.items()
    )
    return Inputs(models, survey)


def read_translation(
    flag: str, survey: Mapping[tuple[str, tuple[str, ...]], Problem]
) -> tuple[str, dict[str, Problem]]:
    """The language, and the translation of each question by its key; rows of no question of the survey are
    passed over. Raises InputError on a flag or a row of another form.
    """
    language, _, file = flag.partition("=")
    if not language or not file:
        raise InputError(f"--translations takes LANGUAGE=FILE; found {flag!r}")
    translations = {}
    for line, row in read_rows(Path(file)):
        original, question, options = (row.get(name) for name in ("original", "question", "options"))
        if not isinstance(original, dict) or not isinstance(options, list) or not isinstance(question, str):
            raise InputError(
                f"{file}, line {line}: expected original (question, options), question and options; found "
                f"{sorted(row)}"
            )
        problem = survey.get((str(original.get("question")).strip(), _stripped(original.get("options", ()))))
        if problem is None:
            continue
        if len(options) != len(problem.options):
            raise InputError(
                f"{file}, line {line}: {len(options)} options for a question that has {len(problem.options)}"
            )
        translations[problem.key] = replace(
            problem, text=question.strip(), options=_stripped(options), opening=OPENING
        )
    return language, translations


def _stripped(options: list[object]) -> tuple[str, ...]:
    return tuple(str(option).strip() for option in options)
