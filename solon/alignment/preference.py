"""Preference models: trained on comparisons, used as rewards (HH-RLHF, arXiv:2204.05862, section 2;
Constitutional AI, arXiv:2212.08073, section 4).

The score is read at the end-of-context token, the last of the tokens that open the human's next turn. Only
differences of scores have a meaning. They are in nats: P(first better) = 1 / (1 + exp(r_second - r_first)),
and one nat is 173.7 Elo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from solon.errors import InputError
from solon.models.base import Sample, Stop, Tokens
from solon.models.dialogue import Dialogue
from solon.models.scalar import ScalarModel
from solon.models.scoring import Group, batch_by_tokens, group_by_prompt, group_length, tokens_per_pass
from solon.models.weights import load_trained, save_trained
from solon.statistics.logistic import PENALTIES, fit_cross_validated
from solon.training.fit import fit, micro_batches, shuffled_batch
from solon.training.losses import LossTotal, preference_loss
from solon.training.optimiser import Plan
from solon.training.parallel import SINGLE_PROCESS, World
from solon.training.steps import Step
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation

LabelledPair = tuple[
    Group, float, float
]  # a prompt and its two replies, P(first better), its weight in the loss
PairLoss = Callable[[ScalarModel], Callable[[Sequence[LabelledPair]], LossTotal]]


@dataclass(frozen=True, slots=True)
class PreferenceModel:
    """A scalar model with its dialogue format. As a callable it is a reward of sampled tokens, which are not
    tokenised again.
    """

    name: str
    scalar: ScalarModel
    dialogue: Dialogue

    def __call__(self, prompts: Sequence[Conversation], samples: Sequence[Sample]) -> list[float]:
        """The score of each sample."""
        return self._scores(
            [self._sampled(prompt, sample) for prompt, sample in zip(prompts, samples, strict=True)]
        )

    def _sampled(self, prompt: Conversation, sample: Sample) -> tuple[Tokens, Tokens]:
        """The tokens of prompt and sample. A sample that ended on a stop string is read as its text, without
        the string.
        """
        if sample.stop is Stop.STRING:
            return self._pair(prompt, sample.text)
        return self.dialogue.prompt(prompt), self._closed(sample.tokens)

    def score(self, prompts: Sequence[Conversation], replies: Sequence[str]) -> list[float]:
        """The score of each reply, from its text."""
        return self._scores(
            [self._pair(prompt, reply) for prompt, reply in zip(prompts, replies, strict=True)]
        )

    def differences(self, comparisons: Sequence[Comparison]) -> list[float]:
        """r_first - r_second of each comparison, in nats."""
        scores = self._scores(
            [
                pair
                for c in comparisons
                for pair in (self._pair(c.prompt, c.first), self._pair(c.prompt, c.second))
            ]
        )
        return [first - second for first, second in zip(scores[::2], scores[1::2], strict=True)]

    def copy(self) -> PreferenceModel:
        """A copy with trainable weights and head of its own, on the same frozen base."""
        return PreferenceModel(self.name, self.scalar.copy(), self.dialogue)

    def save(self, path: Path) -> None:
        """Writes the trained weights, head included (safetensors)."""
        save_trained(self.scalar, path)

    def load(self, path: Path) -> None:
        """Reads what `save` wrote, in place."""
        load_trained(self.scalar, path)

    def group(self, comparison: Comparison) -> Group:
        """The tokens of the prompt and of both replies."""
        prompt, first = self._pair(comparison.prompt, comparison.first)
        return prompt, [first, self._pair(comparison.prompt, comparison.second)[1]]

    def fits_context(self, comparison: Comparison) -> bool:
        """Whether both sides fit the context length."""
        prompt, replies = self.group(comparison)
        return len(prompt) + max(map(len, replies)) <= self.scalar.backbone.context

    def _closed(self, tokens: Tokens) -> Tokens:
        content = tokens[:-1] if tokens and tokens[-1] in self.dialogue.ends else tokens
        return (*content, *self.dialogue.context_end)

    def _pair(self, prompt: Conversation, reply: str) -> tuple[Tokens, Tokens]:
        return self.dialogue.prompt(prompt), self._closed(self.dialogue.reply(prompt, reply))

    @torch.inference_mode()
    def _scores(self, pairs: Sequence[tuple[Tokens, Tokens]]) -> list[float]:
        groups = group_by_prompt(pairs)
        scores_by_group: dict[int, list[float]] = {}
        tokens = tokens_per_pass(self.scalar.backbone.device)
        for batch in batch_by_tokens([group_length(group) for group in groups], tokens=tokens):
            scores = iter(self.scalar.reply_scores([groups[index] for index in batch]).tolist())
            for index in batch:
                scores_by_group[index] = [next(scores) for _ in groups[index][1]]
        return [score for index in range(len(groups)) for score in scores_by_group[index]]


def fit_preference_model(
    model: PreferenceModel,
    comparisons: Sequence[Comparison],
    *,
    plan: Plan,
    size: int,
    seed: int,
    weights: Mapping[str, float] | None = None,
    loss: PairLoss | None = None,
    micro_tokens: int = 2048,
    state: Mapping[str, Tensor] | None = None,
    world: World = SINGLE_PROCESS,
) -> Iterator[Step]:
    """Trains in place on soft labels, `size` comparisons a step. Metrics before each step: loss (nats) and
    agreement with the labels, ties excluded. `weights` are the loss weights by axis, 1 by default; HH-RLHF's
    lambda is that of "harmless" (section 3.4: L_helpful + lambda L_harmless). `loss` is `comparison_loss` by
    default.
    """
    rows = [(model.group(c), c.p_first, (weights or {}).get(c.axis, 1.0)) for c in comparisons]

    def batch(number: int) -> list[list[LabelledPair]]:
        return micro_batches(
            shuffled_batch(rows, size=size, seed=seed, number=number),
            lambda row: group_length(row[0]),
            tokens=micro_tokens,
        )

    return fit(
        model.scalar, batch, (loss or comparison_loss)(model.scalar), plan=plan, state=state, world=world
    )


def comparison_loss(scalar: ScalarModel) -> Callable[[Sequence[LabelledPair]], LossTotal]:
    """The weighted preference loss (nats a comparison); a prompt is computed once for both replies."""

    def loss(rows: Sequence[LabelledPair]) -> LossTotal:
        scores_N2 = scalar.reply_scores([group for group, _, _ in rows]).view(-1, 2)
        difference_N = scores_N2[:, 0] - scores_N2[:, 1]
        p_first_N, weight_N = torch.tensor([label for _, *label in rows], device=difference_N.device).unbind(
            dim=1
        )
        agrees_N = weight_N * (((difference_N > 0) == (p_first_N > 0.5)) & (p_first_N != 0.5))
        return LossTotal(
            (weight_N * preference_loss(difference_N, p_first_N)).sum(),
            float(weight_N.sum()),
            {"agreement": float(agrees_N.sum())},
        )

    return loss


def init_head(
    model: PreferenceModel, comparisons: Sequence[Comparison], *, penalties: Sequence[float] = PENALTIES
) -> None:
    """Sets the head, in place, to the cross-validated ridge-logistic solution on frozen end-of-context
    states.

    This is ours, not the papers': with few comparisons a head that starts at zero spends the single epoch on
    finding its direction. Raises InputError without comparisons.
    """
    if not comparisons:
        raise InputError("a head cannot be fitted without comparisons")
    weights_C = ridge_head(
        end_states(model, comparisons), np.array([c.p_first for c in comparisons]), penalties=penalties
    )
    with torch.no_grad():
        model.scalar.head.weight.copy_(torch.from_numpy(weights_C)[None])


def end_states(model: PreferenceModel, comparisons: Sequence[Comparison]) -> np.ndarray:
    """The end-of-context states of both replies of every comparison, (N, 2, C)."""
    groups = [model.group(comparison) for comparison in comparisons]
    states: dict[int, Tensor] = {}
    tokens = tokens_per_pass(model.scalar.backbone.device)
    with torch.inference_mode():
        for batch in batch_by_tokens([group_length(group) for group in groups], tokens=tokens):
            found_N2C = (
                model.scalar.reply_states([groups[index] for index in batch])
                .double()
                .cpu()
                .view(len(batch), 2, -1)
            )
            states |= dict(zip(batch, found_N2C, strict=True))
    return torch.stack([states[index] for index in range(len(groups))]).numpy()


def ridge_head(
    states_N2C: np.ndarray,
    p_first_N: np.ndarray,
    weight_N: np.ndarray | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> np.ndarray:
    """Head weights (C,) with the least weighted preference loss on soft labels, and a ridge on standardised
    states whose penalty is cross-validated.
    """
    weight_N = np.ones(len(p_first_N)) if weight_N is None else weight_N
    scale_C = np.maximum(states_N2C.reshape(-1, states_N2C.shape[-1]).std(axis=0), 1e-6)
    x_NC = (states_N2C[:, 0] - states_N2C[:, 1]) / scale_C
    return np.asarray(fit_cross_validated(x_NC, p_first_N, weight_N, penalties=penalties) / scale_C)
