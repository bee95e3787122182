"""What influence functions stand for and how near each approximation comes, beside the paper's claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from solon.records.report import Claim, Figure, Line, Report, Table, number
from solon.statistics.intervals import Estimate, mean, paired_difference, proportion
from solon.study.claims import interval, sign

RUNGS = {
    "exact": "exact curvature",
    "blocks": "exact within layers",
    "ekfac": "EK-FAC",
    "kfac": "K-FAC",
    "identity": "gradients alone",
}
EXACT = 0.99  # of Pearson's r, and of low-rank queries: nothing is lost


@dataclass(slots=True)
class Findings:
    """Everything the report prints."""

    apart: dict[str, list[float]] = field(default_factory=dict)  # method -> each layer of each network
    # rung -> Pearson's r of each question of each network
    response: dict[str, list[float]] = field(default_factory=dict)
    again: dict[str, list[float]] = field(default_factory=dict)  # rung -> rank correlation
    ranks: dict[int, list[float]] = field(default_factory=dict)
    first: list[bool] = field(default_factory=list)
    recalled: list[float] = field(default_factory=list)
    influences: list[list[float]] = field(default_factory=list)
    layer_error: float = 0.0
    token_error: float = 0.0


def report(settings: Mapping[str, Any], found: Findings) -> Report:
    summary = (
        f"{settings['seeds']} networks on digits, {settings['points']} rows and {settings['asked']} "
        "questions each, against the proximal response and "
        f"{settings['subsets']} halves trained on alone; a language model of {settings['sequences']} "
        "sequences.",
    )
    tables = (_rung_table(found), _frobenius_table(found), _rank_table(found))
    return Report(
        "What influence functions stand for",
        summary,
        tuple(_claims(found)),
        (),
        tables,
        tuple(_figures(found)),
        (),
        {},
        DEVIATIONS,
        {},
    )


DEVIATIONS = (
    "Networks are of 1,834 parameters and transformers of two layers; the paper has 810M to 52B, and "
    "multilayer networks on UCI and MNIST.",
    "On digits labels are all classes, weighted by the model's probability, instead of one drawn: "
    "curvature without that noise.",
    "Rows, questions and subsets are fewer than the paper's 500 points and 10 seeds; --preset full has 40 "
    "and 3.",
    "Influences of the last layers' erased outputs (appendix B) and the split of layers into blocks "
    "(appendix A) are not there.",
)


def _claims(found: Findings) -> list[Claim]:
    claims = []
    exact = mean(found.response["exact"])
    claims.append(
        Claim.of(
            "response/exact",
            "Exact curvature meets the proximal response (Pearson's r above 0.99)",
            exact,
            sign(exact, EXACT),
        )
    )
    for which, values, words in (
        ("response", found.response, "the proximal response"),
        ("again", found.again, "training again"),
    ):
        gain = paired_difference(values["ekfac"], values["identity"])
        claims.append(
            Claim.of(
                f"{which}/ekfac",
                f"EK-FAC is nearer to {words} than gradients alone (difference of correlations)",
                gain,
                sign(gain),
            )
        )
        tie = paired_difference(values["ekfac"], values["kfac"])
        claims.append(Claim.of(f"{which}/kfac", f"EK-FAC is nearer to {words} than K-FAC", tie, sign(tie)))
    gap = paired_difference(found.apart["kfac"], found.apart["ekfac"])
    nearer = [k > e for k, e in zip(found.apart["kfac"], found.apart["ekfac"], strict=True)]
    claims.append(
        Claim.of(
            "frobenius",
            "K-FAC is further from each layer's block than EK-FAC (relative Frobenius norm)",
            gap,
            all(nearer),
        )
    )
    for name, error in (("layers", found.layer_error), ("tokens", found.token_error)):
        words = (
            f"Influences of {name} add up to the whole (largest error over the largest influence, below 1e-4)"
        )
        claims.append(Claim(f"sums/{name}", words, error, error, error, 1, error < 1e-4, "exact"))
    first = proportion(found.first, clusters=range(len(found.first)))
    claims.append(
        Claim.of(
            "repeats",
            "A training row that is the query itself has the highest influence on it",
            first,
            all(found.first),
        )
    )
    best = max(found.ranks)
    low = mean(found.ranks[best])
    claims.append(
        Claim.of(
            f"rank/{best}",
            f"Queries of rank {best} give the whole ranking (Pearson's r above 0.99)",
            low,
            sign(low, EXACT),
        )
    )
    recalled = mean(found.recalled)
    words = "Share of the ten most influential rows among the nearest tenth by TF-IDF; 0.1 by chance"
    return [*claims, Claim.of("tfidf", words, recalled, sign(recalled, 0.1))]


def _rung_table(found: Findings) -> Table:
    rows = tuple(
        (words, interval(mean(found.response[name])), interval(mean(found.again[name])))
        for name, words in RUNGS.items()
    )
    columns = (
        "approximation",
        "Pearson's r with the proximal response",
        "rank correlation with training again",
    )
    return Table(
        "From exact curvature down",
        columns,
        rows,
        "Means over the questions of all networks; t intervals over questions.",
    )


def _frobenius_table(found: Findings) -> Table:
    rows = tuple(
        (RUNGS[name], number(float(np.mean(own))), number(max(own))) for name, own in found.apart.items()
    )
    return Table(
        "How far factored curvature is from each layer's block",
        ("approximation", "mean", "largest"),
        rows,
        "Over the block's Frobenius norm.",
    )


def _rank_table(found: Findings) -> Table:
    rows = tuple((str(rank), interval(mean(own)), number(min(own))) for rank, own in found.ranks.items())
    return Table("Queries of low rank", ("rank", "Pearson's r with the whole", "worst query"), rows)


def _figures(found: Findings) -> list[Figure]:
    names = tuple(RUNGS.values())
    places = tuple(float(place) for place in range(len(RUNGS)))

    def dots(label: str, values: Mapping[str, list[float]]) -> Line:
        own: list[Estimate] = [mean(values[name]) for name in RUNGS]
        return Line(
            label,
            places,
            tuple(e.value for e in own),
            tuple(e.low for e in own),
            tuple(e.high for e in own),
            dots=True,
        )

    ladder = Figure(
        "From exact curvature down",
        "",
        "correlation",
        (dots("proximal response", found.response), dots("training again", found.again)),
        "",
        names,
    )
    tails = []
    for place, own in enumerate(found.influences[:4]):
        ordered = np.sort(np.array(own)[np.array(own) > 0])[::-1]
        share = (np.arange(len(ordered)) + 1) / len(own)
        tails.append(
            Line(
                f"query {place + 1}", tuple(map(float, np.log10(ordered))), tuple(map(float, np.log10(share)))
            )
        )
    return [
        ladder,
        Figure(
            "Tails of influence",
            "log10 influence",
            "log10 share of rows above",
            tuple(tails),
            "The language model's first queries.",
        ),
    ]
