"""Influence by EK-FAC beside kronfluence 1.0.1, in one process: the same model, rows, damping and labels.

    python -m benchmarks.influence [--rows 512] [--runs 3] [--json]

Needs `pip install kronfluence==1.0.1`, which brings torchvision; without it, `--no-deps`, and einconv, einops and opt_einsum.

A language model of 4 layers and width 256, sequences of 128 tokens, MLP layers, 16 queries. Two times are compared, fitting the factors (labels drawn from
the model) and scoring the queries (their gradients included), and the scores themselves, on factors of the rows' own labels so that both see the same.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task

from benchmarks.sidebyside import alternating, options_of, told
from solon.interpretability.curvature import fit
from solon.interpretability.influence import influence, queries
from solon.interpretability.linear import linear_layers
from solon.interpretability.objectives import language
from solon.models.small import Shape, SmallTransformer

SHAPE = Shape(2000, width=256, layers=4, heads=4, context=128)
QUERIES, BATCH = 16, 64
FACTORS, SCORES = 2.5, 2.5  # times faster, asked for


class Language(Task):
    """The same loss in the peer's form."""

    def compute_train_loss(self, batch: torch.Tensor, model: Any, sample: bool = False) -> torch.Tensor:
        logits_NV = model.logits(model.hidden(batch[:, :-1]).flatten(0, 1)).float()
        labels = batch[:, 1:].flatten()
        if sample:
            with torch.no_grad():
                labels = torch.multinomial(logits_NV.detach().softmax(dim=-1), 1)[:, 0]
        return F.cross_entropy(logits_NV, labels, reduction="sum")

    def compute_measurement(self, batch: torch.Tensor, model: Any) -> torch.Tensor:
        return self.compute_train_loss(batch, model)

    def get_influence_tracked_modules(self) -> list[str]:
        return [f"blocks.{layer}.mlp.{place}" for layer in range(SHAPE.layers) for place in (0, 2)]


class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __init__(self, tokens_NT: torch.Tensor) -> None:
        self.tokens_NT = tokens_NT

    def __len__(self) -> int:
        return len(self.tokens_NT)

    def __getitem__(self, place: int) -> torch.Tensor:
        return self.tokens_NT[place]


def trained(tokens_NT: torch.Tensor, steps: int = 60) -> SmallTransformer:
    """A model that is not flat: a few steps on the rows."""
    body = SmallTransformer(SHAPE, seed=0)
    optimiser = torch.optim.AdamW(body.parameters(), lr=1e-3)
    for step in range(steps):
        some = tokens_NT[(torch.arange(16) + 16 * step) % len(tokens_NT)]
        loss = F.cross_entropy(body.logits(body.hidden(some[:, :-1]).flatten(0, 1)), some[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return body


def main() -> None:
    options = options_of(__doc__, rows=512)
    generator = torch.Generator().manual_seed(0)
    steps_NT = torch.randint(1, 40, (options.rows + QUERIES, 128), generator=generator)
    tokens_NT = steps_NT.cumsum(dim=1) % SHAPE.vocabulary  # what comes next depends on what was
    body = trained(tokens_NT)
    given = [((int(row[0]),), tuple(map(int, row[1:]))) for row in tokens_NT]
    rows, asked = given[QUERIES:], given[:QUERIES]
    objective, layers = language(body), linear_layers(body, ["mlp"])
    peer_model = prepare_model(trained(tokens_NT), Language())
    folder = Path(tempfile.mkdtemp(prefix="influence"))
    analyzer = Analyzer("peer", peer_model, Language(), cpu=True, output_dir=str(folder), disable_tqdm=True, log_level=40)
    data, questions = Rows(tokens_NT[QUERIES:]), Rows(tokens_NT[:QUERIES])

    def peer_fit(name: str, *, empirical: bool) -> None:
        how = FactorArguments(strategy="ekfac", use_empirical_fisher=empirical)
        analyzer.fit_all_factors(factors_name=name, dataset=data, per_device_batch_size=BATCH, factor_args=how, overwrite_output_dir=True)

    def peer_scores(name: str) -> np.ndarray:
        analyzer.compute_pairwise_scores(
            scores_name=name, factors_name=name, query_dataset=questions, train_dataset=data, per_device_query_batch_size=QUERIES,
            per_device_train_batch_size=BATCH, score_args=ScoreArguments(damping_factor=None), overwrite_output_dir=True,
        )  # fmt: skip
        found: np.ndarray = analyzer.load_pairwise_scores(name)["all_modules"].numpy()
        return found

    peer_fit("given", empirical=True)
    theirs = peer_scores("given")
    factors = fit(objective, layers, rows, labels="given", tokens=BATCH * 127)
    ours = influence(objective, layers, queries(objective, layers, factors, asked), rows, tokens=BATCH * 127)
    apart = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    fitting = alternating(
        "factors", lambda: fit(objective, layers, rows, tokens=BATCH * 127), lambda: peer_fit("drawn", empirical=False), runs=options.runs
    )
    scoring = alternating(
        "scores",
        lambda: influence(objective, layers, queries(objective, layers, factors, asked), rows, tokens=BATCH * 127),
        lambda: peer_scores("given"),
        runs=options.runs,
    )
    more = {
        "equal": f"largest difference of a score {apart:.1e} of the largest score; asked for 1e-3: {'met' if apart <= 1e-3 else 'MISSED'}",
        "factors": f"target {FACTORS}x {'met' if fitting.times >= FACTORS else 'MISSED'}",
        "scores": f"target {SCORES}x {'met' if scoring.times >= SCORES else 'MISSED'}",
    }
    told([fitting, scoring], more, as_json=options.json)


if __name__ == "__main__":
    main()
