"""What `solon explain` does: which training rows of a run made a reply likelier, and which comparisons raised
its score (Grosse et al. 2023, arXiv:2308.03296), with the tokens that did it.

Revisions and helpful replies are held against the log-probability of the reply under the final model;
comparisons against the preference model's score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic

import numpy as np
import torch
from torch import nn

from solon.errors import InputError
from solon.interpretability.candidates import TfIdfIndex, recall_at_top, tail_exponent
from solon.interpretability.curvature import Factors, Objective, Row, fit_factors, load_factors, save_factors
from solon.interpretability.influence import (
    full_gradients,
    influence_by_layer,
    influence_by_token,
    preconditioned_queries,
)
from solon.interpretability.linear import Layers, linear_layers
from solon.models.base import Tokens
from solon.records.files import temporary
from solon.records.report import Claim, Exhibit, Figure, Heat, Line, Report, Table
from solon.records.run import Run


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    layers: tuple[str, ...] = ("mlp",)
    """words in the names of the Linear layers that are attributed to"""
    damping: float = 0.1
    """times the mean eigenvalue of a layer"""
    fit_rows: int = 0
    """rows that curvature is fitted on, drawn by content; 0 takes all"""
    candidates: int = 0
    """rows that are held against each reply: those nearest by TF-IDF, before any gradient; 0 takes all, and
    says how many of the best would have been found
    """
    rank: int = 0
    """of the replies' gradients; 0 keeps them whole (the paper has 32)"""
    together: int = 0
    """layers whose curvature is fitted and held at once, for models whose factors do not fit in memory; 0
    takes all
    """
    rounded: bool = False
    """turn into the basis, and pass scored rows, in bfloat16: faster, and moves influences by a few
    thousandths of the largest (docs/performance.md)
    """
    top: int = 10
    """rows shown, for and against"""
    tokens: int = 4096
    """of one pass"""

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.rounded else torch.float32

    def __post_init__(self) -> None:
        if (
            self.damping <= 0
            or min(self.top, self.tokens) < 1
            or min(self.fit_rows, self.candidates, self.rank, self.together) < 0
            or not self.layers
        ):
            raise InputError(
                "damping is above 0, top and tokens at least 1, other counts at least 0, and there is a "
                "word for layers"
            )


@dataclass(frozen=True, slots=True)
class Source(Generic[Row]):
    """One kind of training row: what was trained on it, the rows, and how each is shown. `queries` are what
    is explained, in the same form, with a loss of its own where the row's is another. `spelled` gives the
    text of each token of a row, as many as are attributed to.
    """

    name: str
    objective: Objective[Row]
    rows: tuple[Row, ...]
    titles: tuple[str, ...]
    spelled: Callable[[Row], list[str]]
    tokens: Callable[[Row], Tokens]
    asked: tuple[Row, ...]
    asked_objective: Objective[Row]


@dataclass(slots=True)
class Explained:
    """Of one source: each query's influence of every row by layer, and the tokens of the rows shown."""

    source: Source[Any]
    layers: tuple[str, ...]
    means: tuple[float, ...]  # of each layer's eigenvalues
    by_layer_QNL: np.ndarray
    heat: dict[tuple[int, int], list[float]] = field(default_factory=dict)  # query, row

    @property
    def total_QN(self) -> np.ndarray:
        return np.asarray(self.by_layer_QNL.sum(axis=-1))


def study(
    run: Run,
    settings: Settings,
    sources: Sequence[Source[Any]],
    questions: Sequence[tuple[str, str]],
    counts: Mapping[str, int],
) -> Report:
    """Factors and influences are kept, and gone on from."""
    for source in sources:
        attributed_to(source, settings)  # told before anything is computed
    found = [explained(run, settings, source) for source in sources]
    return report(settings, found, questions, counts)


def attributed_to(source: Source[Row], settings: Settings) -> dict[str, nn.Linear]:
    """The layers of a source's own module, by those of the words that are in its names: a preference model
    may have fewer layers than the policy.

    Raises InputError where none is.
    """
    module = source.objective.module
    names = [name for name, own in module.named_modules() if isinstance(own, nn.Linear)]
    words = [word for word in settings.layers if any(word in name for name in names)]
    return linear_layers(module, words or settings.layers)


def explained(run: Run, settings: Settings, source: Source[Row]) -> Explained:
    layers = attributed_to(source, settings)
    name = "".join(letter if letter.isalnum() else "_" for letter in source.name)
    names, query, means = list(layers), dict[str, Any](), list[float]()
    size = settings.together or len(names)
    # what is held of a layer after its turn is its queries
    for number_, first in enumerate(range(0, len(names), size)):
        some = {own: layers[own] for own in names[first : first + size]}
        factors = fitted(run, f"{name}_{number_}" if settings.together else name, settings, source, some)
        query |= preconditioned_queries(
            source.asked_objective,
            some,
            factors,
            source.asked,
            damping=settings.damping,
            rank=settings.rank,
            tokens=settings.tokens,
        )
        means += [float(factors[own].values_OI.mean()) for own in some]
    source = narrowed(source, settings.candidates)

    def make(some: Sequence[int]) -> list[dict[str, Any]]:
        rows = [source.rows[place] for place in some]
        placed: dict[int, Any] = {}
        for batch, found_LQB in influence_by_layer(
            source.objective, layers, query, rows, tokens=settings.tokens, dtype=settings.dtype
        ):
            placed |= dict(zip(batch, found_LQB.permute(2, 1, 0).tolist(), strict=True))
        return [{"influence": placed[place]} for place in range(len(some))]

    kept = run.rows(
        f"influence_{name}",
        range(len(source.rows)),
        lambda place: f"{place} {hash_of(source.tokens(source.rows[place]))}",
        make,
        size=64,
    )
    by_layer_QNL = np.array([row["influence"] for row in kept], dtype=np.float64).transpose(1, 0, 2)
    own = Explained(source, tuple(layers), tuple(means), by_layer_QNL)
    for number_ in range(len(source.asked)):
        only = {name: full_gradients(value)[number_ : number_ + 1] for name, value in query.items()}
        for place in (int(place) for place in ends(own.total_QN[number_], 3)):
            parts = influence_by_token(source.objective, layers, only, source.rows[place])
            own.heat[number_, place] = parts.sum(dim=0)[0].tolist()
    return own


def narrowed(source: Source[Row], candidates: int) -> Source[Row]:
    """The same with the rows nearest to any of the queries alone, in their own order; all, where none are
    asked for.
    """
    if not candidates or candidates >= len(source.rows):
        return source
    index = TfIdfIndex([source.tokens(row) for row in source.rows])
    kept = sorted(
        {place for query in source.asked for place in index.nearest(source.tokens(query), candidates)}
    )
    return replace(
        source,
        rows=tuple(source.rows[place] for place in kept),
        titles=tuple(source.titles[place] for place in kept),
    )


def fitted(
    run: Run, name: str, settings: Settings, source: Source[Row], layers: Layers
) -> dict[str, Factors]:
    """Factors from the run's folder, or made and put there whole."""
    path = run.folder / f"factors_{name}.safetensors"
    if not path.exists():
        order = sorted(range(len(source.rows)), key=lambda place: hash_of(source.tokens(source.rows[place])))
        some = [source.rows[place] for place in order[: settings.fit_rows or None]]
        meter = None

        def progress(done: int, total: int) -> None:
            nonlocal meter
            meter = meter or run.progress(f"curvature {source.name}", total, 0)
            meter(done)

        made = fit_factors(
            source.objective,
            layers,
            some,
            seed=run.seed,
            tokens=settings.tokens,
            turning=settings.dtype,
            progress=progress,
        )
        with temporary(path) as partial:
            save_factors(made, partial)
    return load_factors(path, next(source.objective.module.parameters()).device)


def hash_of(tokens: Tokens) -> int:
    """The same on every machine and in every process."""
    found = 0
    for token in tokens:
        found = (found * 1_000_003 + token + 1) % 2**61
    return found


def ends(values_N: np.ndarray, count: int) -> list[int]:
    """The places of the highest values, best first, and of the lowest."""
    order = np.argsort(-values_N, kind="stable")
    return [*map(int, order[:count]), *map(int, order[::-1][:count])]


def report(
    settings: Settings,
    found: Sequence[Explained],
    questions: Sequence[tuple[str, str]],
    counts: Mapping[str, int],
) -> Report:
    claims: list[Claim] = []
    tables: list[Table] = []
    figures: list[Figure] = []
    gallery: list[Exhibit] = []
    for own in found:
        name = own.source.name
        tables.append(_damping(own, settings))
        for number_, (prompt, reply) in enumerate(questions):
            totals = own.total_QN[number_]
            label = f"{name}, reply {number_ + 1}" if len(questions) > 1 else name
            tables.append(_rows(label, own, totals, settings.top))
            figures += [_tail_figure(label, totals), _layer_figure(label, own, number_)]
            claims += _claims(label, own, number_, narrowed=bool(settings.candidates))
            for place in dict.fromkeys(ends(totals, 3)):
                way = "made it likelier" if totals[place] > 0 else "made it less likely"
                spelled = own.source.spelled(own.source.rows[place])
                heat = Heat(
                    "the row, by what each token adds",
                    tuple(zip(spelled, own.heat[number_, place], strict=True)),
                )
                title = f"{label}: {way} ({totals[place]:+.3g}): {own.source.titles[place][:80]}"
                gallery.append(
                    Exhibit(title, (("asked", prompt), ("reply", reply)), folded=True, heats=(heat,))
                )
    rows = sum(len(own.source.rows) for own in found)
    summary = (
        f"{rows} training rows held against {len(questions)} replies: how fast the reply's log-probability "
        "(nats) or score rises as a row's weight in the "
        "mean training loss rises. Above 0: training on the row made the reply likelier.",
        "An influence is first-order and of the model as it is now; of rows that repeat one another it "
        "tells the sum and not who came first.",
    )
    return Report(
        "Which training rows made this reply",
        summary,
        tuple(claims),
        (),
        tuple(tables),
        tuple(figures),
        tuple(gallery),
        dict(counts),
        DEVIATIONS,
        {},
    )


DEVIATIONS = (
    "Curvature is of the rows that are explained, with labels drawn from the model; the paper draws from "
    "pretraining data.",
    "The model was trained with adapters, and by reinforcement after its supervised stage; influences are "
    "of its merged weights at the end.",
    "Gradients are of MLP layers, as the paper's, unless --layers says otherwise; attention and embeddings "
    "are left out.",
)


def _damping(own: Explained, settings: Settings) -> Table:
    """What was added to each layer's eigenvalues, in their units."""
    rows = (
        (
            f"{len(own.means)} layers",
            f"{min(own.means):.3g}",
            f"{max(own.means):.3g}",
            f"{settings.damping:g} x mean of each layer",
        ),
    )
    columns = ("layers", "least mean eigenvalue", "largest", "damping")
    return Table(
        f"Curvature of {own.source.name}",
        columns,
        rows,
        "Eigenvalues of the Gauss-Newton matrix of a row's summed loss, nats per squared weight.",
    )


def _rows(label: str, own: Explained, totals: np.ndarray, top: int) -> Table:
    rows = tuple(
        (f"{totals[place]:+.4g}", own.source.titles[place]) for place in dict.fromkeys(ends(totals, top))
    )
    return Table(
        f"{label}: rows for and against", ("influence", "row"), rows, "Highest first, then from the lowest."
    )


def _claims(label: str, own: Explained, number_: int, *, narrowed: bool) -> list[Claim]:
    """How heavy the tail is, and whether words alone would have found these rows."""
    totals, found = own.total_QN[number_], list[Claim]()
    # at least ten above 0 in the highest tenth
    if np.sort(totals)[::-1][: len(totals) // 10][9:10].sum() > 0:
        exponent = tail_exponent(totals.tolist(), share=0.1)
        found.append(
            Claim.of(
                f"{label}/tail",
                f"{label}: exponent of the tail of influences (highest tenth)",
                exponent,
                None,
            )
        )
    if narrowed:  # what was left out has no influence to compare with
        return found
    index = TfIdfIndex([own.source.tokens(row) for row in own.source.rows])
    near = index.nearest(own.source.tokens(own.source.asked[number_]), max(10, len(totals) // 10))
    top = min(10, len(totals))
    share = recall_at_top(near, totals, top=top)
    words = (
        f"{label}: share of the {top} most influential rows among the nearest {len(near)} of "
        f"{len(totals)} by TF-IDF"
    )
    return [*found, Claim(f"{label}/tfidf", words, share, share, share, top, None, "counted")]


def _tail_figure(label: str, totals: np.ndarray) -> Figure:
    ordered = np.sort(totals[totals > 0])[::-1]
    log_x, log_p = np.log10(np.maximum(ordered, 1e-30)), np.log10((np.arange(len(ordered)) + 1) / len(totals))
    return Figure(
        f"Tail of influences, {label}",
        "log10 influence",
        "log10 share of rows above",
        (Line("rows", tuple(log_x), tuple(log_p)),),
    )


def _layer_figure(label: str, own: Explained, number_: int) -> Figure:
    """Where in the model the most influential rows act."""
    totals = own.total_QN[number_]
    chosen = own.by_layer_QNL[number_][
        [place for place in dict.fromkeys(ends(totals, 10)) if totals[place] > 0]
    ]
    by_layer = np.abs(chosen).sum(axis=0) if len(chosen) else np.zeros(len(own.layers))
    share = by_layer / max(float(by_layer.sum()), 1e-30)
    note = f"Layers in the model's order, from {own.layers[0]} to {own.layers[-1]}."
    return Figure(
        f"Share of influence by layer, {label}",
        "layer",
        "share",
        (Line("top rows", tuple(map(float, range(len(share)))), tuple(map(float, share))),),
        note,
    )
