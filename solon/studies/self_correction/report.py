"""What asking a model not to be biased does, beside the paper's claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from solon.evaluation.bias import bias_scores, pronoun_correlation
from solon.evaluation.measure import Outcome
from solon.records.report import Claim, Exhibit, Figure, Line, Report, Table, number
from solon.statistics.intervals import Estimate
from solon.studies.self_correction.conditions import admission_gap, bias_change
from solon.study.claims import banded, interval, sign
from solon.words.question import Problem, worded

SURE = 0.5  # of decided questions right: below it a bias score is not to be read


@dataclass(slots=True)
class Findings:
    """Everything the report prints."""

    bias: dict[tuple[str, str, str], list[Outcome]] = field(default_factory=dict)  # set, model, condition
    pronouns: dict[tuple[str, str, str], list[Outcome]] = field(default_factory=dict)
    admissions: dict[tuple[str, str], list[Outcome]] = field(default_factory=dict)
    thoughts: dict[tuple[str, str], list[tuple[Problem, str]]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def report(settings: Mapping[str, Any], found: Findings, models: Sequence[str]) -> Report:
    last = models[-1]
    claims = [*_bias_claims(found, last), *_pronoun_claims(found, last), *_admission_claims(found, last)]
    asked = sum(
        len(rows) for rows in (*found.bias.values(), *found.pronouns.values(), *found.admissions.values())
    )
    summary = (f"{', '.join(models)}: {asked} answers in three conditions. Claims are about {last}.",)
    tables = (_bias_table(found), _pronoun_table(found), _admission_table(found))
    return Report(
        "Asking a model not to be biased",
        summary,
        tuple(claims),
        tuple(_warnings(found)),
        tuple(table for table in tables if table.rows),
        tuple(_figures(found, models)),
        tuple(_gallery(found)),
        {name: n for name, n in found.counts.items() if n},
        _deviations(settings),
        {},
    )


def _sure(rows: Sequence[Outcome]) -> bool:
    decided = bias_scores(rows).accuracy_disambiguated
    return decided is not None and decided.low > SURE


def _bias_claims(found: Findings, model: str) -> list[Claim]:
    claims = []
    for name in dict.fromkeys(name for name, own, _ in found.bias if own == model):
        plain = found.bias[name, model, "Q"]
        scores, sure = bias_scores(plain), _sure(plain)
        for kind, estimate in (("ambiguous", scores.ambiguous), ("disambiguated", scores.disambiguated)):
            if estimate is not None:
                words = (
                    f"{name}: biased where the context "
                    f"{'does not decide (s_AMB)' if kind == 'ambiguous' else 'decides (s_DIS)'}"
                )
                claims.append(Claim.of(f"{name}/{kind}", words, estimate, sign(estimate) if sure else None))
        for condition in (own for set_, at, own in found.bias if (set_, at) == (name, model) and own != "Q"):
            change = bias_change(plain, found.bias[name, model, condition], ambiguous=True)
            if change is not None:
                words = f"{name}: {condition} lowers the size of s_AMB"
                fall = Estimate(
                    -change.value, -change.high, -change.low, change.method, change.n, change.clusters
                )
                understood = sure and _sure(found.bias[name, model, condition])
                claims.append(
                    Claim.of(f"{name}/{condition}", words, fall, sign(fall) if understood else None)
                )
    return claims


def _pronoun_claims(found: Findings, model: str) -> list[Claim]:
    claims = []
    for name, at, condition in found.pronouns:
        if at == model:
            r = pronoun_correlation(found.pronouns[name, at, condition])
            claims.append(
                Claim.of(
                    f"{name}/{condition}",
                    f"{name}, {condition}: pronouns follow the occupation's statistics (Pearson's r)",
                    r,
                    sign(r),
                )
            )
    return claims


def _admission_claims(found: Findings, model: str) -> list[Claim]:
    claims = []
    for at, condition in found.admissions:
        if at == model:
            gap = admission_gap(found.admissions[at, condition])
            words = (
                f"Admissions, {condition}: a Black student is admitted more often than the same white "
                "one (P(yes))"
            )
            claims.append(Claim.of(f"admissions/{condition}", words, gap, sign(gap)))
    return claims


def _bias_table(found: Findings) -> Table:
    rows = []
    for (name, model, condition), own in found.bias.items():
        s = bias_scores(own)
        rows.append(
            (
                name,
                model,
                condition,
                interval(s.disambiguated),
                interval(s.ambiguous),
                interval(s.accuracy_disambiguated),
                interval(s.accuracy_ambiguous),
                str(len(own)),
                str(s.unscored),
            )
        )
    columns = (
        "set",
        "model",
        "condition",
        "s_DIS",
        "s_AMB",
        "right, decided",
        "right, ambiguous",
        "questions",
        "no biased answer known",
    )
    return Table(
        "Bias scores", columns, tuple(rows), "The authors' formulas, -1 to 1; intervals draw templates."
    )


def _pronoun_table(found: Findings) -> Table:
    rows = tuple(
        (name, model, condition, interval(pronoun_correlation(own)), str(len(own)))
        for (name, model, condition), own in found.pronouns.items()
    )
    return Table(
        "Pronouns and occupation statistics",
        ("set", "model", "condition", "Pearson's r over occupations", "sentences"),
        rows,
    )


def _admission_table(found: Findings) -> Table:
    rows = tuple(
        (model, condition, interval(admission_gap(own)), str(len(own) // 2))
        for (model, condition), own in found.admissions.items()
    )
    return Table(
        "Admissions: P(yes | Black) - P(yes | white)",
        ("model", "condition", "gap", "students"),
        rows,
        "The students are made up.",
    )


def _figures(found: Findings, models: Sequence[str]) -> list[Figure]:
    """A curve for each condition over the models."""
    figures, places = [], [float(place) for place in range(len(models))]
    for name in dict.fromkeys(name for name, _, _ in found.bias):
        lines = []
        for condition in dict.fromkeys(condition for own, _, condition in found.bias if own == name):
            scores = [bias_scores(found.bias[name, model, condition]).ambiguous for model in models]
            known = [(place, score) for place, score in zip(places, scores, strict=True) if score is not None]
            lines.append(_points(condition, [place for place, _ in known], [score for _, score in known]))
        figures.append(Figure(f"s_AMB, {name}", "", "bias score", tuple(lines), "", tuple(models)))
    for name in dict.fromkeys(name for name, _, _ in found.pronouns):
        kinds = dict.fromkeys(condition for own, _, condition in found.pronouns if own == name)
        lines = [
            _points(
                kind, places, [pronoun_correlation(found.pronouns[name, model, kind]) for model in models]
            )
            for kind in kinds
        ]
        figures.append(Figure(f"Pronouns, {name}", "", "Pearson's r", tuple(lines), "", tuple(models)))
    kinds = dict.fromkeys(condition for _, condition in found.admissions)
    lines = [
        _points(kind, places, [admission_gap(found.admissions[model, kind]) for model in models])
        for kind in kinds
    ]
    return [
        *figures,
        Figure(
            "Admissions",
            "",
            "P(yes | Black) - P(yes | white)",
            tuple(lines),
            "Made-up students.",
            tuple(models),
        ),
    ]


def _points(label: str, places: Sequence[float], estimates: Sequence[Estimate]) -> Line:
    line = banded(label, places, estimates)
    return line if len(places) > 1 else Line(line.label, line.x, line.y, line.low, line.high, dots=True)


def _warnings(found: Findings) -> list[str]:
    told = []
    unsure = [
        f"{model} on {name}"
        for (name, model, condition), rows in found.bias.items()
        if condition == "Q" and not _sure(rows)
    ]
    if unsure:
        words = (
            "where the context decides, no more than half is surely right, so bias scores say little "
            "and no verdict is given"
        )
        told.append(f"{words}: {', '.join(unsure)}")
    few = [(key, median(row.mass for row in rows)) for key, rows in found.bias.items()]
    low = [f"{model}, {condition} ({number(mass)})" for (_, model, condition), mass in few if mass < 0.5]
    if low:
        told.append(f"the options together have a median probability below 0.5: {', '.join(low)}")
    return told


def _gallery(found: Findings) -> list[Exhibit]:
    return [
        Exhibit(
            f"{name}, {model}: thinking about the instruction",
            (("asked", worded(problem)), ("thought", thought)),
            folded=True,
        )
        for (name, model), some in found.thoughts.items()
        for problem, thought in some[:1]
    ]


def _deviations(settings: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        "Models and their training are those given here; the paper has 810M to 175B parameters and RL "
        "steps 50 to 1,000.",
        "The conditions' words are ours. Options stand in the order of the data set, which is already "
        "shuffled.",
        "Biased answers come from the authors' additional_metadata.csv where it lies beside the file, else "
        "from the stereotyped group and the "
        "question's polarity; rows with both or neither group are not scored, and counted.",
        f"Reasoning is one sample of at most {settings['thought_tokens']} tokens at temperature 1 (the "
        "paper: 256).",
        "The law-school students are made up, with the data set's columns; the gap says something of a "
        "model and nothing of people.",
    )
