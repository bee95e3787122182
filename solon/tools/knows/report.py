"""The report of `solon knows`: how many questions are answered, how many of the answers are wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from solon.evaluation.selective import Threshold, risk_coverage
from solon.records.report import Claim, Figure, Line, Report, Section, Table, number
from solon.statistics.calibration import auroc, brier_score
from solon.statistics.intervals import Estimate, bootstrap, paired_difference, proportion
from solon.study.claims import interval
from solon.tools.knows.settings import NAMES, By, Settings

GUARANTEE = "The guarantee is for new questions drawn as these were; of other questions it says nothing."


@dataclass(frozen=True, slots=True)
class Ranked:
    """Whether the sample of highest P(True) is right, the most common, the greedy; the share of all (0 to
    1).
    """

    p_true: float
    common: float
    greedy: float
    any: float


@dataclass(frozen=True, slots=True)
class Measured:
    """The questions that neither fitted nor certified: lists run over them."""

    clusters: list[str]
    right: list[bool]  # of the greedy answer
    shares: list[float]  # of right samples
    confidence: dict[By, list[float]]
    ranked: list[Ranked]

    @property
    def mixed(self) -> bool:
        """Whether some answers are right and some wrong, without which nothing can be told apart."""
        return any(self.right) and not all(self.right)


def report(
    settings: Settings,
    name: str,
    measured: Measured,
    certified: Threshold,
    expected: Threshold,
    *,
    fitted: int,
    counts: Mapping[str, int],
) -> Report:
    """What came of it on the questions that neither fitted nor certified."""
    summary = (
        f"{fitted} questions fitted the head, {certified.n} found the threshold, "
        f"{len(measured.right)} measured."
    )
    sections = [
        Section(counts=counts),
        answering_section(settings, measured, certified, expected),
        confidence_section(settings.by, measured),
        ranking_section(measured),
    ]
    title = f"What {name} knows, and when it answers"
    return Report.of(title, [summary], sections, deviations=[GUARANTEE])


def answering_section(
    settings: Settings, measured: Measured, certified: Threshold, expected: Threshold
) -> Section:
    """How many questions are answered, and how many of the answers are wrong."""
    answered = [p >= certified.value for p in measured.confidence[settings.by]]
    rows = zip(answered, measured.right, measured.clusters, strict=True)
    given = [(right, cluster) for answers, right, cluster in rows if answers]
    coverage = proportion(answered, clusters=measured.clusters)
    claims = [Claim.of("coverage", "questions that are answered", coverage, None)]
    if given:
        wrong = proportion([not right for right, _ in given], clusters=[cluster for _, cluster in given])
        holds = True if wrong.high <= settings.target else False if wrong.low > settings.target else None
        claims.append(
            Claim.of("error", f"answers given that are wrong (target {settings.target:g})", wrong, holds)
        )
    base = proportion([not right for right in measured.right], clusters=measured.clusters)
    claims.append(Claim.of("error_of_all", "answers that are wrong where all are given", base, None))
    warning = (
        f"no threshold keeps wrong answers at {settings.target:g} for certain on {certified.n} questions: "
        "nothing is answered. Raise --target, or give more questions"
    )
    return Section(
        claims=tuple(claims),
        tables=(threshold_table([certified, expected]),),
        warnings=(warning,) if certified.value == float("inf") else (),
    )


def threshold_table(thresholds: Sequence[Threshold]) -> Table:
    rows = tuple(
        (
            threshold.guarantee,
            "never answer" if threshold.value == float("inf") else number(threshold.value),
            number(threshold.coverage),
            number(threshold.error),
            str(threshold.n),
        )
        for threshold in thresholds
    )
    columns = ("guarantee", "answer from", "answered", "of them wrong", "questions")
    return Table("Thresholds", columns, rows, "On the questions that found them.")


def confidence_section(by: By, measured: Measured) -> Section:
    """Whether confidence tells right answers from wrong, by each of three ways of asking."""
    rows, lines = [], []
    for kind, name in NAMES.items():
        confidence = measured.confidence[kind]
        area = interval(auroc(confidence, measured.right)) if measured.mixed else "not measured"
        truth = measured.shares if kind == "p_ik" else [float(right) for right in measured.right]
        curve = risk_coverage(confidence, measured.right)
        score = number(brier_score(confidence, truth))
        rows.append((name, area, score, number(curve.area), number(curve.oracle), number(curve.random)))
        lines.append(Line(name, curve.coverage, curve.risk))
    columns = ("by", "AUROC", "Brier", "area under risk and coverage", "of a perfect order", "of none")
    note = "On the questions that measure. P(IK)'s Brier score is of the share of right samples."
    x, y = "share of questions answered, surest first", "share of them wrong"
    return Section(
        claims=tuple(confidence_claims(by, measured)),
        tables=(Table("What could decide", columns, tuple(rows), note),),
        figures=(Figure("Risk and coverage", x, y, tuple(lines)),),
    )


def confidence_claims(by: By, measured: Measured) -> Iterator[Claim]:
    if measured.mixed:
        confidence, right = measured.confidence[by], measured.right
        text = f"{NAMES[by]} tells right answers from wrong (AUROC)"
        yield Claim.above("auroc", text, auroc(confidence, right), 0.5)
        text = "answering the surest first lowers the mean risk (area under risk and coverage)"
        yield Claim.of("area", text, fall_of_risk(confidence, right), None)


def fall_of_risk(confidence: Sequence[float], right: Sequence[bool]) -> Estimate:
    """How far the area lies under that of no order at all; a bootstrap draws questions."""
    p_N, right_N = np.array(confidence), np.array(right)

    def fall(indices: np.ndarray) -> float:
        drawn = indices.astype(int)
        curve = risk_coverage(p_N[drawn].tolist(), right_N[drawn].tolist())
        return curve.random - curve.area

    return bootstrap([float(index) for index in range(len(p_N))], fall, resamples=500)


def ranking_section(measured: Measured) -> Section:
    """Whether choosing among samples by P(True) beats other choices."""
    ranked, clusters = measured.ranked, measured.clusters
    chosen = {
        "the sample of highest P(True)": [row.p_true > 0 for row in ranked],
        "the most common sample": [row.common > 0 for row in ranked],
        "the greedy answer": [row.greedy > 0 for row in ranked],
    }
    rows = [(name, interval(proportion(right, clusters=clusters))) for name, right in chosen.items()]
    rows.append(("a random sample", number(float(np.mean([row.any for row in ranked])))))
    gain = paired_difference([row.p_true for row in ranked], [row.any for row in ranked], clusters=clusters)
    text = "choosing the sample of highest P(True) beats a random one"
    return Section(
        claims=(Claim.above("reranking", text, gain),),
        tables=(Table("Choosing among samples", ("choice", "right"), tuple(rows)),),
    )
