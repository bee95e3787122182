"""Models on the same items: paired differences, tests over a suite, calibration side by side, the items that
flipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from solon.data.evaluations import Evaluation
from solon.evaluation.measure import Outcome, ReplyOutcome
from solon.records.report import Claim, Exhibit, Figure, Line, Report, Table, number
from solon.statistics.intervals import Estimate, McNemar, mcnemar, mean, paired_difference
from solon.statistics.paired import benjamini_hochberg, detectable_difference, holm, sign_flip_test
from solon.study.claims import interval, sign
from solon.study.measurement import (
    Score,
    calibration_table,
    calibrations,
    chart,
    one_answer,
    scores,
    strip,
    together,
    understands,
    values,
    warnings,
)
from solon.study.outcomes import Rows, Suite, counted
from solon.words.question import Problem, choice_label, human_turn

FLIPS = 40  # shown of an evaluation


@dataclass(frozen=True, slots=True)
class Paired:
    """One number of one evaluation, second model minus first, over the same items."""

    evaluation: str
    name: str
    difference: Estimate
    flips: McNemar | None
    p_value: float


def pairs(evaluation: Evaluation, first: Rows, second: Rows, *, seed: int = 0) -> list[Paired]:
    """Every number that items contribute to, second minus first, by the task's default cluster."""
    found = []
    ahead, behind = values(evaluation, first), values(evaluation, second)
    for name in ahead:
        both = [
            (b, a, row.cluster)
            for a, b, row in zip(ahead[name], behind[name], first, strict=True)
            if a is not None and b is not None
        ]
        if not both:
            continue
        later, earlier, clusters = (
            [b for b, _, _ in both],
            [a for _, a, _ in both],
            [cluster for _, _, cluster in both],
        )
        difference = paired_difference(later, earlier, clusters=clusters)
        flips = (
            mcnemar([own > 0 for own in later], [own > 0 for own in earlier])
            if set(later) | set(earlier) <= {0.0, 1.0}
            else None
        )
        p = sign_flip_test([b - a for b, a, _ in both], clusters=clusters, seed=seed)
        found.append(Paired(evaluation.name, name, difference, flips, p))
    return found


def compared(
    names: Sequence[str], suite: Suite, rows: Mapping[tuple[str, str], Rows], *, seed: int = 0
) -> Report:
    """The whole page. The first model is the one that every other is held against; more than two are also
    drawn as a series.
    """
    claims: list[Claim] = []
    care: list[tuple[str, str]] = []
    tables: list[Table] = []
    figures: list[Figure] = []
    gallery: list[Exhibit] = []
    counts: dict[str, int] = {}
    for other in names[1:]:
        found = [
            own
            for e in suite.evaluations
            for own in pairs(e, rows[names[0], e.name], rows[other, e.name], seed=seed)
        ]
        title = f"{other} - {names[0]}"
        both = [(e, rows[name, e.name]) for e in suite.evaluations for name in (names[0], other)]
        unsure = {e.name for e, own in both if e.measure == "bbq" and not understands(own)}
        habit = {e.name for e, own in both if one_answer(own)}
        told = [
            own.evaluation not in habit and (own.name != "biased" or own.evaluation not in unsure)
            for own in found
        ]
        claims += [_claim(names[0], other, own, told=said) for own, said in zip(found, told, strict=True)]
        tables.append(paired_table(title, found))
        figures.append(forest(title, found))
    for evaluation in suite.evaluations:
        own = {name: rows[name, evaluation.name] for name in names}
        care += [
            (words, f"{name} on {about}")
            for name in names
            for words, about in warnings(evaluation, own[name])
        ]
        counts |= {
            f"{evaluation.name}, {name}: {words}": n
            for name in names
            for words, n in counted(evaluation, suite, own[name]).items()
        }
        tables.append(_levels(evaluation, own, seed))
        calibrated = {
            name: fit
            for name in names
            if evaluation.measure == "accuracy" and (fit := calibrations(own[name], seed=seed))
        }
        if calibrated:
            figures.append(
                chart(evaluation.name, {name: before for name, (before, _, _) in calibrated.items()})
            )
            tables.append(calibration_table(evaluation.name, calibrated))
        if len(names) > 2:
            figures += _series(evaluation, own)
        if evaluation.measure == "opinions":
            figures += [strip(f"{evaluation.name}, {name}", own[name]) for name in names]
        gallery += _flipped(evaluation, suite.drawn(evaluation)[1], own[names[0]], own[names[-1]], names)
    items = sum(len(rows[names[0], e.name]) for e in suite.evaluations)
    summary = (
        f"{', '.join(names[1:])} against {names[0]}: {len(suite.evaluations)} evaluations, {items} items, "
        "every one asked of all of them.",
        "Differences are paired by item, and their errors robust to clusters of items; tests flip the "
        "signs of clusters.",
    )
    return Report(
        "Models on the same items",
        summary,
        tuple(claims),
        together(care),
        tuple(tables),
        tuple(figures),
        tuple(gallery),
        counts,
    )


def _claim(first: str, other: str, own: Paired, *, told: bool) -> Claim:
    words = f"{own.evaluation}: {own.name}: {other} is above {first}"
    return Claim.of(
        f"{other} - {first}/{own.evaluation}/{own.name}",
        words,
        own.difference,
        sign(own.difference) if told else None,
    )


def paired_table(title: str, found: Sequence[Paired]) -> Table:
    """Every difference with its tests, adjusted over the table."""
    p_values = [own.p_value for own in found]
    rows = tuple(
        (
            own.evaluation,
            own.name,
            interval(own.difference),
            number(detectable_difference(own.difference)),
            ""
            if own.flips is None
            else f"+{own.flips.only_first} -{own.flips.only_second} (p {own.flips.p_value:.3g})",
            f"{own.p_value:.3g}",
            f"{strict:.3g}",
            f"{share:.3g}",
            str(own.difference.n),
            str(own.difference.clusters),
        )
        for own, strict, share in zip(found, holm(p_values), benjamini_hochberg(p_values), strict=True)
    )
    columns = (
        "evaluation",
        "number",
        "difference",
        "detectable",
        "flips (McNemar)",
        "p (sign flips)",
        "Holm",
        "BH",
        "items",
        "clusters",
    )
    note = (
        "Detectable: the smallest true difference that this comparison would find with a power of 0.8 "
        "at a level of 0.05. Holm and BH adjust over this table."
    )
    return Table(f"Paired differences, {title}", columns, rows, note)


def forest(title: str, found: Sequence[Paired]) -> Figure:
    """The same as dots with intervals."""
    own = [one.difference for one in found]
    places = tuple(float(place) for place in range(len(own)))
    dots = Line(
        "difference",
        places,
        tuple(e.value for e in own),
        tuple(e.low for e in own),
        tuple(e.high for e in own),
        dots=True,
    )
    zero = Line("none", (-0.5, len(own) - 0.5), (0.0, 0.0))
    ticks = tuple(f"{one.evaluation[:24]}, {one.name}" for one in found)
    return Figure(
        f"Paired differences, {title}",
        "",
        "difference",
        (dots, zero),
        "95% intervals, robust to clusters.",
        ticks,
    )


def _levels(evaluation: Evaluation, own: Mapping[str, Rows], seed: int) -> Table:
    listed = {name: scores(evaluation, rows, seed=seed) for name, rows in own.items()}
    names = list(dict.fromkeys(score.text for found in listed.values() for score in found))
    rows = tuple((text, *(_level(found, text) for found in listed.values())) for text in names)
    return Table(f"Each model on {evaluation.name}", ("number", *listed), rows)


def _level(found: Sequence[Score], text: str) -> str:
    return next((interval(score.found) for score in found if score.text == text), "")


def _series(evaluation: Evaluation, own: Mapping[str, Rows]) -> list[Figure]:
    """The abrupt number and its smooth companion over the models in the order given, on one panel."""
    found = {name: values(evaluation, rows) for name, rows in own.items()}
    lines = []
    for number_name in (
        name for name, own in next(iter(found.values())).items() if any(value is not None for value in own)
    ):
        points = []
        for of, rows in zip(found.values(), own.values(), strict=True):
            known = [
                (value, row.cluster)
                for value, row in zip(of[number_name], rows, strict=True)
                if value is not None
            ]
            points.append(mean([value for value, _ in known], clusters=[cluster for _, cluster in known]))
        places = tuple(float(place) for place in range(len(points)))
        lines.append(
            Line(
                number_name,
                places,
                tuple(p.value for p in points),
                tuple(p.low for p in points),
                tuple(p.high for p in points),
            )
        )
    return [
        Figure(
            f"{evaluation.name} over the models",
            "",
            "mean over items",
            tuple(lines),
            "Abrupt and smooth numbers of the same outcomes.",
            tuple(own),
        )
    ]


def _flipped(
    evaluation: Evaluation, problems: Sequence[Problem], first: Rows, last: Rows, names: Sequence[str]
) -> list[Exhibit]:
    """Items whose answer went from right to wrong or back, largest change of belief first."""
    found = []
    for problem, before, after in zip(problems, first, last, strict=True):
        if before.correct is None or after.correct is None or before.correct == after.correct:
            continue
        way = "wrong to right" if after.correct else "right to wrong"
        parts = (
            ("asked", human_turn(problem) or problem.opening[-400:]),
            ("right", problem.answers[0] if problem.answers else ""),
            *((n, _said(o)) for n, o in ((names[0], before), (names[-1], after))),
        )
        found.append(
            (
                _moved(before, after),
                Exhibit(f"{evaluation.name}: {way}: {problem.text[:90]}", parts, folded=True),
            )
        )
    found.sort(key=lambda pair: -pair[0])
    return [exhibit for _, exhibit in found[:FLIPS]]


def _moved(before: Outcome | ReplyOutcome, after: Outcome | ReplyOutcome) -> float:
    if isinstance(before, Outcome) and isinstance(after, Outcome) and before.right is not None:
        return abs(after.belief[before.right] - before.belief[before.right])
    return 0.0


def _said(own: Outcome | ReplyOutcome) -> str:
    if isinstance(own, ReplyOutcome):
        return own.text
    return "\n".join(
        f"{choice_label(place)} {p:.3f}  {option}"
        for place, (p, option) in enumerate(zip(own.belief, own.options, strict=True))
    )
