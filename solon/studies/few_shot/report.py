"""What examples in the context are worth, beside the paper's claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from solon.evaluation.measure import Outcome
from solon.evaluation.scores import chance_accuracy
from solon.records.report import Claim, Figure, Line, Report, Table, number
from solon.statistics.intervals import Estimate, bootstrap, mean, paired_difference
from solon.studies.few_shot.scoring import SCORINGS, Overlap
from solon.study.claims import banded, interval, rate, sign
from solon.words.question import Problem


@dataclass(slots=True)
class Findings:
    """Everything the report prints. Rows by task, model, shots, draw of examples, and score."""

    rows: dict[tuple[str, str, int, int, str], list[Outcome]] = field(default_factory=dict)
    problems: dict[str, list[Problem]] = field(default_factory=dict)
    overlaps: dict[str, Overlap] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def right(found: Findings, task: str, model: str, shots: int, how: str) -> list[float]:
    """Of each problem the share of draws of examples in which it is answered rightly."""
    draws = [
        rows for (t, m, s, _, h), rows in found.rows.items() if (t, m, s, h) == (task, model, shots, how)
    ]
    return [float(np.mean([bool(row.correct) for row in own])) for own in zip(*draws, strict=True)]


def report(settings: Mapping[str, Any], found: Findings, models: Sequence[str]) -> Report:
    how, last = settings["scoring"], models[-1]
    shots = list(dict.fromkeys(own for _, _, own, _, _ in found.rows))
    claims = [*_claims(found, last, shots, how), *_contamination_claims(found, last, shots[-1], how)]
    tables = [
        *(_table(found, task, models, shots) for task in found.problems),
        *_contamination(found, models, shots[-1], how),
    ]
    summary = (
        f"{', '.join(models)}: {sum(map(len, found.problems.values()))} problems in {len(found.problems)} "
        f"tasks, options scored {how} unless said otherwise.",
    )
    return Report(
        "What examples in the context are worth",
        summary,
        tuple(claims),
        (),
        tuple(tables),
        tuple(_figures(found, models, shots, how)),
        (),
        {name: n for name, n in found.counts.items() if n},
        _deviations(settings),
        {},
    )


def _clusters(found: Findings, task: str) -> list[str]:
    return [own.cluster or str(place) for place, own in enumerate(found.problems[task])]


def _claims(found: Findings, model: str, shots: Sequence[int], how: str) -> list[Claim]:
    claims = []
    for task in found.problems:
        most = right(found, task, model, shots[-1], how)
        even = chance_accuracy(next(rows for (own, *_), rows in found.rows.items() if own == task))
        share = rate(most, _clusters(found, task))
        claims.append(
            Claim.of(
                f"{task}/right",
                f"{task}: right with {shots[-1]} examples (chance {number(even)})",
                share,
                sign(share, even),
            )
        )
        if len(shots) > 1:
            gain = paired_difference(
                most, right(found, task, model, shots[0], how), clusters=_clusters(found, task)
            )
            claims.append(
                Claim.of(f"{task}/gain", f"{task}: {shots[-1]} examples beat {shots[0]}", gain, sign(gain))
            )
    return claims


def _table(found: Findings, task: str, models: Sequence[str], shots: Sequence[int]) -> Table:
    rows = []
    for model in models:
        for count in shots:
            shown = (
                interval(rate(right(found, task, model, count, how), _clusters(found, task)))
                for how in SCORINGS
            )
            rows.append((model, str(count), *shown))
    note = (
        "Four scores of the same outcomes: log-probability summed, over tokens, over characters, and "
        "over that of the option behind the answer's opening alone."
    )
    return Table(f"{task}: right by examples and score", ("model", "examples", *SCORINGS), tuple(rows), note)


def _figures(found: Findings, models: Sequence[str], shots: Sequence[int], how: str) -> list[Figure]:
    figures = []
    for task in found.problems:
        places = [float(place) for place in range(len(shots))]
        lines = [
            banded(
                model,
                places,
                [rate(right(found, task, model, count, how), _clusters(found, task)) for count in shots],
            )
            for model in models
        ]
        even = chance_accuracy(next(rows for (own, *_), rows in found.rows.items() if own == task))
        lines.append(Line("chance", (0.0, places[-1]), (even, even)))
        figures.append(
            Figure(
                f"{task}",
                "examples in the context",
                "right",
                tuple(lines),
                f"Scored {how}.",
                tuple(map(str, shots)),
            )
        )
        smooth = []
        for model in models:
            own = [
                [
                    row.belief[row.right]
                    for row in found.rows[task, model, count, 0, how]
                    if row.right is not None
                ]
                for count in shots
            ]
            smooth.append(banded(model, places, [mean(values) for values in own]))
        figures.append(
            Figure(
                f"{task}, smooth",
                "examples in the context",
                "mean probability of the right option",
                tuple(smooth),
                f"Scored {how}.",
                tuple(map(str, shots)),
            )
        )
    return figures


def _clean_gain(found: Findings, task: str, model: str, shots: int, how: str) -> Estimate | None:
    """Accuracy on clean problems minus that on all; a bootstrap draws problems. None where all are clean, or
    none is.
    """
    clean_N, own = np.array(found.overlaps[task].clean), np.array(right(found, task, model, shots, how))
    if clean_N.all() or not clean_N.any():
        return None

    def gain(places: np.ndarray) -> float:
        drawn = places.astype(int)
        clean = drawn[clean_N[drawn]]
        return float(own[clean].mean() - own[drawn].mean()) if len(clean) else 0.0

    return bootstrap([float(place) for place in range(len(own))], gain, resamples=1000)


def _contamination_claims(found: Findings, model: str, shots: int, how: str) -> list[Claim]:
    claims = []
    for task in found.overlaps:
        gain = _clean_gain(found, task, model, shots, how)
        if gain is not None:
            words = (
                f"{task}: problems that the corpus does not hold are answered as well as all (clean - all)"
            )
            claims.append(Claim.of(f"{task}/clean", words, gain, False if gain.high < 0 else None))
    return claims


def _contamination(found: Findings, models: Sequence[str], shots: int, how: str) -> list[Table]:
    rows = []
    for task, own in found.overlaps.items():
        for model in models:
            flags, share = own.clean, right(found, task, model, shots, how)
            clean = [value for value, kept in zip(share, flags, strict=True) if kept]
            part = [cluster for cluster, kept in zip(_clusters(found, task), flags, strict=True) if kept]
            rows.append(
                (
                    task,
                    model,
                    str(own.length),
                    str(sum(own.dirty)),
                    str(len(clean)),
                    str(sum(own.short)),
                    interval(rate(share, _clusters(found, task))),
                    interval(rate(clean, part)) if clean else "none is clean",
                    interval(_clean_gain(found, task, model, shots, how)),
                )
            )
    columns = (
        "task",
        "model",
        "N",
        "dirty",
        "clean",
        "too short to tell",
        "right, all",
        "right, clean",
        "clean - all",
    )
    note = (
        "Dirty: any N-gram of the problem stands in the corpus. N is the 5th percentile of the "
        "problems' lengths in words, within 8 and 13."
    )
    return [Table("What the corpus holds", columns, tuple(rows), note)] if rows else []


def _deviations(settings: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        "Models and tasks are those given here. Examples are one set for all problems (for each draw), not "
        "drawn anew for each, so that they are computed once.",
        "Tasks are those with options; completions by beam search are not studied here (`solon measure` "
        "grades greedy replies).",
        "The paper finds collisions in its training corpus; here they are in the texts that were given, "
        "which may not be what a model saw.",
    )
