"""What examples in the context are worth, beside the paper's claims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from solon.evaluation.measure import Outcome
from solon.evaluation.scores import chance_accuracy
from solon.records.report import Claim, Figure, Line, Report, Section, Table, number
from solon.statistics.intervals import Estimate, bootstrap, mean, paired_difference
from solon.studies.few_shot.scoring import SCORINGS, Overlap
from solon.studies.few_shot.settings import Settings
from solon.study.claims import banded, interval, rate
from solon.study.settings import deviations
from solon.words.question import Problem

Key = tuple[str, str, int, str]  # task, model, examples, score

DEVIATIONS = (
    "Models and tasks are those given here. Examples are one set for all problems (for each draw), not "
    "drawn anew for each, so that they are computed once.",
    "Tasks are those with options; completions by beam search are not studied here (`solon measure` "
    "grades greedy replies).",
    "The paper finds collisions in its training corpus; here they are in the texts that were given, "
    "which may not be what a model saw.",
)


@dataclass(slots=True)
class Results:
    """Outcomes of each draw of examples; the problems asked, and what the corpus holds of them, by task."""

    models: tuple[str, ...]
    outcomes: dict[Key, list[list[Outcome]]] = field(default_factory=dict)
    problems: dict[str, list[Problem]] = field(default_factory=dict)
    overlaps: dict[str, Overlap] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def right(self, task: str, model: str, shots: int, scoring: str) -> list[float]:
        """Of each problem the share of draws of examples in which it is answered rightly."""
        draws = self.outcomes[task, model, shots, scoring]
        return [float(np.mean([bool(row.correct) for row in rows])) for rows in zip(*draws, strict=True)]

    def clusters(self, task: str) -> list[str]:
        """What groups a task's problems: the cluster they bring, or each its own."""
        return [problem.cluster or str(index) for index, problem in enumerate(self.problems[task])]

    def accuracy(self, task: str, model: str, shots: int, scoring: str) -> Estimate:
        """The share of right answers."""
        return rate(self.right(task, model, shots, scoring), self.clusters(task))

    def chance(self, task: str) -> float:
        """The share that guessing gets right."""
        return chance_accuracy(next(draws[0] for key, draws in self.outcomes.items() if key[0] == task))

    def clean_gain(self, task: str, model: str, shots: int, scoring: str) -> Estimate | None:
        """Accuracy on clean problems minus that on all; a bootstrap draws problems. None where all are clean,
        or none is.
        """
        clean_N = np.array(self.overlaps[task].clean)
        right_N = np.array(self.right(task, model, shots, scoring))
        if clean_N.all() or not clean_N.any():
            return None

        def gain(indices: np.ndarray) -> float:
            drawn = indices.astype(int)
            clean = drawn[clean_N[drawn]]
            return float(right_N[clean].mean() - right_N[drawn].mean()) if len(clean) else 0.0

        return bootstrap([float(index) for index in range(len(right_N))], gain, resamples=1000)


def report(settings: Settings, results: Results) -> Report:
    """One section a task, and one for what the corpus holds. Claims are about the last model."""
    asked = sum(map(len, results.problems.values()))
    tasks = [
        task_section(results, task, settings.shots, scoring=settings.scoring) for task in results.problems
    ]
    return Report.of(
        "What examples in the context are worth",
        [
            f"{', '.join(results.models)}: {asked} problems in {len(results.problems)} tasks, options scored "
            f"{settings.scoring} unless said otherwise."
        ],
        [
            *tasks,
            corpus_section(results, settings.shots[-1], scoring=settings.scoring),
            Section(counts=results.counts),
        ],
        deviations=(*DEVIATIONS, *deviations(settings)),
    )


def task_section(results: Results, task: str, shots: Sequence[int], *, scoring: str) -> Section:
    """Accuracy of every model by number of examples, under all four scores."""
    rows = tuple(
        (
            model,
            str(count),
            *(interval(results.accuracy(task, model, count, each)) for each in SCORINGS),
        )
        for model in results.models
        for count in shots
    )
    note = (
        "Four scores of the same outcomes: log-probability summed, over tokens, over characters, and "
        "over that of the option behind the answer's opening alone."
    )
    return Section(
        claims=tuple(task_claims(results, task, shots, scoring=scoring)),
        tables=(Table(f"{task}: right by examples and score", ("model", "examples", *SCORINGS), rows, note),),
        figures=task_figures(results, task, shots, scoring=scoring),
    )


def task_claims(results: Results, task: str, shots: Sequence[int], *, scoring: str) -> Iterator[Claim]:
    """Whether the last model beats chance with the most examples, and whether they beat the fewest."""
    model, even = results.models[-1], results.chance(task)
    text = f"{task}: right with {shots[-1]} examples (chance {number(even)})"
    yield Claim.above(f"{task}/right", text, results.accuracy(task, model, shots[-1], scoring), even)
    if len(shots) > 1:
        most, least = (results.right(task, model, count, scoring) for count in (shots[-1], shots[0]))
        gain = paired_difference(most, least, clusters=results.clusters(task))
        yield Claim.above(f"{task}/gain", f"{task}: {shots[-1]} examples beat {shots[0]}", gain)


def task_figures(results: Results, task: str, shots: Sequence[int], *, scoring: str) -> tuple[Figure, Figure]:
    """Accuracy and the mean probability of the right option against the number of examples."""
    x, ticks, note = (
        [float(index) for index in range(len(shots))],
        tuple(map(str, shots)),
        f"Scored {scoring}.",
    )
    even = results.chance(task)

    def beliefs(model: str, count: int) -> Estimate:
        rows = results.outcomes[task, model, count, scoring][0]
        return mean([row.belief[row.right] for row in rows if row.right is not None])

    abrupt = [
        banded(model, x, [results.accuracy(task, model, count, scoring) for count in shots])
        for model in results.models
    ]
    smooth = [banded(model, x, [beliefs(model, count) for count in shots]) for model in results.models]
    abrupt.append(Line("chance", (0.0, x[-1]), (even, even)))
    title, axis = f"{task}, smooth", "mean probability of the right option"
    return (
        Figure(task, "examples in the context", "right", tuple(abrupt), note, ticks),
        Figure(title, "examples in the context", axis, tuple(smooth), note, ticks),
    )


def corpus_section(results: Results, shots: int, *, scoring: str) -> Section:
    """What the corpus holds of the tasks, and what is left without it."""
    rows, claims = [], []
    for task, overlap in results.overlaps.items():
        clusters = results.clusters(task)
        kept = [index for index, clean in enumerate(overlap.clean) if clean]
        for model in results.models:
            right = results.right(task, model, shots, scoring)
            gain = results.clean_gain(task, model, shots, scoring)
            clean = [right[index] for index in kept], [clusters[index] for index in kept]
            rows.append(
                (
                    task,
                    model,
                    *map(str, (overlap.length, sum(overlap.dirty), len(kept), sum(overlap.short))),
                    interval(rate(right, clusters)),
                    interval(rate(*clean)) if kept else "none is clean",
                    interval(gain),
                )
            )
        if gain is not None:  # of the last model; that no loss is shown is no proof of none
            text = "problems that the corpus does not hold are answered as well as all (clean - all)"
            verdict = False if gain.high < 0 else None
            claims.append(Claim.of(f"{task}/clean", f"{task}: {text}", gain, verdict))
    counted = ("N", "dirty", "clean", "too short to tell")
    columns = ("task", "model", *counted, "right, all", "right, clean", "clean - all")
    note = (
        "Dirty: any N-gram of the problem stands in the corpus. N is the 5th percentile of the "
        "problems' lengths in words, within 8 and 13."
    )
    table = Table("What the corpus holds", columns, tuple(rows), note)
    return Section(claims=tuple(claims), tables=(table,) if rows else ())
