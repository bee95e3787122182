"""What `solon explain` does: which training rows of a run made a reply likelier, and which comparisons raised
its score (Grosse et al. 2023, arXiv:2308.03296), with the tokens that did it.

Revisions and helpful replies are held against the log-probability of the reply under the final model;
comparisons against the preference model's score.

Shapes: Q queries (replies), N training rows, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic

import numpy as np
import torch
from torch import nn

from solon.errors import InputError
from solon.interpretability.candidates import TfIdfIndex
from solon.interpretability.curvature import Factors, Objective, Row, fit_factors, load_factors, save_factors
from solon.interpretability.influence import (
    Queries,
    full_gradients,
    influence_by_layer,
    influence_by_token,
    preconditioned_queries,
)
from solon.interpretability.linear import Layers, linear_layers
from solon.models.base import Tokens
from solon.records.codecs import PLAIN
from solon.records.files import temporary
from solon.records.run import Run

SHOWN = 3  # rows for and against each reply whose tokens are attributed


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
    tokens: dict[tuple[int, int], list[float]] = field(default_factory=dict)  # query, row

    @property
    def total_QN(self) -> np.ndarray:
        return np.asarray(self.by_layer_QNL.sum(axis=-1))


def explain_all(run: Run, settings: Settings, sources: Sequence[Source[Any]]) -> list[Explained]:
    """Every source, after all were checked; factors and influences are kept, and gone on from.

    Raises InputError where the words of `settings.layers` name no layer.
    """
    for source in sources:
        attributed_layers(source, settings)
    return [explain(run, settings, source) for source in sources]


def attributed_layers(source: Source[Row], settings: Settings) -> dict[str, nn.Linear]:
    """The layers of a source's own module, by those of the words that are in its names: a preference model
    may have fewer layers than the policy. Raises InputError where none is.
    """
    module = source.objective.module
    names = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    words = [word for word in settings.layers if any(word in name for name in names)]
    return linear_layers(module, words or settings.layers)


def explain(run: Run, settings: Settings, source: Source[Row]) -> Explained:
    """One source: curvature, preconditioned queries, the influence of every row, and of the tokens of a
    few.
    """
    layers = attributed_layers(source, settings)
    name = "".join(letter if letter.isalnum() else "_" for letter in source.name)
    queries, means = precondition(run, settings, source, layers, name)
    source = nearest_rows(source, settings.candidates)

    def make(batch: Sequence[int]) -> list[list[list[float]]]:
        rows = [source.rows[index] for index in batch]
        by_row: dict[int, list[list[float]]] = {}
        for positions, influence_LQB in influence_by_layer(
            source.objective, layers, queries, rows, tokens=settings.tokens, dtype=settings.dtype
        ):
            by_row |= dict(zip(positions, influence_LQB.permute(2, 1, 0).tolist(), strict=True))
        return [by_row[position] for position in range(len(batch))]

    keys = [f"{index} {hash_of(source.tokens(row))}" for index, row in enumerate(source.rows)]
    stage = f"influence_{name}"
    influence = run.map(stage, range(len(keys)), make, PLAIN, key=keys.__getitem__, size=64)
    by_layer_QNL = np.array(influence, dtype=np.float64).transpose(1, 0, 2)
    result = Explained(source, tuple(layers), means, by_layer_QNL)
    for number in range(len(source.asked)):
        query = {layer: full_gradients(value)[number : number + 1] for layer, value in queries.items()}
        for index in extremes(result.total_QN[number], SHOWN):
            by_token = influence_by_token(source.objective, layers, query, source.rows[index])
            result.tokens[number, index] = by_token.sum(dim=0)[0].tolist()
    return result


def precondition(
    run: Run, settings: Settings, source: Source[Row], layers: Layers, name: str
) -> tuple[Queries, tuple[float, ...]]:
    """The queries through the inverse curvature, and each layer's mean eigenvalue. Layers are taken
    `settings.together` at once: what is held of a layer after its turn is its queries.
    """
    names, queries, means = list(layers), dict[str, Any](), list[float]()
    size = settings.together or len(names)
    for turn, first in enumerate(range(0, len(names), size)):
        part = {layer: layers[layer] for layer in names[first : first + size]}
        factors = kept_factors(run, f"{name}_{turn}" if settings.together else name, settings, source, part)
        queries |= preconditioned_queries(
            source.asked_objective,
            part,
            factors,
            source.asked,
            damping=settings.damping,
            rank=settings.rank,
            tokens=settings.tokens,
        )
        means += [float(factors[layer].values_OI.mean()) for layer in part]
    return queries, tuple(means)


def nearest_rows(source: Source[Row], candidates: int) -> Source[Row]:
    """The same with the rows nearest to any of the queries by TF-IDF alone, in their own order (0: all)."""
    if not candidates or candidates >= len(source.rows):
        return source
    index = TfIdfIndex([source.tokens(row) for row in source.rows])
    near = {row for query in source.asked for row in index.nearest(source.tokens(query), candidates)}
    rows = tuple(source.rows[row] for row in sorted(near))
    return replace(source, rows=rows, titles=tuple(source.titles[row] for row in sorted(near)))


def kept_factors(
    run: Run, name: str, settings: Settings, source: Source[Row], layers: Layers
) -> dict[str, Factors]:
    """Factors from the run's folder, or made and put there whole."""
    path = run.folder / f"factors_{name}.safetensors"
    if not path.exists():
        ordered = sorted(source.rows, key=lambda row: hash_of(source.tokens(row)))
        meter = None

        def progress(done: int, total: int) -> None:
            nonlocal meter
            meter = meter or run.progress(f"curvature {source.name}", total, 0)
            meter(done)

        factors = fit_factors(
            source.objective,
            layers,
            ordered[: settings.fit_rows or None],
            seed=run.seed,
            tokens=settings.tokens,
            rotation_dtype=settings.dtype,
            progress=progress,
        )
        with temporary(path) as partial:
            save_factors(factors, partial)
    return load_factors(path, next(source.objective.module.parameters()).device)


def hash_of(tokens: Tokens) -> int:
    """The same on every machine and in every process."""
    value = 0
    for token in tokens:
        value = (value * 1_000_003 + token + 1) % 2**61
    return value


def extremes(values_N: np.ndarray, count: int) -> list[int]:
    """The indices of the highest values, best first, and of the lowest, lowest first; each once.

    >>> extremes(np.array([0.0, 3.0, -1.0]), 2)
    [1, 0, 2]
    """
    order = list(map(int, np.argsort(-values_N, kind="stable")))
    return list(dict.fromkeys([*order[:count], *order[::-1][:count]]))
