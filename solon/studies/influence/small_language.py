"""A small language model, and what its influences must satisfy: they add up, low-rank queries lose little, a
row that repeats the query comes first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from solon.interpretability.candidates import TfIdfIndex, recall_at_top
from solon.interpretability.curvature import fit_factors
from solon.interpretability.influence import (
    full_gradients,
    influence,
    influence_by_layer,
    influence_by_token,
    low_rank_approximation,
    preconditioned_queries,
)
from solon.interpretability.linear import linear_layers
from solon.interpretability.objectives import language_objective
from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.trie import ScoreRequest
from solon.studies.influence.ladder import correlations

VOCABULARY, PROMPT, LENGTH = 60, 4, 24


@dataclass(frozen=True, slots=True)
class LanguageResults:
    """By query: whether the row that repeats it has the highest influence, the share of its ten most
    influential rows among the nearest by TF-IDF, its influences (Q, N), and Pearson's r of low-rank ones with
    them by rank. The largest error of the sums over layers and tokens, over the largest influence.
    """

    first: list[bool]
    recalled: list[float]
    influences_QN: np.ndarray
    ranks: dict[int, list[float]]
    layer_error: float
    token_error: float


def draw_sequences(seed: int, count: int) -> list[ScoreRequest]:
    """Rows in which each token follows from the last by one of three habits; which habit, each row chooses.
    (prompt, reply)
    """
    rng = random.Random(f"sequences {seed}")
    rows = []
    for _ in range(count):
        step, token, row = rng.choice((1, 7, 11)), rng.randrange(VOCABULARY), []
        for _ in range(LENGTH):
            token = (token + step) % VOCABULARY if rng.random() < 0.85 else rng.randrange(VOCABULARY)
            row.append(token)
        rows.append((tuple(row[:PROMPT]), tuple(row[PROMPT:])))
    return rows


def train_language_model(seed: int, rows: Sequence[ScoreRequest], steps: int = 150) -> SmallTransformer:
    """A transformer of two layers, trained on 32 rows a step."""
    backbone = SmallTransformer(Shape(VOCABULARY, width=32, layers=2, heads=4, context=32), seed=seed)
    optimiser = torch.optim.AdamW(backbone.parameters(), lr=3e-3)
    tokens_NT = torch.tensor([prompt + reply for prompt, reply in rows])
    for step in range(steps):
        order = torch.randperm(len(tokens_NT), generator=torch.Generator().manual_seed(step))
        tokens_BT = tokens_NT[order[:32]]
        logits = backbone.logits(backbone.hidden(tokens_BT[:, :-1]).flatten(0, 1))
        loss = F.cross_entropy(logits, tokens_BT[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return backbone


def language_results(seed: int, *, sequences: int, queries: int, ranks: Sequence[int]) -> LanguageResults:
    """Influences of all rows on the first ones, as queries."""
    rows = draw_sequences(seed, sequences)
    backbone = train_language_model(seed, rows)
    layers, objective = linear_layers(backbone, ["mlp"]), language_objective(backbone)
    factors = fit_factors(objective, layers, rows, seed=seed)
    conditioned = preconditioned_queries(objective, layers, factors, rows[:queries])
    total_QN = influence(objective, layers, conditioned, rows)
    layer_errors = [
        np.abs(by_layer_LQB.sum(dim=0).numpy() - total_QN[:, batch]).max()
        for batch, by_layer_LQB in influence_by_layer(objective, layers, conditioned, rows[:16])
    ]
    token_errors = []
    for index in range(8):
        parts = influence_by_token(objective, layers, conditioned, rows[index]).sum(dim=(0, 2)).numpy()
        token_errors.append(np.abs(parts - total_QN[:, index]).max())
    by_rank = {}
    for rank in ranks:
        lower = {
            name: low_rank_approximation(full_gradients(query), rank) for name, query in conditioned.items()
        }
        by_rank[rank] = correlations(influence(objective, layers, lower, rows), total_QN)
    tfidf = TfIdfIndex([prompt + reply for prompt, reply in rows])
    nearest = [tfidf.nearest(prompt + reply, len(rows) // 10) for prompt, reply in rows[:queries]]
    scale = float(np.abs(total_QN).max())
    return LanguageResults(
        first=[int(scores.argmax()) == query for query, scores in enumerate(total_QN)],
        recalled=[
            recall_at_top(near, scores, top=10) for near, scores in zip(nearest, total_QN, strict=True)
        ],
        influences_QN=total_QN,
        ranks=by_rank,
        layer_error=float(max(layer_errors)) / scale,
        token_error=float(max(token_errors)) / scale,
    )
