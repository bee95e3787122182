"""The tables of the study of self-knowledge."""

from __future__ import annotations

import numpy as np

from solon.evaluation.scores import (
    accuracy,
    calibration,
    confidence_calibration,
    fit_temperature,
    with_temperature,
)
from solon.evaluation.self_knowledge import agreement, p_true
from solon.records.report import Table, number
from solon.statistics.calibration import brier_score
from solon.statistics.intervals import Estimate
from solon.studies.know_what_they_know.results import Findings, judged_right, measured_area, ordered, shares
from solon.studies.know_what_they_know.settings import Inputs
from solon.study.claims import interval


def one_temperature(found: Findings) -> float:
    """Fitted on every second item of all sets together, as the paper has one for all."""
    return fit_temperature([row for rows in found.tempered.values() for row in ordered(rows)[::2]])


def choices_table(found: Findings) -> Table:
    rows = []
    for (name, variant), own in found.choices.items():
        whole = calibration(own)
        rows.append(
            (name, variant, interval(accuracy(own)), interval(whole.error), number(whole.rms), str(len(own)))
        )
    return Table(
        "Multiple choice",
        ("set", "form", "right", "calibration error", "RMS", "items"),
        tuple(rows),
        "Ten equal-count bins of the top option.",
    )


def temperature_table(found: Findings) -> list[Table]:
    if not found.tempered:
        return []
    temperature = one_temperature(found)
    rows = []
    for name, own in found.tempered.items():
        others = ordered(own)[1::2]
        after = [with_temperature(row, temperature) for row in others]
        rows.append(
            (name, interval(calibration(others).error), interval(calibration(after).error), str(len(others)))
        )
    columns = ("set", "calibration error", f"at T = {number(temperature)}", "items")
    return [
        Table(
            "One temperature for all sets",
            columns,
            tuple(rows),
            "Fitted on every second item of all sets together, tried on the others.",
        )
    ]


def p_true_table(found: Findings) -> list[Table]:
    rows = []
    for (task, kind, ideas), own in found.judged.items():
        p, right = [p_true(one.row) for one in own], judged_right(own)
        trusted = [y for value, y in zip(p, right, strict=True) if value > 0.5]
        rows.append(
            (
                task,
                kind,
                str(ideas or "none"),
                interval(measured_area(p, right)),
                number(brier_score(p, list(map(float, right)))),
                interval(
                    confidence_calibration(
                        p, list(map(float, right)), clusters=[one.row.cluster for one in own]
                    ).error
                ),
                number(sum(right) / len(right)),
                number(sum(trusted) / len(trusted)) if trusted else "none trusted",
                number(float(np.median([one.row.mass for one in own]))),
                str(len(own)),
            )
        )
    columns = (
        "task",
        "prompt",
        "ideas",
        "AUROC",
        "Brier",
        "calibration error",
        "right",
        "right if P(True) > 0.5",
        "option mass",
        "samples",
    )
    return [
        Table(
            "P(True) of its own samples",
            columns,
            tuple(rows),
            "Calibration of P(True) itself in ten equal-count bins. A constant one half has a Brier score "
            "of 0.25.",
        )
    ]


def matrix(found: Findings) -> list[Table]:
    tables = []
    for task in dict.fromkeys(task for task, _, _ in found.crossed):
        speakers = list(dict.fromkeys(speaker for own, speaker, _ in found.crossed if own == task))
        rows = []
        for speaker in speakers:
            own = [found.crossed[task, speaker, judge] for judge in speakers]
            rows.append(
                (
                    speaker,
                    *(
                        interval(measured_area([p_true(one.row) for one in some], judged_right(some)))
                        for some in own
                    ),
                )
            )
        tables.append(
            Table(
                f"Who judges whom, {task} (AUROC of P(True))",
                ("samples of", *(f"judged by {name}" for name in speakers)),
                tuple(rows),
            )
        )
    return tables


def area_of(found: Findings, task: str, model: str, words: str) -> tuple[Estimate | None, float, list[int]]:
    """AUROC and Brier score of P(IK) on held-out questions, and their places."""
    own = found.known[task, model, words]
    places = list(own)
    truth = shares(found, task, model, places)
    return (
        measured_area(list(own.values()), [share > found.threshold for share in truth]),
        brier_score(list(own.values()), truth),
        places,
    )


def p_ik_table(found: Findings, inputs: Inputs) -> list[Table]:
    rows = []
    for (task, model, words), own in found.known.items():
        area, score, places = area_of(found, task, model, words)
        truth = shares(found, task, model, places)
        even = brier_score([float(np.mean(truth))] * len(truth), truth)
        error = confidence_calibration(
            list(own.values()),
            truth,
            clusters=[found.problems[task][place].cluster or str(place) for place in places],
        ).error
        rows.append(
            (
                task,
                model,
                words,
                interval(area),
                number(score),
                number(even),
                interval(error),
                number(float(np.mean(truth))),
                str(len(places)),
            )
        )
    columns = (
        "task",
        "model",
        "learned from",
        "AUROC",
        "Brier",
        "Brier of the mean",
        "calibration error",
        "share of samples right",
        "questions",
    )
    note = (
        "On questions that nothing was learned from. AUROC is of a share of right samples above "
        f"{found.threshold:g}; Brier is of the share itself."
    )
    return [Table("P(IK) before any answer", columns, tuple(rows), note)]


def baselines(found: Findings, main: str) -> list[Table]:
    rows = []
    for task in found.problems:
        own = found.known[task, main, "all tasks"]
        drawn = [found.drawn[task, main][place] for place in own]
        known = [one.share > found.threshold for one in drawn]
        kinds = {
            "P(IK)": list(own.values()),
            "mean loss of the greedy answer (negative)": [-one.greedy_loss for one in drawn],
            "entropy of the samples (negative)": [-one.entropy for one in drawn],
            "agreement of the samples": [
                agreement(found.problems[task][place], found.drawn[task, main][place]) for place in own
            ],
        }
        rows += [(task, name, interval(measured_area(scores, known))) for name, scores in kinds.items()]
    note = (
        "The samples' entropy and agreement cost as many replies as the truth itself does; P(IK) costs none."
    )
    return [
        Table("What else could tell (AUROC, the same questions)", ("task", "by", "AUROC"), tuple(rows), note)
    ]
