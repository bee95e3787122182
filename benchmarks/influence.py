"""Influence by EK-FAC beside kronfluence 1.0.1, in one process: the same model, rows, damping and labels.

    python -m benchmarks.influence [--rows 512] [--runs 3] [--json]

Needs `pip install kronfluence==1.0.1`, which brings torchvision; without it, `--no-deps`, and einconv, einops
and opt_einsum.

A language model of 4 layers and width 256, sequences of 128 tokens, MLP layers, 16 queries. Two times are
compared, fitting the factors (labels drawn from the model) and scoring the queries (their gradients
included), in float32 and with both sides in bfloat16 by autocast; factors also with rows passed in float32
and turned in bfloat16. The scores are compared on factors of the rows' own labels, so that both sides see the
same. The peer gets 32 rows a batch.
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
from solon.interpretability.curvature import fit_factors
from solon.interpretability.influence import influence, preconditioned_queries
from solon.interpretability.linear import linear_layers
from solon.interpretability.objectives import language_objective
from solon.models.backbones.small import Shape, SmallTransformer

SHAPE = Shape(2000, width=256, layers=4, heads=4, context=128)
QUERIES, BATCH = 16, 32
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
    objective, layers = language_objective(body), linear_layers(body, ["mlp"])
    peer_model = prepare_model(trained(tokens_NT), Language())
    folder = Path(tempfile.mkdtemp(prefix="influence"))
    analyzer = Analyzer(
        "peer", peer_model, Language(), cpu=True, output_dir=str(folder), disable_tqdm=True, log_level=40
    )
    data, questions = Rows(tokens_NT[QUERIES:]), Rows(tokens_NT[:QUERIES])

    def peer_fit(name: str, dtype: torch.dtype | None, *, empirical: bool = False) -> None:
        how = FactorArguments(strategy="ekfac", use_empirical_fisher=empirical, amp_dtype=dtype)
        analyzer.fit_all_factors(
            factors_name=name,
            dataset=data,
            per_device_batch_size=BATCH,
            factor_args=how,
            overwrite_output_dir=True,
        )

    def peer_scores(dtype: torch.dtype | None) -> np.ndarray:
        analyzer.compute_pairwise_scores(
            scores_name="scores",
            factors_name="given",
            query_dataset=questions,
            train_dataset=data,
            per_device_query_batch_size=QUERIES,
            per_device_train_batch_size=BATCH,
            score_args=ScoreArguments(damping_factor=None, amp_dtype=dtype),
            overwrite_output_dir=True,
        )
        found: np.ndarray = analyzer.load_pairwise_scores("scores")["all_modules"].float().numpy()
        return found

    def our_scores(dtype: torch.dtype) -> np.ndarray:
        return influence(
            objective, layers, preconditioned_queries(objective, layers, factors, asked), rows, dtype=dtype
        )

    peer_fit("given", None, empirical=True)
    theirs = peer_scores(None)
    whole, half = torch.float32, torch.bfloat16

    def apart(own: np.ndarray) -> str:
        return f"{np.abs(own - theirs).max() / np.abs(theirs).max():.1e}"

    factors = fit_factors(objective, layers, rows, labels="given", rotation_dtype=half)
    turned = apart(our_scores(whole))
    factors = fit_factors(objective, layers, rows, labels="given")
    exact = apart(our_scores(whole))
    found = [
        alternating(
            "factors",
            lambda: fit_factors(objective, layers, rows),
            lambda: peer_fit("drawn", None),
            runs=options.runs,
        ),
        alternating(
            "factors, turned in bfloat16",
            lambda: fit_factors(objective, layers, rows, rotation_dtype=half),
            lambda: peer_fit("drawn", None),
            runs=options.runs,
        ),
        alternating("scores", lambda: our_scores(whole), lambda: peer_scores(None), runs=options.runs),
        alternating(
            "factors, both in bfloat16",
            lambda: fit_factors(objective, layers, rows, dtype=half, rotation_dtype=half),
            lambda: peer_fit("drawn", half),
            runs=options.runs,
        ),
        alternating(
            "scores, both in bfloat16", lambda: our_scores(half), lambda: peer_scores(half), runs=options.runs
        ),
    ]
    more: dict[str, object] = {
        "largest difference from the peer's float32, of the largest score": (
            f"{exact}; turned in bfloat16 {turned}; 1e-3 asked for"
        ),
        "the same in bfloat16": f"{apart(our_scores(half))} here, {apart(peer_scores(half))} in the peer's",
        "asked for": f"factors {FACTORS}x, scores {SCORES}x",
    }
    told(found, more, as_json=options.json)


if __name__ == "__main__":
    main()
