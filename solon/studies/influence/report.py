"""What influence functions stand for and how near each approximation comes, beside the paper's claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from solon.records.report import Claim, Figure, Line, Report, Section, Table, number
from solon.statistics.intervals import mean, paired_difference, proportion
from solon.studies.influence.settings import Settings
from solon.studies.influence.small_language import LanguageResults
from solon.study.claims import banded, exactly, interval
from solon.study.settings import constants, deviations

RUNGS = {
    "exact": "exact curvature",
    "blocks": "exact within layers",
    "ekfac": "EK-FAC",
    "kfac": "K-FAC",
    "identity": "gradients alone",
}
EXACT = 0.99  # of Pearson's r, and of low-rank queries: nothing is lost
Values = Mapping[str, Sequence[float]]  # approximation -> a number of each question, or layer

DEVIATIONS = (
    "Networks are of 1,834 parameters and transformers of two layers; the paper has 810M to 52B, and "
    "multilayer networks on UCI and MNIST.",
    "On digits labels are all classes, weighted by the model's probability, instead of one drawn: "
    "curvature without that noise.",
    "Influences of the last layers' erased outputs (appendix B) and the split of layers into blocks "
    "(appendix A) are not there.",
)


@dataclass(frozen=True, slots=True)
class NetworkResults:
    """Of one network on digits, by approximation: how far each layer's curvature is from its dense block;
    Pearson's r with the proximal response, and the rank correlation with training again, of each question.
    """

    block_errors: Values
    response: Values
    retraining: Values


def report(settings: Settings, networks: Sequence[NetworkResults], language: LanguageResults) -> Report:
    """The ladder of approximations, their curvature, and the language model."""
    summary = (
        f"{settings.seeds} networks on digits, {settings.points} rows and {settings.questions} questions "
        f"each, against the proximal response and {settings.subsets} halves trained on alone; a language "
        f"model of {settings.sequences} sequences."
    )
    return Report.of(
        "What influence functions stand for",
        [summary],
        [
            ladder_section(
                pooled([network.response for network in networks]),
                pooled([network.retraining for network in networks]),
            ),
            curvature_section(pooled([network.block_errors for network in networks])),
            language_section(language),
        ],
        deviations=(*DEVIATIONS, *deviations(settings)),
        constants=constants(settings),
    )


def pooled(networks: Sequence[Values]) -> dict[str, list[float]]:
    """The numbers of all networks together."""
    return {name: [value for values in networks for value in values[name]] for name in networks[0]}


def ladder_section(response: Values, retraining: Values) -> Section:
    """Every approximation against the proximal response and against training again."""
    rows = tuple(
        (words, interval(mean(response[name])), interval(mean(retraining[name])))
        for name, words in RUNGS.items()
    )
    title = "From exact curvature down"
    columns = (
        "approximation",
        "Pearson's r with the proximal response",
        "rank correlation with training again",
    )
    note = "Means over the questions of all networks; t intervals over questions."
    lines = tuple(
        replace(banded(label, range(len(RUNGS)), [mean(values[name]) for name in RUNGS]), dots=True)
        for label, values in (("proximal response", response), ("training again", retraining))
    )
    text = "Exact curvature meets the proximal response (Pearson's r above 0.99)"
    return Section(
        claims=(
            Claim.above("response/exact", text, mean(response["exact"]), EXACT),
            *nearer_claims("response", "the proximal response", response),
            *nearer_claims("again", "training again", retraining),
        ),
        tables=(Table(title, columns, rows, note),),
        figures=(Figure(title, "", "correlation", lines, ticks=tuple(RUNGS.values())),),
    )


def nearer_claims(name: str, target: str, values: Values) -> Iterator[Claim]:
    """Whether EK-FAC is nearer to a target than less is."""
    yield Claim.above(
        f"{name}/ekfac",
        f"EK-FAC is nearer to {target} than gradients alone (difference of correlations)",
        paired_difference(values["ekfac"], values["identity"]),
    )
    yield Claim.above(
        f"{name}/kfac",
        f"EK-FAC is nearer to {target} than K-FAC",
        paired_difference(values["ekfac"], values["kfac"]),
    )


def curvature_section(errors: Values) -> Section:
    """How far factored curvature is from each layer's dense block; that EK-FAC's is nearer is a theorem."""
    nearer = all(kfac > ekfac for kfac, ekfac in zip(errors["kfac"], errors["ekfac"], strict=True))
    gap = paired_difference(errors["kfac"], errors["ekfac"])
    text = "K-FAC is further from each layer's block than EK-FAC (relative Frobenius norm)"
    rows = tuple(
        (RUNGS[name], number(float(np.mean(values))), number(max(values))) for name, values in errors.items()
    )
    title = "How far factored curvature is from each layer's block"
    columns = ("approximation", "mean", "largest")
    return Section(
        claims=(Claim.of("frobenius", text, gap, nearer),),
        tables=(Table(title, columns, rows, "Over the block's Frobenius norm."),),
    )


def language_section(results: LanguageResults) -> Section:
    """What a language model's influences must satisfy, and how many of them words alone find."""
    rows = tuple(
        (str(rank), interval(mean(values)), number(min(values))) for rank, values in results.ranks.items()
    )
    columns = ("rank", "Pearson's r with the whole", "worst query")
    return Section(
        claims=tuple(language_claims(results)),
        tables=(Table("Queries of low rank", columns, rows),),
        figures=(tail_figure(results.influences_QN),),
    )


def language_claims(results: LanguageResults) -> Iterator[Claim]:
    """Sums, repeats, ranks and words."""
    for name, error in (("layers", results.layer_error), ("tokens", results.token_error)):
        text = (
            f"Influences of {name} add up to the whole (largest error over the largest influence, below 1e-4)"
        )
        yield Claim.of(f"sums/{name}", text, exactly(error, "exact", 1), error < 1e-4)
    yield Claim.of(
        "repeats",
        "A training row that is the query itself has the highest influence on it",
        proportion(results.first, clusters=range(len(results.first))),
        all(results.first),
    )
    rank = max(results.ranks)
    text = f"Queries of rank {rank} give the whole ranking (Pearson's r above 0.99)"
    yield Claim.above(f"rank/{rank}", text, mean(results.ranks[rank]), EXACT)
    text = "Share of the ten most influential rows among the nearest tenth by TF-IDF; 0.1 by chance"
    yield Claim.above("tfidf", text, mean(results.recalled), 0.1)


def tail_figure(influences_QN: np.ndarray) -> Figure:
    """How many rows have more than an influence, of the first queries."""
    lines = []
    for query, scores in enumerate(influences_QN[:4].astype(np.float64)):
        ordered = np.sort(scores[scores > 0])[::-1]
        shares = (np.arange(len(ordered)) + 1) / len(scores)
        x, y = (tuple(map(float, np.log10(values))) for values in (ordered, shares))
        lines.append(Line(f"query {query + 1}", x, y))
    note = "The language model's first queries."
    return Figure("Tails of influence", "log10 influence", "log10 share of rows above", tuple(lines), note)
