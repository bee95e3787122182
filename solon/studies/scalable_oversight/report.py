"""What help from a model is worth, with people and simulated participants kept apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from solon.evaluation.measure import Outcome
from solon.evaluation.scores import accuracy
from solon.records.report import Claim, Exhibit, Figure, Line, Report, Table, number
from solon.statistics.calibration import fixed_bin_calibration_error
from solon.statistics.intervals import Estimate, mean, paired_difference, proportion
from solon.studies.scalable_oversight.oversight import Given, level, vote
from solon.study.claims import banded, interval, sign
from solon.words.question import Problem, human_turn


@dataclass(slots=True)
class Findings:
    """Everything the report prints."""

    model: dict[str, list[Outcome]] = field(default_factory=dict)
    simulated: list[Given] = field(default_factory=list)
    people: list[Given] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    talks: list[tuple[Problem, str, list[tuple[Any, ...]]]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """A row of the table: who, how often right, and by how far stated confidences miss."""

    name: str
    right: Estimate
    error: float
    n: int


def in_condition(answers: Sequence[Given], condition: str) -> list[Given]:
    return [own for own in answers if own.condition == condition]


def voted(answers: Sequence[Given]) -> dict[str, tuple[bool, float]]:
    """Of each question whether the vote of all who answered it is right, and how sure it is."""
    by_question: dict[str, list[Given]] = {}
    for own in answers:
        by_question.setdefault(own.question, []).append(own)
    found = {}
    for question, some in by_question.items():
        best, sure = vote(some)
        found[question] = (any(own.right and own.chosen == best for own in some), sure)
    return found


def rows_of(found: Findings) -> list[Standing]:
    rows = []
    for name, outcomes in found.model.items():
        sure, right = (
            [level(max(own.belief)) for own in outcomes],
            [float(bool(own.correct)) for own in outcomes],
        )
        rows.append(
            Standing(
                f"the model, {name}",
                accuracy(outcomes),
                fixed_bin_calibration_error(sure, right),
                len(outcomes),
            )
        )
    for kind, answers in (("simulated participants", found.simulated), ("people", found.people)):
        for condition in ("unassisted", "assisted"):
            some = in_condition(answers, condition)
            if not some:
                continue
            share = proportion([own.right for own in some], clusters=[own.question for own in some])
            error = fixed_bin_calibration_error(
                [own.confidence for own in some], [float(own.right) for own in some]
            )
            rows.append(Standing(f"{kind}, {condition}", share, error, len(some)))
            if len({own.participant for own in some}) > 1:
                votes = list(voted(some).values())
                error = fixed_bin_calibration_error([sure for _, sure in votes], [float(y) for y, _ in votes])
                rows.append(
                    Standing(
                        f"{kind}, {condition}, their vote",
                        proportion([y for y, _ in votes], clusters=range(len(votes))),
                        error,
                        len(votes),
                    )
                )
    return rows


def report(settings: Mapping[str, Any], found: Findings, strong: str, weak: str) -> Report:
    rows = rows_of(found)
    table = Table(
        "Who is right, and how far stated confidences miss",
        ("who", "right", "calibration error, five bins", "answers"),
        tuple((row.name, interval(row.right), number(row.error), str(row.n)) for row in rows),
        "Five fixed bins, unweighted, from the bin's centre (footnote 8 of the paper). Models' confidences "
        "are put to the same five levels.",
    )
    everyone = [*found.simulated, *found.people]
    even = sum(1 / own.options for own in everyone) / len(everyone)
    figure = Figure(
        "Right answers",
        "",
        "share",
        (Line("chance", (-0.5, len(rows) - 0.5), (even, even)), _dots(rows)),
        "95% intervals.",
        tuple(row.name for row in rows),
    )
    who = (
        [f"{len({own.participant for own in found.simulated})} simulated by {weak}"]
        if found.simulated
        else []
    )
    who += [f"{len({own.participant for own in found.people})} people"] if found.people else []
    summary = (
        f"The assistant is {strong}; participants: {' and '.join(who)}. People and simulations are never "
        "put into one number.",
    )
    care = (
        ["simulated participants are weak models: nothing here says how people would do"]
        if found.simulated
        else []
    )
    return Report(
        "Sandwiching",
        summary,
        tuple(_claims(found)),
        tuple(care),
        (table,),
        (figure,),
        tuple(_gallery(found)),
        {name: n for name, n in found.counts.items() if n},
        _deviations(settings, found),
        {},
    )


def _dots(rows: Sequence[Standing]) -> Line:
    line = banded("right", [float(place) for place in range(len(rows))], [row.right for row in rows])
    return Line(line.label, line.x, line.y, line.low, line.high, dots=True)


def _claims(found: Findings) -> list[Claim]:
    claims = []
    for kind, answers in (("simulated participants", found.simulated), ("people", found.people)):
        alone, helped = in_condition(answers, "unassisted"), in_condition(answers, "assisted")
        if not alone or not helped:
            continue
        claims.append(_help(kind, alone, helped))
        alone_right = dict(
            zip(found.asked, [float(bool(own.correct)) for own in found.model.get("alone", [])], strict=False)
        )
        order = [
            question for question in dict.fromkeys(own.question for own in helped) if question in alone_right
        ]
        if len(order) > 1:
            model = [alone_right[question] for question in order]
            share = {
                question: mean([float(own.right) for own in helped if own.question == question]).value
                for question in order
            }
            gain = paired_difference([share[question] for question in order], model)
            claims.append(
                Claim.of(
                    f"{kind}/over_model", f"{kind}: with help they beat the model alone", gain, sign(gain)
                )
            )
        if len({own.participant for own in helped}) > 1:
            right = voted(helped)
            gain = paired_difference(
                [float(y) for y, _ in right.values()],
                [mean([float(o.right) for o in helped if o.question == q]).value for q in right],
            )
            claims.append(
                Claim.of(f"{kind}/vote", f"{kind}: with help, their vote beats one of them", gain, sign(gain))
            )
    return claims


def _help(kind: str, alone: Sequence[Given], helped: Sequence[Given]) -> Claim:
    """Paired where the same participant answered the same question in both conditions (simulations), else two
    samples by question.
    """
    first = {(own.participant, own.question): own.right for own in alone}
    pairs = [
        (own, first[own.participant, own.question])
        for own in helped
        if (own.participant, own.question) in first
    ]
    words = f"{kind}: help makes them right more often"
    if len(pairs) == len(helped):
        gain = paired_difference(
            [float(own.right) for own, _ in pairs],
            [float(before) for _, before in pairs],
            clusters=[own.question for own, _ in pairs],
        )
        return Claim.of(f"{kind}/help", words, gain, sign(gain))
    a, b = (
        mean([float(own.right) for own in some], clusters=[own.question for own in some])
        for some in (helped, alone)
    )
    half = ((a.high - a.value) ** 2 + (b.high - b.value) ** 2) ** 0.5
    gap = a.value - b.value
    gain = Estimate(
        gap, gap - half, gap + half, "two samples, cluster-robust", a.n + b.n, a.clusters + b.clusters
    )
    return Claim.of(f"{kind}/help", words, gain, sign(gain))


def _gallery(found: Findings) -> list[Exhibit]:
    return [
        Exhibit(
            f"{name} asks for help",
            (("question", human_turn(problem)), *((f"asked: {asked}", said) for asked, said in told)),
            folded=True,
        )
        for problem, name, told in found.talks
    ]


def _deviations(settings: Mapping[str, Any], found: Findings) -> tuple[str, ...]:
    own = [
        "Models and questions are those given here; the paper has a 52B assistant, MMLU and QuALITY under "
        "a timer, five participants a task.",
        "The best solo outlier, which the paper drops in each task, is kept.",
    ]
    if found.simulated:
        own += [
            "Simulated participants answer the same questions in both conditions, so that they pair; the "
            "paper's people saw different ones.",
            f"They send {settings['turns']} messages and cannot reset the conversation, look anything up, "
            "or learn from being told the right answer.",
        ]
    if not any(name.startswith("best of") for name in found.model):
        own.append("No judge was given, so that the best of many chains of thought is not measured.")
    return tuple(own)
