"""Studying Large Language Model Generalization with Influence Functions (Grosse et al. 2023,
arXiv:2308.03296), top to bottom, where the truth can be known.

A network on digits: every approximation against the proximal response and against training again. A small
language model: influences add up over layers and tokens, low-rank queries lose little, a row that repeats the
query comes first, and what words alone would have found.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from solon.errors import InputError
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
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.influence.ladder import (
    by_question,
    datamodelling,
    digits,
    network,
    responses,
    rungs,
    subset,
    trained_again,
)
from solon.studies.influence.report import Findings, report


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    seeds: int = 3
    """networks on digits"""
    rows: int = 500
    """digits that each learns from"""
    asked: int = 10
    """digits that it is asked"""
    points: int = 40
    """rows whose proximal response is solved for"""
    subsets: int = 60
    """halves of the rows that are trained on alone"""
    starts: int = 3
    """trainings of each half"""
    sequences: int = 400
    """of the small language model"""
    queries: int = 8
    """of it"""
    ranks: tuple[int, ...] = (1, 2, 4, 8, 16)
    """of the queries' gradients"""

    def __post_init__(self) -> None:
        if (
            min(self.seeds, self.points, self.starts, self.queries) < 1
            or min(self.rows, self.sequences) < 100
            or self.asked < 3
            or self.subsets < 10
        ):
            raise InputError(
                "seeds, points, starts and queries are at least 1, asked 3, subsets 10, rows and sequences "
                "100"
            )
        if (
            self.points > self.rows
            or self.rows + self.asked > 1797
            or list(self.ranks) != sorted(set(self.ranks))
            or self.ranks[:1] < (1,)
        ):
            raise InputError("points are among the rows, there are 1,797 digits, and ranks rise from 1")


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(rows=300, points=10, subsets=30, starts=2, sequences=200, queries=6)


def full() -> Settings:
    """The numbers that the thresholds were set with."""
    return Settings()


def study(run: Run, settings: Settings) -> Report:
    """All of it; every stage is kept, and gone on from."""
    found = Findings()
    for seed in range(settings.seeds):
        ladder_of(run, seed, settings, found)
    sums(run, settings, found)
    return report(settings_of(settings), found)


def settings_of(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in Settings.__dataclass_fields__}


def ladder_of(run: Run, seed: int, settings: Settings, found: Findings) -> None:
    """One network: its approximations against the response and against training again."""
    data = digits(run.seed + seed, rows=settings.rows, asked=settings.asked)
    net = network(data.inputs_NC, data.labels_N, seed=run.seed + seed)
    own = rungs(net, data)
    for method, values in own.apart.items():
        found.apart.setdefault(method, []).extend(values)

    def solve(places: Sequence[int]) -> list[dict[str, Any]]:
        return [{"response": column} for column in responses(own, data, places).T.tolist()]

    rows = run.rows(f"responses_{seed}", range(settings.points), str, solve, size=5)
    target = np.array([row["response"] for row in rows]).T
    for name, scores_QN in own.scores.items():
        found.response.setdefault(name, []).extend(by_question(scores_QN[:, : settings.points], target))

    halves = [subset(data, run.seed + seed, number) for number in range(settings.subsets)]

    def train(numbers: Sequence[int]) -> list[dict[str, Any]]:
        return [
            {"after": trained_again(data, halves[number], seed=number, starts=settings.starts)}
            for number in numbers
        ]

    after = run.rows(f"trained_again_{seed}", range(settings.subsets), str, train, size=5)
    outcomes = np.array([row["after"] for row in after])
    for name, scores_QN in own.scores.items():
        found.again.setdefault(name, []).extend(datamodelling(scores_QN, halves, outcomes))


def sequences(seed: int, count: int) -> list[ScoreRequest]:
    """Rows in which each token follows from the last by one of three habits; which habit, each row chooses.
    (prompt, reply)
    """
    rng = random.Random(f"sequences {seed}")
    found = []
    for _ in range(count):
        step, token, row = rng.choice((1, 7, 11)), rng.randrange(60), []
        for _ in range(24):
            token = (token + step) % 60 if rng.random() < 0.85 else rng.randrange(60)
            row.append(token)
        found.append((tuple(row[:4]), tuple(row[4:])))
    return found


def language_model(seed: int, rows: Sequence[ScoreRequest], steps: int = 150) -> SmallTransformer:
    body = SmallTransformer(Shape(60, width=32, layers=2, heads=4, context=32), seed=seed)
    optimiser = torch.optim.AdamW(body.parameters(), lr=3e-3)
    tokens_NT = torch.tensor([prompt + reply for prompt, reply in rows])
    for step in range(steps):
        some = tokens_NT[torch.randperm(len(tokens_NT), generator=torch.Generator().manual_seed(step))[:32]]
        loss = F.cross_entropy(body.logits(body.hidden(some[:, :-1]).flatten(0, 1)), some[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return body


def sums(run: Run, settings: Settings, found: Findings) -> None:
    """The language model: identities, ranks, repeats and words."""
    rows = sequences(run.seed, settings.sequences)
    body = language_model(run.seed, rows)
    layers, objective = linear_layers(body, ["mlp"]), language_objective(body)
    factors = fit_factors(objective, layers, rows, seed=run.seed)
    asked = preconditioned_queries(objective, layers, factors, rows[: settings.queries])
    total = influence(objective, layers, asked, rows)
    found.first = [int(own.argmax()) == place for place, own in enumerate(total)]
    scale = float(np.abs(total).max())
    for batch, by_layer_LQB in influence_by_layer(objective, layers, asked, rows[:16]):
        found.layer_error = max(
            found.layer_error, float(np.abs(by_layer_LQB.sum(dim=0).numpy() - total[:, batch]).max()) / scale
        )
    for place in range(8):
        parts = influence_by_token(objective, layers, asked, rows[place]).sum(dim=(0, 2)).numpy()
        found.token_error = max(found.token_error, float(np.abs(parts - total[:, place]).max()) / scale)
    for rank in settings.ranks:
        near = influence(
            objective,
            layers,
            {name: low_rank_approximation(full_gradients(own), rank) for name, own in asked.items()},
            rows,
        )
        found.ranks[rank] = by_question(near, total)
    index = TfIdfIndex([prompt + reply for prompt, reply in rows])
    for place, own in enumerate(total):
        nearest = index.nearest(rows[place][0] + rows[place][1], len(rows) // 10)
        found.recalled.append(recall_at_top(nearest, own, top=10))
    found.influences = total.tolist()
