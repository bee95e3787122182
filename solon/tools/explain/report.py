"""The report of `solon explain`: rows for and against each reply, how heavy the tail is, and where rows
act.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from solon.interpretability.candidates import TfIdfIndex, recall_at_top, tail_exponent
from solon.records.report import Claim, Exhibit, Figure, Heat, Line, Report, Section, Table
from solon.tools.explain.study import SHOWN, Explained, Settings, extremes

DEVIATIONS = (
    "Curvature is of the rows that are explained, with labels drawn from the model; the paper draws from "
    "pretraining data.",
    "The model was trained with adapters, and by reinforcement after its supervised stage; influences are "
    "of its merged weights at the end.",
    "Gradients are of MLP layers, as the paper's, unless --layers says otherwise; attention and embeddings "
    "are left out.",
)


def report(
    settings: Settings,
    explained: Sequence[Explained],
    questions: Sequence[tuple[str, str]],
    counts: Mapping[str, int],
) -> Report:
    """A section for each source, and one for each reply to it."""
    sections = [Section(counts=counts)]
    for source in explained:
        sections.append(Section(tables=(curvature_table(source, settings.damping),)))
        for number, question in enumerate(questions):
            name = source.source.name
            label = f"{name}, reply {number + 1}" if len(questions) > 1 else name
            sections.append(reply_section(label, source, number, question, settings))
    rows = sum(len(source.source.rows) for source in explained)
    summary = (
        f"{rows} training rows held against {len(questions)} replies: how fast the reply's log-probability "
        "(nats) or score rises as a row's weight in the mean training loss rises. Above 0: training on the "
        "row made the reply likelier.",
        "An influence is first-order and of the model as it is now; of rows that repeat one another it "
        "tells the sum and not who came first.",
    )
    return Report.of("Which training rows made this reply", summary, sections, deviations=DEVIATIONS)


def reply_section(
    label: str, explained: Explained, number: int, question: tuple[str, str], settings: Settings
) -> Section:
    """One reply to one source's rows."""
    total_N, titles = explained.total_QN[number], explained.source.titles
    rows = tuple((f"{total_N[row]:+.4g}", titles[row]) for row in extremes(total_N, settings.top))
    note = "Highest first, then from the lowest."
    return Section(
        claims=(
            *tail_claims(label, total_N),
            *words_claims(label, explained, number, bool(settings.candidates)),
        ),
        tables=(Table(f"{label}: rows for and against", ("influence", "row"), rows, note),),
        figures=(tail_figure(label, total_N), layer_figure(label, explained, number)),
        gallery=tuple(exhibits(label, explained, number, question)),
    )


def exhibits(label: str, explained: Explained, number: int, question: tuple[str, str]) -> Iterator[Exhibit]:
    """The rows that made the reply likeliest and least likely, each token with what it adds."""
    source, total_N = explained.source, explained.total_QN[number]
    for row in extremes(total_N, SHOWN):
        way = "made it likelier" if total_N[row] > 0 else "made it less likely"
        tokens = zip(source.spelled(source.rows[row]), explained.tokens[number, row], strict=True)
        title = f"{label}: {way} ({total_N[row]:+.3g}): {source.titles[row][:80]}"
        heat = Heat("the row, by what each token adds", tuple(tokens))
        parts = (("asked", question[0]), ("reply", question[1]))
        yield Exhibit(title, parts, folded=True, heats=(heat,))


def curvature_table(explained: Explained, damping: float) -> Table:
    """What was added to each layer's eigenvalues, in their units."""
    means = explained.means
    row = (
        f"{len(means)} layers",
        f"{min(means):.3g}",
        f"{max(means):.3g}",
        f"{damping:g} x mean of each layer",
    )
    return Table(
        f"Curvature of {explained.source.name}",
        ("layers", "least mean eigenvalue", "largest", "damping"),
        (row,),
        "Eigenvalues of the Gauss-Newton matrix of a row's summed loss, nats per squared weight.",
    )


def tail_claims(label: str, total_N: np.ndarray) -> Iterator[Claim]:
    """How heavy the tail is, where the highest tenth has at least ten rows above 0."""
    if np.sort(total_N)[::-1][: len(total_N) // 10][9:10].sum() > 0:
        exponent = tail_exponent(total_N.tolist(), share=0.1)
        text = f"{label}: exponent of the tail of influences (highest tenth)"
        yield Claim.of(f"{label}/tail", text, exponent, None)


def words_claims(label: str, explained: Explained, number: int, narrowed: bool) -> Iterator[Claim]:
    """Whether words alone would have found these rows; of rows that were left out nothing is known."""
    if narrowed:
        return
    source, total_N = explained.source, explained.total_QN[number]
    index = TfIdfIndex([source.tokens(row) for row in source.rows])
    near = index.nearest(source.tokens(source.asked[number]), max(10, len(total_N) // 10))
    top = min(10, len(total_N))
    share = recall_at_top(near, total_N, top=top)
    text = (
        f"{label}: share of the {top} most influential rows among the nearest {len(near)} of "
        f"{len(total_N)} by TF-IDF"
    )
    yield Claim(f"{label}/tfidf", text, share, share, share, top, None, "counted")


def tail_figure(label: str, total_N: np.ndarray) -> Figure:
    """The share of rows above each influence, on logarithmic axes."""
    ordered = np.sort(total_N[total_N > 0])[::-1]
    log_x = np.log10(np.maximum(ordered, 1e-30))
    log_p = np.log10((np.arange(len(ordered)) + 1) / len(total_N))
    line = Line("rows", tuple(log_x), tuple(log_p))
    return Figure(f"Tail of influences, {label}", "log10 influence", "log10 share of rows above", (line,))


def layer_figure(label: str, explained: Explained, number: int) -> Figure:
    """Where in the model the most influential rows act."""
    total_N, layers = explained.total_QN[number], explained.layers
    top = [row for row in extremes(total_N, 10) if total_N[row] > 0]
    by_layer_L = np.abs(explained.by_layer_QNL[number][top]).sum(axis=0) if top else np.zeros(len(layers))
    share_L = by_layer_L / max(float(by_layer_L.sum()), 1e-30)
    line = Line("top rows", tuple(map(float, range(len(layers)))), tuple(map(float, share_L)))
    note = f"Layers in the model's order, from {layers[0]} to {layers[-1]}."
    return Figure(f"Share of influence by layer, {label}", "layer", "share", (line,), note)
