"""Training objectives in the form that influence functions need: language models on replies, preference
models on comparisons, classifiers on labels.

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


def language_objective(backbone: Backbone) -> Objective[ScoreRequest]:
    """-log p of a row's reply given its prompt (nats, summed over the reply's tokens)."""

    def losses(rows: Sequence[ScoreRequest], generator: torch.Generator | None = None) -> Tensor:
        sequences = [prompt + reply for prompt, reply in rows]
        hidden_BTC = backbone.hidden(pad([tokens[:-1] for tokens in sequences], backbone.device))
        positions = [
            (row, position)
            for row, (prompt, reply) in enumerate(rows)
            for position in range(len(prompt) - 1, len(prompt) + len(reply) - 1)
        ]
        row_N, position_N = torch.tensor(positions, device=backbone.device).T
        target_N = torch.tensor([token for _, reply in rows for token in reply], device=backbone.device)
        losses_B = hidden_BTC.new_zeros(len(rows), dtype=torch.float32)
        for part in torch.arange(len(positions), device=backbone.device).split(HEAD_ROWS):
            logits_NV = backbone.logits(hidden_BTC[row_N[part], position_N[part]]).float()
            label_N = target_N[part] if generator is None else _sampled_labels(logits_NV, generator)
            losses_B = losses_B.index_add(
                0, row_N[part], F.cross_entropy(logits_NV, label_N, reduction="none")
            )
        return losses_B

    return Objective(backbone, losses, losses, _predicted_tokens)


def _predicted_tokens(row: ScoreRequest) -> int:
    prompt, reply = row
    return len(prompt) + len(reply) - 1 if reply else 0


def _sampled_labels(logits_NV: Tensor, generator: torch.Generator) -> Tensor:
    """A label for each position from its distribution. Random numbers are drawn on the CPU, so that they are
    the same on every device.
    """
    uniform_N = torch.rand(len(logits_NV), generator=generator).to(logits_NV.device)
    cumulative_NV = logits_NV.detach().float().softmax(dim=-1).cumsum_(dim=-1)
    return torch.searchsorted(cumulative_NV, (uniform_N * cumulative_NV[:, -1])[:, None])[:, 0].clamp_(
        max=logits_NV.shape[-1] - 1
    )


DialoguePair = tuple[Tokens, Tokens, float]  # two whole dialogues, and P(first better)


def comparison_objective(model: ScalarModel) -> Objective[DialoguePair]:
    """The loss of a preference model (nats): -p log s(r1 - r2) - (1 - p) log s(r2 - r1). A sampled label
    prefers the first with the model's probability.
    """

    def losses(rows: Sequence[DialoguePair], generator: torch.Generator | None = None) -> Tensor:
        scores = _scores(model, [tokens for first, second, _ in rows for tokens in (first, second)])
        difference_B = scores[::2] - scores[1::2]
        if generator is None:
            label_B = torch.tensor([p for *_, p in rows], dtype=torch.float64, device=difference_B.device)
        else:
            uniform_B = torch.rand(len(rows), generator=generator).to(difference_B.device)
            label_B = uniform_B < difference_B.detach().sigmoid()
        return F.binary_cross_entropy_with_logits(
            difference_B, label_B.to(difference_B.dtype), reduction="none"
        )

    return Objective(model, losses, losses, lambda row: 2 * max(len(row[0]), len(row[1])))


def _scores(model: ScalarModel, dialogues: Sequence[Tokens]) -> Tensor:
    """The score at each dialogue's last token, (B,)."""
    hidden_BTC = model.backbone.hidden(pad(dialogues, model.backbone.device))
    last_B = torch.tensor([len(tokens) - 1 for tokens in dialogues], device=hidden_BTC.device)
    return model.apply_head(hidden_BTC[torch.arange(len(dialogues), device=hidden_BTC.device), last_B])


def reward_loss(model: ScalarModel) -> Callable[[Sequence[Tokens]], Tensor]:
    """Minus a preference model's score of each whole dialogue, (B,): the loss of a query about what raised
    the score.
    """
    return lambda rows: -_scores(model, rows)


LabelledVector = tuple[Tensor, int]  # inputs (C,) and a class


def classification_objective(module: nn.Module) -> Objective[LabelledVector]:
    """The cross-entropy (nats) of a classifier of vectors."""

    def losses(rows: Sequence[LabelledVector], generator: torch.Generator | None = None) -> Tensor:
        logits_BV = module(torch.stack([vector for vector, _ in rows]))
        label_B = torch.tensor([label for _, label in rows])
        if generator is not None:
            label_B = _sampled_labels(logits_BV, generator)
        return F.cross_entropy(logits_BV, label_B, reduction="none")

    return Objective(module, losses, losses, lambda row: 1)


def expected_label_objective(module: nn.Module, count: int) -> Objective[LabelledVector]:
    """An objective for curvature without the noise of sampled labels: rows are (inputs, class) for each of
    the `count` classes of every example, and losses are scaled by sqrt(count p(class)), so that the mean over
    rows is the expectation over the model's labels.
    """

    def losses(rows: Sequence[LabelledVector], generator: torch.Generator | None = None) -> Tensor:
        logits_BV = module(torch.stack([vector for vector, _ in rows]))
        label_B = torch.tensor([label for _, label in rows])
        weight_B = (count * logits_BV.detach().softmax(dim=-1).gather(1, label_B[:, None])[:, 0]).sqrt()
        return torch.as_tensor(weight_B * F.cross_entropy(logits_BV, label_B, reduction="none"))

    return Objective(module, losses, losses, lambda row: 1)
