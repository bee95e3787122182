"""What the study of self-knowledge finds, and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from solon.evaluation.measure import Outcome
from solon.evaluation.scores import calibration
from solon.evaluation.self_knowledge import SampledAnswers, p_true
from solon.records.report import Figure, Line
from solon.statistics.calibration import auroc, equal_count_bins
from solon.statistics.intervals import Estimate, mean
from solon.words.question import Problem


@dataclass(frozen=True, slots=True)
class Judgement:
    """P(True) of one sample of a question: the outcome, the question's text, and which of its samples was
    judged.
    """

    row: Outcome
    question: str
    place: int


@dataclass(slots=True)
class Findings:
    """Everything the report prints."""

    threshold: float = 0.5
    choices: dict[tuple[str, str], list[Outcome]] = field(default_factory=dict)  # set, variant
    tempered: dict[str, list[Outcome]] = field(default_factory=dict)
    problems: dict[str, list[Problem]] = field(default_factory=dict)
    drawn: dict[tuple[str, str], list[SampledAnswers]] = field(default_factory=dict)  # task, model
    # task, kind of prompt, ideas
    judged: dict[tuple[str, str, int], list[Judgement]] = field(default_factory=dict)
    crossed: dict[tuple[str, str, str], list[Judgement]] = field(default_factory=dict)  # task, speaker, judge
    # task, model, learned from -> place -> P(IK)
    known: dict[tuple[str, str, str], dict[int, float]] = field(default_factory=dict)
    sourced: dict[str, list[tuple[list[float], list[float]]]] = field(default_factory=dict)
    sourced_at: dict[str, list[int]] = field(default_factory=dict)  # task -> the places of those questions
    counts: dict[str, int] = field(default_factory=dict)


def measured_area(scores: Sequence[float], right: Sequence[bool]) -> Estimate | None:
    """AUROC, or nothing where all are right or none is."""
    return auroc(scores, right) if any(right) and not all(right) else None


def ordered(rows: Sequence[Outcome]) -> list[Outcome]:
    return sorted(rows, key=lambda row: row.key)


def judged_right(rows: Sequence[Judgement]) -> list[bool]:
    return [own.row.right == 0 for own in rows]


def shares(found: Findings, task: str, model: str, places: Sequence[int]) -> list[float]:
    return [found.drawn[task, model][place].share for place in places]


def charts(found: Findings) -> list[Figure]:
    figures = []
    for name in dict.fromkeys(name for name, _ in found.choices):
        lines = [Line("perfect", (0.0, 1.0), (0.0, 1.0))]
        for variant in ("as given", "none of the above", "true or false"):
            chart = calibration(found.choices[name, variant]).chart
            lines.append(Line(variant, tuple(b.confidence for b in chart), tuple(b.accuracy for b in chart)))
        figures.append(
            Figure(
                f"Multiple choice, {name}",
                "probability of an option",
                "how often it is right",
                tuple(lines),
                "All options, equal-count bins.",
            )
        )
    return figures


def histograms(found: Findings) -> list[Figure]:
    figures = []
    for task in found.problems:
        (_, kind, ideas), own = [(key, rows) for key, rows in found.judged.items() if key[0] == task][-1]
        figures.append(
            _histogram(
                f"P(True) on {task}",
                f"{kind}, {ideas} ideas",
                [p_true(one.row) for one in own],
                judged_right(own),
            )
        )
    return figures


def _histogram(
    title: str,
    note: str,
    p: Sequence[float],
    right: Sequence[bool],
    *,
    names: tuple[str, str] = ("right", "wrong"),
) -> Figure:
    edges = np.linspace(0, 1, 11)
    lines = []
    for name, wanted in zip(names, (True, False), strict=True):
        some = [value for value, y in zip(p, right, strict=True) if y is wanted]
        counts = np.histogram(some, edges)[0] / max(len(some), 1)
        lines.append(
            Line(f"{name} ({len(some)})", tuple((edges[:-1] + 0.05).tolist()), tuple(counts.tolist()))
        )
    return Figure(title, "stated probability", "share", tuple(lines), note)


def known_figures(found: Findings, main: str) -> list[Figure]:
    figures = []
    lines = [Line("perfect", (0.0, 1.0), (0.0, 1.0))]
    for task in found.problems:
        own = found.known[task, main, "all tasks"]
        truth = shares(found, task, main, list(own))
        figures.append(
            _histogram(
                f"P(IK) on {task}",
                "Held-out questions.",
                list(own.values()),
                [y > found.threshold for y in truth],
                names=("known", "unknown"),
            )
        )
        chart = equal_count_bins(list(own.values()), truth)
        lines.append(Line(task, tuple(b.confidence for b in chart), tuple(b.accuracy for b in chart)))
    return [
        *figures,
        Figure(
            "P(IK) against what is so",
            "P(IK)",
            "share of samples that is right",
            tuple(lines),
            "Equal-count bins of held-out questions.",
        ),
    ]


def source_figure(found: Findings) -> list[Figure]:
    figures = []
    for task, told in found.sourced.items():
        if not told:
            continue
        steps = [f"{place + 1} of {len(told) - 1}" for place in range(len(told) - 1)]
        lines = []
        for name, which in (("P(IK)", 0), ("greedy answer right", 1)):
            own = [mean(strength[which]) for strength in told]
            places = tuple(float(place) for place in range(len(own)))
            lines.append(
                Line(
                    name,
                    places,
                    tuple(e.value for e in own),
                    tuple(e.low for e in own),
                    tuple(e.high for e in own),
                    dots=True,
                )
            )
        figures.append(
            Figure(
                f"Behind a source, {task}",
                "how much of the source is shown",
                "mean",
                tuple(lines),
                "",
                (*steps, "another's"),
            )
        )
    return figures
