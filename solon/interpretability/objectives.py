"""What models are trained on, in the form that influence needs: language models on replies, preference models
on comparisons, classifiers on labels.

Shapes: B rows, T tokens, C width, V vocabulary, N positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solon.interpretability.curvature import Objective
from solon.models.backbones.backbone import Backbone, pad
from solon.models.base import Tokens
from solon.models.scalar import ScalarModel
from solon.models.trie import ScoreRequest

HEAD_ROWS = 2048  # positions whose logits exist at once


def language_objective(body: Backbone) -> Objective[ScoreRequest]:
    """-log p of a row's reply after its prompt (nats, summed over the reply's tokens)."""

    def run(rows: Sequence[ScoreRequest], label: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        whole = [prompt + reply for prompt, reply in rows]
        hidden_BTC = body.hidden(pad([tokens[:-1] for tokens in whole], body.device))
        places = [
            (row, place)
            for row, (prompt, reply) in enumerate(rows)
            for place in range(len(prompt) - 1, len(prompt) + len(reply) - 1)
        ]
        row_N, place_N = torch.tensor(places, device=body.device).T
        target_N = torch.tensor([token for _, reply in rows for token in reply], device=body.device)
        losses = hidden_BTC.new_zeros(len(rows), dtype=torch.float32)
        for part in torch.arange(len(places), device=body.device).split(HEAD_ROWS):
            logits_NV = body.logits(hidden_BTC[row_N[part], place_N[part]]).float()
            losses = losses.index_add(
                0, row_N[part], F.cross_entropy(logits_NV, label(logits_NV, target_N[part]), reduction="none")
            )
        return losses

    def drawn(rows: Sequence[ScoreRequest], generator: torch.Generator) -> Tensor:
        return run(rows, lambda logits_NV, target_N: _drawn(logits_NV, generator))

    return Objective(
        body,
        lambda rows: run(rows, lambda logits_NV, target_N: target_N),
        drawn,
        lambda row: len(row[0]) + len(row[1]) - 1 if row[1] else 0,
    )


def _drawn(logits_NV: Tensor, generator: torch.Generator) -> Tensor:
    """A label for each position from its distribution. Chances are drawn on the CPU, so that they are the
    same on every device.
    """
    uniform_N = torch.rand(len(logits_NV), generator=generator).to(logits_NV.device)
    cumulative_NV = logits_NV.detach().float().softmax(dim=-1).cumsum_(dim=-1)
    return torch.searchsorted(cumulative_NV, (uniform_N * cumulative_NV[:, -1])[:, None])[:, 0].clamp_(
        max=logits_NV.shape[-1] - 1
    )


DialoguePair = tuple[Tokens, Tokens, float]  # both dialogues whole, and P(first better)


def comparison_objective(model: ScalarModel) -> Objective[DialoguePair]:
    """The loss of a preference model: -p log s(r1 - r2) - (1 - p) log s(r2 - r1). A drawn label prefers the
    first with the model's own probability.
    """

    def run(rows: Sequence[DialoguePair], label: Callable[[Tensor], Tensor]) -> Tensor:
        flat = [tokens for first, second, _ in rows for tokens in (first, second)]
        hidden_BTC = model.backbone.hidden(pad(flat, model.backbone.device))
        ends = torch.tensor([len(tokens) - 1 for tokens in flat], device=hidden_BTC.device)
        scores = model.apply_head(hidden_BTC[torch.arange(len(flat), device=hidden_BTC.device), ends])
        gap_B = scores[::2] - scores[1::2]
        return F.binary_cross_entropy_with_logits(gap_B, label(gap_B.detach()), reduction="none")

    def drawn(rows: Sequence[DialoguePair], generator: torch.Generator) -> Tensor:
        return run(
            rows,
            lambda gap_B: (torch.rand(len(gap_B), generator=generator).to(gap_B.device) < gap_B.sigmoid()).to(
                gap_B.dtype
            ),
        )

    def given(rows: Sequence[DialoguePair]) -> Tensor:
        return run(
            rows, lambda gap_B: torch.tensor([p for _, _, p in rows], device=gap_B.device, dtype=gap_B.dtype)
        )

    return Objective(model, given, drawn, lambda row: 2 * max(len(row[0]), len(row[1])))


def reward_loss(model: ScalarModel) -> Callable[[Sequence[Tokens]], Tensor]:
    """Minus a preference model's score of each whole dialogue, (B,): the loss of a query that asks what
    raised the score.
    """

    def run(rows: Sequence[Tokens]) -> Tensor:
        hidden_BTC = model.backbone.hidden(pad(rows, model.backbone.device))
        return -model.apply_head(
            hidden_BTC[
                torch.arange(len(rows), device=hidden_BTC.device),
                torch.tensor([len(own) - 1 for own in rows], device=hidden_BTC.device),
            ]
        )

    return run


LabelledVector = tuple[Tensor, int]  # inputs (C,) and a class


def classification_objective(module: nn.Module) -> Objective[LabelledVector]:
    """Cross entropy of a classifier on one vector a row."""

    def run(rows: Sequence[LabelledVector], label: Callable[[Tensor], Tensor]) -> Tensor:
        logits_BV = module(torch.stack([own for own, _ in rows]))
        return F.cross_entropy(logits_BV, label(logits_BV), reduction="none")

    def drawn(rows: Sequence[LabelledVector], generator: torch.Generator) -> Tensor:
        return run(rows, lambda logits_BV: _drawn(logits_BV, generator))

    return Objective(
        module, lambda rows: run(rows, lambda _: torch.tensor([own for _, own in rows])), drawn, lambda row: 1
    )


def expected_label_objective(module: nn.Module, count: int) -> Objective[LabelledVector]:
    """For curvature without the noise of drawn labels: rows are (inputs, a class), one for every class of
    every example, and their losses are scaled by sqrt(count p(class)), so that the mean over them is the
    expectation over the model's labels.
    """

    def run(rows: Sequence[LabelledVector]) -> Tensor:
        logits_BV = module(torch.stack([own for own, _ in rows]))
        label_B = torch.tensor([own for _, own in rows])
        weight_B = (count * logits_BV.detach().softmax(dim=-1).gather(1, label_B[:, None])[:, 0]).sqrt()
        return torch.as_tensor(weight_B * F.cross_entropy(logits_BV, label_B, reduction="none"))

    return Objective(module, run, lambda rows, generator: run(rows), lambda row: 1)
