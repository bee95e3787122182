"""Sections on P(IK): what a model knows before it answers, behind sources, and beside another model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from solon.evaluation.scores import confidence_calibration
from solon.evaluation.self_knowledge import agreement
from solon.records.report import Claim, Figure, Line, Section, Table, number
from solon.statistics.calibration import brier_score, equal_count_bins
from solon.statistics.intervals import mean, paired_difference
from solon.studies.know_what_they_know.results import Results, Sourced, area, histogram, split_by
from solon.study.claims import banded, interval

ALL = "all tasks"
FEWEST = 2  # questions that only one model knows, to be crossed


def knowing_section(results: Results, others: Sequence[str]) -> Section:
    """P(IK) of questions that nothing was learned from."""
    crossed = [pair for other in others for pair in only_one_knows(results, other).items()]
    few = {
        f"questions that only {name} knows, too few to cross": len(gaps)
        for name, gaps in crossed
        if len(gaps) < FEWEST
    }
    return Section(
        claims=(
            *known_claims(results),
            *general_claims(results),
            *source_claims(results),
            *crossed_claims(crossed),
        ),
        tables=(p_ik_table(results), baseline_table(results)),
        figures=(*p_ik_figures(results), *source_figures(results.sourced)),
        counts={**unmeasured(results), **few},
    )


def known_claims(results: Results) -> Iterator[Claim]:
    for task in results.problems:
        p_ik = results.p_ik[task, results.main, ALL]
        told_apart = area(list(p_ik.values()), results.known(task, results.main, list(p_ik)))
        if told_apart is not None:
            text = f"{task}: P(IK) tells known from unknown questions (AUROC)"
            yield Claim.above(f"{task}/p_ik", text, told_apart, 0.5)


def unmeasured(results: Results) -> dict[str, int]:
    counts = {}
    for task in results.problems:
        p_ik = results.p_ik[task, results.main, ALL]
        if area(list(p_ik.values()), results.known(task, results.main, list(p_ik))) is None:
            counts[f"{task}: P(IK) has no AUROC, all or none of the held-out questions is known"] = len(p_ik)
    return counts


def general_claims(results: Results) -> Iterator[Claim]:
    """Whether learning from all tasks beats learning from another one alone."""
    for task, model, learned_from in results.p_ik:
        if model != results.main or learned_from == ALL or learned_from.startswith(f"{task} "):
            continue
        alone, whole = results.p_ik[task, model, learned_from], results.p_ik[task, model, ALL]
        truth = results.shares(task, model, list(alone))
        errors = [
            [(p - y) ** 2 for p, y in zip(values.values(), truth, strict=True)] for values in (alone, whole)
        ]
        text = f"{task}: learning from all tasks beats {learned_from} (fall of the Brier score)"
        yield Claim.above(f"{task}/generalisation", text, paired_difference(*errors))


def source_claims(results: Results) -> Iterator[Claim]:
    for task, sourced in results.sourced.items():
        best, other = sourced.p_ik[-2], sourced.p_ik[-1]
        p_ik = results.p_ik[task, results.main, ALL]
        bare = [p_ik[question] for question in sourced.questions]
        text = f"{task}: P(IK) rises behind the strongest source"
        yield Claim.above(f"{task}/source", text, paired_difference(best, bare))
        text = f"{task}: P(IK) is higher behind its own source than behind another question's"
        yield Claim.above(f"{task}/other_source", text, paired_difference(best, other))


def only_one_knows(results: Results, other: str) -> dict[str, list[float]]:
    """Of the questions that only one of two models knows: how far its own P(IK) is above the other's."""
    first = results.main
    gaps: dict[str, list[float]] = {first: [], other: []}
    for task in results.problems:
        mine, theirs = results.p_ik[task, first, ALL], results.p_ik[task, other, ALL]
        for question in mine:
            [i_know], [they_know] = (results.known(task, name, [question]) for name in (first, other))
            if i_know != they_know:
                gap = mine[question] - theirs[question]
                gaps[first if i_know else other].append(gap if i_know else -gap)
    return gaps


def crossed_claims(gaps: Sequence[tuple[str, list[float]]]) -> Iterator[Claim]:
    """Section 5.6: on questions that only one of two models can answer, its own P(IK) is the higher one."""
    for name, values in gaps:
        if len(values) >= FEWEST:
            text = f"On questions that only {name} knows, its P(IK) is above the other's"
            yield Claim.above(f"crossed/{name}", text, mean(values))


def p_ik_table(results: Results) -> Table:
    rows = []
    for (task, model, learned_from), p_ik in results.p_ik.items():
        p, truth = list(p_ik.values()), results.shares(task, model, list(p_ik))
        average = float(np.mean(truth))
        clusters = [results.problems[task][question].cluster or str(question) for question in p_ik]
        rows.append(
            (
                task,
                model,
                learned_from,
                interval(area(p, results.known(task, model, list(p_ik)))),
                number(brier_score(p, truth)),
                number(brier_score([average] * len(truth), truth)),
                interval(confidence_calibration(p, truth, clusters=clusters).error),
                number(average),
                str(len(p)),
            )
        )
    columns = ("task", "model", "learned from", "AUROC", "Brier", "Brier of the mean", "calibration error")
    note = (
        "On questions that nothing was learned from. AUROC is of a share of right samples above "
        f"{results.threshold:g}; Brier is of the share itself."
    )
    last = ("share of samples right", "questions")
    return Table("P(IK) before any answer", (*columns, *last), tuple(rows), note)


def baseline_table(results: Results) -> Table:
    """What else could tell known from unknown questions, on the same questions."""
    rows = []
    for task, problems in results.problems.items():
        p_ik = results.p_ik[task, results.main, ALL]
        answers = {question: results.samples[task, results.main][question] for question in p_ik}
        known = results.known(task, results.main, list(p_ik))
        kinds = {
            "P(IK)": list(p_ik.values()),
            "mean loss of the greedy answer (negative)": [-own.greedy_loss for own in answers.values()],
            "entropy of the samples (negative)": [-own.entropy for own in answers.values()],
            "agreement of the samples": [agreement(problems[q], own) for q, own in answers.items()],
        }
        rows += [(task, name, interval(area(scores, known))) for name, scores in kinds.items()]
    note = (
        "The samples' entropy and agreement cost as many replies as the truth itself does; P(IK) costs none."
    )
    title = "What else could tell (AUROC, the same questions)"
    return Table(title, ("task", "by", "AUROC"), tuple(rows), note)


def p_ik_figures(results: Results) -> Iterator[Figure]:
    lines = [Line("perfect", (0.0, 1.0), (0.0, 1.0))]
    for task in results.problems:
        p_ik = results.p_ik[task, results.main, ALL]
        p, questions = list(p_ik.values()), list(p_ik)
        groups = split_by(p, results.known(task, results.main, questions), ("known", "unknown"))
        yield histogram(f"P(IK) on {task}", "Held-out questions.", groups)
        chart = equal_count_bins(p, results.shares(task, results.main, questions))
        lines.append(Line(task, tuple(b.confidence for b in chart), tuple(b.accuracy for b in chart)))
    y, note = "share of samples that is right", "Equal-count bins of held-out questions."
    yield Figure("P(IK) against what is so", "P(IK)", y, tuple(lines), note)


def source_figures(sourced: Mapping[str, Sourced]) -> Iterator[Figure]:
    for task, found in sourced.items():
        strengths = len(found.p_ik) - 1
        x = [float(step) for step in range(strengths + 1)]
        lines = tuple(
            Line(line.label, line.x, line.y, line.low, line.high, dots=True)
            for name, values in (("P(IK)", found.p_ik), ("greedy answer right", found.right))
            for line in [banded(name, x, [mean(list(value)) for value in values])]
        )
        ticks = (*(f"{step + 1} of {strengths}" for step in range(strengths)), "another's")
        yield Figure(f"Behind a source, {task}", "how much of the source is shown", "mean", lines, "", ticks)
