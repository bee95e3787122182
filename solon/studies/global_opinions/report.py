"""Whose opinions a model's answers resemble, beside the paper's claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from solon.errors import InputError
from solon.evaluation.measure import Outcome
from solon.evaluation.opinions import entropy_ratio, similarity_by_country, similarity_to_country
from solon.records.report import Claim, Figure, Map, Report, Section, Table
from solon.statistics.intervals import Estimate, mean, paired_difference
from solon.studies.global_opinions.settings import Settings
from solon.studies.global_opinions.world import on_the_map, outlines
from solon.study.claims import banded, interval
from solon.study.settings import deviations

AS_ASKED = "as asked"


@dataclass(slots=True)
class Results:
    """Outcomes by model and by how it was asked: "as asked", "as someone from X", "in X"."""

    models: tuple[str, ...]
    outcomes: dict[tuple[str, str], list[Outcome]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def report(settings: Settings, results: Results) -> Report:
    """One section a topic. Claims are about the last model."""
    last, at_least = results.models[-1], settings.at_least
    asked = results.outcomes[last, AS_ASKED]
    countries, left = similarity_by_country(asked, at_least=at_least)
    if not countries:
        raise InputError(
            f"no country answered {at_least} questions of those drawn; lower at_least or draw more"
        )
    unlisted = {f"countries with fewer than {at_least} questions, not listed": left}
    ratio, text = entropy_ratio(asked), f"{last} is as spread in its answers as people (1; entropy ratio)"
    entropy = Claim.of("entropy", text, ratio, None)
    return Report.of(
        "Whose opinions a model's answers resemble",
        [
            f"{', '.join(results.models)}: {len(asked)} questions, {len(countries)} countries. "
            f"Claims are about {last}."
        ],
        [
            Section(counts=results.counts | unlisted),
            nearest_section(asked, tuple(countries)),
            prompting_section(results.outcomes, last, settings.countries),
            Section(claims=(entropy,)),
            answers_section(results.outcomes, results.models, at_least),
        ],
        deviations=(
            "The questions are those given, not the paper's 2,556; options are listed under letters in our "
            "own way.",
            "Probabilities are of the letter after the opening, renormalised over the options; refusals are "
            "options like others.",
            f"Countries with fewer than {at_least} questions are not listed; intervals are t over "
            "questions (the paper: bootstrap).",
            "Translations are given by the user: none are made here, and none are checked.",
            *deviations(settings),
        ),
        constants={"base of the Jensen-Shannon divergence": "2"},
    )


def nearest_section(outcomes: Sequence[Outcome], countries: Sequence[str]) -> Section:
    """Whether the nearest country is shown to be nearer than all countries are on the questions that it
    answered: the nearest on every second question, tested on the others, since the nearest of many is near by
    luck too.
    """
    ordered = sorted(outcomes, key=lambda outcome: outcome.key)
    first_half, _ = similarity_by_country(ordered[::2], at_least=2)
    similarities = {country: dict(similarity_to_country(ordered[1::2], country)) for country in countries}
    nearest = next((country for country in first_half if len(similarities.get(country, ())) > 1), None)
    if nearest is None:
        return Section(
            counts={"questions of the nearest country left to test it on, too few": len(ordered[1::2])}
        )
    gaps = [
        value - mean([other[key] for other in similarities.values() if key in other]).value
        for key, value in similarities[nearest].items()
    ]
    text = f"Answers resemble those of {nearest} more than those of all countries asked the same"
    return Section(claims=(Claim.above("nearest", text, mean(gaps)),))


def prompting_section(
    outcomes: Mapping[tuple[str, str], Sequence[Outcome]], model: str, countries: Sequence[str]
) -> Section:
    """Whether a model that is asked as someone from a country answers more like people there."""
    claims, counts = [], {}
    for country in countries:
        before = dict(similarity_to_country(outcomes[model, AS_ASKED], country))
        after = dict(similarity_to_country(outcomes[model, f"as someone from {country}"], country))
        if len(before) < 2:
            counts[f"questions that {country} answered, too few to say what prompting does"] = len(before)
            continue
        gain = paired_difference([after[key] for key in before], list(before.values()))
        text = f"Asked as someone from {country}, answers resemble those of {country} more"
        claims.append(Claim.above(f"prompted/{country}", text, gain))
    return Section(claims=tuple(claims), counts=counts)


def answers_section(
    outcomes: Mapping[tuple[str, str], Sequence[Outcome]], models: Sequence[str], at_least: int
) -> Section:
    """Similarity to every country: a table for each model and form, a strip and a map for each model."""
    countries = {key: similarity_by_country(rows, at_least=at_least)[0] for key, rows in outcomes.items()}
    tables = tuple(
        Table(
            f"{model}, {form}",
            ("country", "similarity", "questions"),
            tuple((country, interval(estimate), str(estimate.n)) for country, estimate in listed.items()),
            "1 - Jensen-Shannon distance, base 2, over all options, refusals among them; t intervals over "
            f"questions. Entropy over that of people: {interval(entropy_ratio(outcomes[model, form]))}.",
        )
        for (model, form), listed in countries.items()
    )
    strips, maps = [], []
    for model in models:
        forms = {form: listed for (name, form), listed in countries.items() if name == model}
        strips.append(strip(model, forms))
        maps.append(world_map(model, forms[AS_ASKED]))
    return Section(tables=tables, figures=tuple(strips), maps=tuple(drawn for drawn in maps if drawn))


def strip(model: str, forms: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """Every country's similarity in each form, in the order of similarity as asked."""
    order = list(forms[AS_ASKED])
    lines = []
    for form, countries in forms.items():
        known = [(float(x), countries[country]) for x, country in enumerate(order) if country in countries]
        points = banded(form, [x for x, _ in known], [estimate for _, estimate in known])
        lines.append(replace(points, dots=True))
    title, axis = f"Countries by similarity, {model}", "country, most similar as asked first"
    return Figure(title, axis, "similarity", tuple(lines), "", tuple(order) if len(order) <= 24 else ())


def world_map(model: str, countries: Mapping[str, Estimate]) -> Map | None:
    """None where no country of the survey is on the map, as of an invented one."""
    values: dict[str, float] = {}
    for country, estimate in countries.items():
        name = on_the_map(country)
        if name is not None and (name not in values or "(" not in country):
            values[name] = estimate.value
    if not values:
        return None
    note = (
        "Names as surveys use them; where a country was surveyed in several ways, the plain sample is "
        "shown. Outlines: Natural Earth, public domain."
    )
    title = f"Similarity of {model}'s answers, as asked"
    return Map(title, outlines(), values, min(values.values()), max(values.values()), note)
