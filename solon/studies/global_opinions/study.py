"""Towards Measuring the Representation of Subjective Global Opinions (Durmus et al. 2023, arXiv:2306.16388),
top to bottom.

A model's answers to survey questions against those of people in each country: as asked, as someone from a
country would answer, and in other languages, over models or the steps of one model's training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from solon.errors import InputError
from solon.evaluation.measure import Outcome, choice_outcomes, with_problem_keys
from solon.evaluation.opinions import (
    cross_national_prompt,
    entropy_ratio,
    similarity_by_country,
    similarity_to_country,
)
from solon.models.base import LanguageModel, derive
from solon.records.report import Claim, Figure, Map, Report, Table
from solon.records.run import Run
from solon.statistics.intervals import Estimate, mean, paired_difference
from solon.studies.global_opinions.world import on_the_map, outlines
from solon.study.claims import banded, interval, sign
from solon.study.outcomes import key_of, read, row_of
from solon.study.stages import slug
from solon.words.question import Problem


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    questions: int = 0
    """drawn by content; 0 takes all"""
    countries: tuple[str, ...] = ()
    """to be asked as someone from there; without any, no cross-national prompting"""
    at_least: int = 10
    """questions that a country has to have answered to be listed"""

    def __post_init__(self) -> None:
        if self.questions < 0 or self.at_least < 2:
            raise InputError("questions is at least 0 and at_least at least 2")


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(questions=150)


def full() -> Settings:
    """All questions; the paper's countries."""
    return Settings(countries=("China", "Russia"))


@dataclass(frozen=True, slots=True)
class Inputs:
    """Models in order; the survey; and the same questions in other languages: language to the key of the
    question to its translation.
    """

    models: tuple[LanguageModel, ...]
    survey: tuple[Problem, ...]
    translations: Mapping[str, Mapping[str, Problem]] = field(default_factory=dict)
    counts: tuple[tuple[str, int], ...] = ()


@dataclass(slots=True)
class Findings:
    """Outcomes by model and by how it was asked: "as asked", "as someone from X", "in X"."""

    rows: dict[tuple[str, str], list[Outcome]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """All of it; every stage is kept, and gone on from."""
    found = Findings(counts=dict(inputs.counts))
    order = sorted(inputs.survey, key=lambda own: derive(run.seed, "order", own.text, *own.options))
    survey = order[: settings.questions or None]
    found.counts["questions not drawn"] = len(order) - len(survey)
    for model in inputs.models:
        found.rows[model.name, "as asked"] = answered(run, model, "as asked", survey, survey)
        for country in settings.countries:
            put = [cross_national_prompt(own, country) for own in survey]
            found.rows[model.name, f"as someone from {country}"] = answered(
                run, model, f"as someone from {country}", survey, put
            )
        for language, translated in inputs.translations.items():
            kept = [own for own in survey if key_of(own) in translated]
            if not kept:
                raise InputError(
                    f"no question of the survey is among those in {language}; its rows need the question "
                    "and options of the survey as `original`"
                )
            found.counts[f"questions without a translation to {language}"] = len(survey) - len(kept)
            found.rows[model.name, f"in {language}"] = answered(
                run, model, f"in {language}", kept, [translated[key_of(own)] for own in kept]
            )
    return report(settings, found, [model.name for model in inputs.models])


def answered(
    run: Run, model: LanguageModel, name: str, survey: Sequence[Problem], put: Sequence[Problem]
) -> list[Outcome]:
    """Outcomes under the keys of the survey's own questions, kept as rows."""
    pairs = list(zip(survey, put, strict=True))

    def make(some: Sequence[tuple[Problem, Problem]]) -> list[dict[str, Any]]:
        return [
            row_of(own)
            for own in with_problem_keys(
                choice_outcomes(model, [put for _, put in some]), [own for own, _ in some]
            )
        ]

    rows = map(
        read, run.rows(slug(f"{model.name} {name}"), pairs, lambda pair: key_of(pair[1]), make, size=128)
    )
    return [row for row in rows if isinstance(row, Outcome)]


def report(settings: Settings, found: Findings, models: Sequence[str]) -> Report:
    last = models[-1]
    plain, left = similarity_by_country(found.rows[last, "as asked"], at_least=settings.at_least)
    if not plain:
        raise InputError(
            f"no country answered {settings.at_least} questions of those drawn; lower at_least or draw more"
        )
    found.counts[f"countries with fewer than {settings.at_least} questions, not listed"] = left
    claims = [
        *_nearest(found, last, plain),
        *_prompted(settings, found, last),
        Claim.of(
            "entropy",
            f"{last} is as spread in its answers as people (1; entropy ratio)",
            entropy_ratio(found.rows[last, "as asked"]),
            None,
        ),
    ]
    tables = [_table(settings, found, model, name) for model, name in found.rows]
    figures = [_strip(settings, found, model) for model in models]
    summary = (
        f"{', '.join(models)}: {len(found.rows[last, 'as asked'])} questions, {len(plain)} countries. "
        f"Claims are about {last}.",
    )
    return Report(
        "Whose opinions a model's answers resemble",
        summary,
        tuple(claims),
        (),
        tuple(tables),
        tuple(figures),
        (),
        {name: n for name, n in found.counts.items() if n},
        _deviations(settings),
        {"base of the Jensen-Shannon divergence": "2"},
        tuple(own for model in models if (own := _map(found, model, settings)) is not None),
    )


def _nearest(found: Findings, model: str, plain: Mapping[str, Estimate]) -> list[Claim]:
    """Whether the nearest country is shown to be nearer than all countries are on the questions that it
    answered: the nearest on every second question, tested on the others, since the nearest of many is near by
    luck too.
    """
    order = sorted(found.rows[model, "as asked"], key=lambda row: row.key)
    chosen, _ = similarity_by_country(order[::2], at_least=2)
    listed = [country for country in chosen if country in plain]
    rows = order[1::2]
    nearest = next((country for country in listed if len(similarity_to_country(rows, country)) > 1), None)
    if nearest is None:
        found.counts["questions of the nearest country left to test it on, too few"] = len(rows)
        return []
    own = dict(similarity_to_country(rows, nearest))
    others = {country: dict(similarity_to_country(rows, country)) for country in plain}
    gaps = [
        value - mean([some[key] for some in others.values() if key in some]).value
        for key, value in own.items()
    ]
    words = f"Answers resemble those of {nearest} more than those of all countries asked the same"
    estimate = mean(gaps)
    return [Claim.of("nearest", words, estimate, sign(estimate))]


def _prompted(settings: Settings, found: Findings, model: str) -> list[Claim]:
    claims = []
    for country in settings.countries:
        before = dict(similarity_to_country(found.rows[model, "as asked"], country))
        after = dict(similarity_to_country(found.rows[model, f"as someone from {country}"], country))
        if len(before) < 2:
            found.counts[f"questions that {country} answered, too few to say what prompting does"] = len(
                before
            )
            continue
        gain = paired_difference([after[key] for key in before], list(before.values()))
        words = f"Asked as someone from {country}, answers resemble those of {country} more"
        claims.append(Claim.of(f"prompted/{country}", words, gain, sign(gain)))
    return claims


def _table(settings: Settings, found: Findings, model: str, name: str) -> Table:
    rows = found.rows[model, name]
    countries, _ = similarity_by_country(rows, at_least=settings.at_least)
    listed = tuple((country, interval(estimate), str(estimate.n)) for country, estimate in countries.items())
    ratio = interval(entropy_ratio(rows))
    note = (
        "1 - Jensen-Shannon distance, base 2, over all options, refusals among them; t intervals over "
        f"questions. Entropy over that of people: {ratio}."
    )
    return Table(f"{model}, {name}", ("country", "similarity", "questions"), listed, note)


def _strip(settings: Settings, found: Findings, model: str) -> Figure:
    lines = []
    order = list(similarity_by_country(found.rows[model, "as asked"], at_least=settings.at_least)[0])
    for (own, name), rows in found.rows.items():
        if own == model:
            countries = similarity_by_country(rows, at_least=settings.at_least)[0]
            kept = [
                (float(place), countries[country])
                for place, country in enumerate(order)
                if country in countries
            ]
            points = banded(name, [place for place, _ in kept], [estimate for _, estimate in kept])
            lines.append(replace(points, dots=True))
    ticks = tuple(order) if len(order) <= 24 else ()
    return Figure(
        f"Countries by similarity, {model}",
        "country, most similar as asked first",
        "similarity",
        tuple(lines),
        "",
        ticks,
    )


def _map(found: Findings, model: str, settings: Settings) -> Map | None:
    """None where no country of the survey is on the map, as of an invented one."""
    values: dict[str, float] = {}
    for country, estimate in similarity_by_country(found.rows[model, "as asked"], at_least=settings.at_least)[
        0
    ].items():
        place = on_the_map(country)
        if place is not None and (place not in values or "(" not in country):
            values[place] = estimate.value
    if not values:
        return None
    note = (
        "Names as surveys use them; where a country was surveyed in several ways, the plain sample is "
        "shown. Outlines: Natural Earth, public domain."
    )
    return Map(
        f"Similarity of {model}'s answers, as asked",
        outlines(),
        values,
        min(values.values()),
        max(values.values()),
        note,
    )


def _deviations(settings: Settings) -> tuple[str, ...]:
    return (
        "The questions are those given, not the paper's 2,556; options are listed under letters in our own "
        "way.",
        "Probabilities are of the letter after the opening, renormalised over the options; refusals are "
        "options like others.",
        f"Countries with fewer than {settings.at_least} questions are not listed; intervals are t over "
        "questions (the paper: bootstrap).",
        "Translations are given by the user: none are made here, and none are checked.",
    )
