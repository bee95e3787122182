"""Sections on answers: multiple choice and what changes its calibration, and P(True) of own samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from solon.evaluation.measure import Outcome
from solon.evaluation.scores import (
    accuracy,
    calibration,
    confidence_calibration,
    fit_temperature,
    with_temperature,
)
from solon.records.report import Claim, Figure, Line, Section, Table, number
from solon.statistics.calibration import brier_score
from solon.statistics.intervals import Estimate, bootstrap, paired_difference
from solon.studies.know_what_they_know.results import Judgement, Results, area, histogram, split_by
from solon.study.claims import interval

VARIANTS = ("as given", "none of the above", "true or false")


# multiple choice


def choice_section(results: Results) -> Section:
    """The options as given, with the last one replaced, and each answer proposed by itself."""
    names = list(dict.fromkeys(name for name, _ in results.choices))
    temperature = common_temperature(results.tempered) if results.tempered else 1.0
    claims = list[Claim]()
    for name in names:
        claims += choice_claims(name, *(results.choices[name, variant] for variant in VARIANTS))
        if name in results.tempered:
            claims.append(temperature_claim(name, results.tempered[name], temperature))
    return Section(
        claims=tuple(claims),
        tables=(choice_table(results.choices), *temperature_tables(results.tempered, temperature)),
        figures=tuple(choice_figure(name, results.choices) for name in names),
        counts={
            f"{name}, {variant}: ties, the first option taken": sum(row.tied for row in rows)
            for (name, variant), rows in results.choices.items()
        },
    )


def choice_claims(
    name: str, given: Sequence[Outcome], replaced: Sequence[Outcome], proposed: Sequence[Outcome]
) -> Iterator[Claim]:
    error = calibration(given).error
    text = f"{name}: calibration error of the top option (holds where it is shown to be above 0)"
    yield Claim.of(f"{name}/calibration_error", text, error, True if error.low > 0 else None)
    right = [[float(row.correct is True) for row in rows] for rows in (replaced, given)]
    text = f"{name}: none of the above makes answers less often right"
    yield Claim.below(f"{name}/none_of_the_above", text, paired_difference(*right))
    text = f"{name}: says which of a right and a wrong answer is true more often than chance"
    yield Claim.above(f"{name}/true_or_false", text, accuracy(proposed), 0.5)


def choice_table(choices: Mapping[tuple[str, str], Sequence[Outcome]]) -> Table:
    rows = []
    for (name, variant), outcomes in choices.items():
        whole = calibration(outcomes)
        right, error = interval(accuracy(outcomes)), interval(whole.error)
        rows.append((name, variant, right, error, number(whole.rms), str(len(outcomes))))
    columns = ("set", "form", "right", "calibration error", "RMS", "items")
    return Table("Multiple choice", columns, tuple(rows), "Ten equal-count bins of the top option.")


def choice_figure(name: str, choices: Mapping[tuple[str, str], Sequence[Outcome]]) -> Figure:
    lines = [Line("perfect", (0.0, 1.0), (0.0, 1.0))]
    for variant in VARIANTS:
        chart = calibration(choices[name, variant]).chart
        lines.append(Line(variant, tuple(b.confidence for b in chart), tuple(b.accuracy for b in chart)))
    x, y = "probability of an option", "how often it is right"
    return Figure(f"Multiple choice, {name}", x, y, tuple(lines), "All options, equal-count bins.")


def in_order(rows: Sequence[Outcome]) -> list[Outcome]:
    return sorted(rows, key=lambda row: row.key)


def common_temperature(tempered: Mapping[str, Sequence[Outcome]]) -> float:
    """Fitted on every second item of all sets together, as the paper has one for all."""
    return fit_temperature([row for rows in tempered.values() for row in in_order(rows)[::2]])


def temperature_claim(name: str, rows: Sequence[Outcome], temperature: float) -> Claim:
    others = in_order(rows)[1::2]
    before, after = top_errors(others), top_errors([with_temperature(row, temperature) for row in others])
    gain = paired_difference(before, after, clusters=[row.cluster for row in others])
    text = f"{name}: one temperature for all ({number(temperature)}) lowers the Brier score of the top option"
    return Claim.above(f"{name}/temperature", text, gain)


def top_errors(rows: Sequence[Outcome]) -> list[float]:
    """The squared error of the top option's probability."""
    return [(max(row.belief) - float(row.correct is True)) ** 2 for row in rows]


def temperature_tables(tempered: Mapping[str, Sequence[Outcome]], temperature: float) -> Iterator[Table]:
    if not tempered:
        return
    rows = []
    for name, outcomes in tempered.items():
        others = in_order(outcomes)[1::2]
        after = [with_temperature(row, temperature) for row in others]
        errors = (interval(calibration(others).error), interval(calibration(after).error))
        rows.append((name, *errors, str(len(others))))
    columns = ("set", "calibration error", f"at T = {number(temperature)}", "items")
    note = "Fitted on every second item of all sets together, tried on the others."
    yield Table("One temperature for all sets", columns, tuple(rows), note)


# P(True)


def p_true_section(results: Results) -> Section:
    """P(True) of its own samples, alone and after brainstorming, and who judges whom."""
    claims, counts = list[Claim](), dict[str, int]()
    figures = []
    for task in results.problems:
        kinds = [(kind, ideas) for name, kind, ideas in results.judged if name == task]
        last, most = kinds[-1][0], max(ideas for _, ideas in kinds)
        alone, after = results.judged[task, last, 0], results.judged[task, last, most]
        found = list(p_true_claims(task, alone, after))
        if not found:
            name = f"{task}: P(True) not measured, all or none of the judged samples is right"
            counts[name] = len(after)
        claims += found
        judged = results.judged[task, *kinds[-1]]
        values = [judgement.p_true for judgement in judged]
        groups = split_by(values, [judgement.right for judgement in judged], ("right", "wrong"))
        figures.append(histogram(f"P(True) on {task}", f"{kinds[-1][0]}, {kinds[-1][1]} ideas", groups))
    return Section(
        claims=tuple(claims),
        tables=(p_true_table(results), *crossed_tables(results)),
        figures=tuple(figures),
        counts=counts,
    )


def p_true_claims(task: str, alone: Sequence[Judgement], after: Sequence[Judgement]) -> Iterator[Claim]:
    """None where all or none of the judged samples is right."""
    right = [judgement.right for judgement in after]
    told_apart = area([judgement.p_true for judgement in after], right)
    if told_apart is None:
        return
    text = f"{task}: P(True) after brainstorming tells right samples from wrong (AUROC)"
    yield Claim.above(f"{task}/p_true", text, told_apart, 0.5)
    errors = [
        [(judgement.p_true - float(y)) ** 2 for judgement, y in zip(rows, right, strict=True)]
        for rows in (alone, after)
    ]
    text = f"{task}: brainstorming lowers P(True)'s Brier score"
    yield Claim.above(f"{task}/brainstorming", text, paired_difference(*errors))
    lift = lift_of(after)
    if lift is not None:
        yield Claim.above(
            f"{task}/lift", f"{task}: samples with P(True) > 0.5 are right more often than all", lift
        )


def lift_of(rows: Sequence[Judgement]) -> Estimate | None:
    """Accuracy of samples with P(True) above one half, minus that of all; a bootstrap draws questions."""
    trusted = np.array([judgement.p_true > 0.5 for judgement in rows])
    right = np.array([judgement.right for judgement in rows], dtype=float)
    if not trusted.any():
        return None

    def gain(indices: np.ndarray) -> float:
        drawn = indices.astype(int)
        kept = drawn[trusted[drawn]]
        return float(right[kept].mean() - right[drawn].mean()) if len(kept) else 0.0

    return bootstrap([float(index) for index in range(len(rows))], gain, resamples=1000)


def p_true_table(results: Results) -> Table:
    rows = []
    for (task, kind, ideas), judged in results.judged.items():
        p, right = [row.p_true for row in judged], [row.right for row in judged]
        truth = [float(y) for y in right]
        trusted = [y for value, y in zip(p, right, strict=True) if value > 0.5]
        clusters = [row.row.cluster for row in judged]
        rows.append(
            (
                task,
                kind,
                str(ideas or "none"),
                interval(area(p, right)),
                number(brier_score(p, truth)),
                interval(confidence_calibration(p, truth, clusters=clusters).error),
                number(sum(right) / len(right)),
                number(sum(trusted) / len(trusted)) if trusted else "none trusted",
                number(float(np.median([row.row.mass for row in judged]))),
                str(len(judged)),
            )
        )
    columns = ("task", "prompt", "ideas", "AUROC", "Brier", "calibration error", "right")
    note = (
        "Calibration of P(True) itself in ten equal-count bins. A constant one half has a Brier score "
        "of 0.25."
    )
    last = ("right if P(True) > 0.5", "option mass", "samples")
    return Table("P(True) of its own samples", (*columns, *last), tuple(rows), note)


def crossed_tables(results: Results) -> Iterator[Table]:
    """Who judges whom."""
    for task in dict.fromkeys(task for task, _, _ in results.crossed):
        models = list(dict.fromkeys(speaker for name, speaker, _ in results.crossed if name == task))

        def cell(speaker: str, judge: str, task: str = task) -> str:
            rows = results.crossed[task, speaker, judge]
            return interval(area([row.p_true for row in rows], [row.right for row in rows]))

        rows = tuple((speaker, *(cell(speaker, judge) for judge in models)) for speaker in models)
        columns = ("samples of", *(f"judged by {name}" for name in models))
        yield Table(f"Who judges whom, {task} (AUROC of P(True))", columns, rows)
