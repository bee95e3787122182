"""A preference model: learned from comparisons, used as a reward (HH-RLHF section 2; Constitutional AI
section 4).

The score is a scalar read at an end-of-context token: the last of those that open the human's next turn. Only
differences of scores mean anything; they are in nats: P(first better) = 1 / (1 + exp(r_second - r_first)),
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
    """A scalar model and the dialogue form it reads. Callable as a reward on sampled tokens, never
    re-tokenised.
    """

    name: str
    scalar: ScalarModel
    dialogue: Dialogue

    def __call__(self, prompts: Sequence[Conversation], samples: Sequence[Sample]) -> list[float]:
        return self._scores(
            [self._sampled(prompt, sample) for prompt, sample in zip(prompts, samples, strict=True)]
        )

    def _sampled(self, prompt: Conversation, sample: Sample) -> tuple[Tokens, Tokens]:
        """A reply's own tokens; one that ended on a stop string is read without it, as text is."""
        if sample.stop is Stop.STRING:
            return self._pair(prompt, sample.text)
        return self.dialogue.prompt(prompt), self._closed(sample.tokens)

    def score(self, prompts: Sequence[Conversation], replies: Sequence[str]) -> list[float]:
        """The score of each reply given as text."""
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
        """Its own trainable weights and head, on the same frozen base."""
        return PreferenceModel(self.name, self.scalar.copy(), self.dialogue)

    def save(self, path: Path) -> None:
        """The weights that train, head included (safetensors)."""
        save_trained(self.scalar, path)

    def load(self, path: Path) -> None:
        load_trained(self.scalar, path)

    def group(self, comparison: Comparison) -> Group:
        """Both replies behind their one prompt."""
        prompt, first = self._pair(comparison.prompt, comparison.first)
        return prompt, [first, self._pair(comparison.prompt, comparison.second)[1]]

    def fits_context(self, comparison: Comparison) -> bool:
        """Whether both sides fit the context; what does not is left out and counted by the caller."""
        prompt, replies = self.group(comparison)
        return len(prompt) + max(map(len, replies)) <= self.scalar.backbone.context

    def _closed(self, tokens: Tokens) -> Tokens:
        said = tokens[:-1] if tokens and tokens[-1] in self.dialogue.ends else tokens
        return (*said, *self.dialogue.context_end)

    def _pair(self, prompt: Conversation, reply: str) -> tuple[Tokens, Tokens]:
        return self.dialogue.prompt(prompt), self._closed(self.dialogue.reply(prompt, reply))

    @torch.inference_mode()
    def _scores(self, pairs: Sequence[tuple[Tokens, Tokens]]) -> list[float]:
        groups = group_by_prompt(pairs)
        found: dict[int, list[float]] = {}
        tokens = tokens_per_pass(self.scalar.backbone.device)
        for batch in batch_by_tokens([group_length(group) for group in groups], tokens=tokens):
            scores = iter(self.scalar.reply_scores([groups[place] for place in batch]).tolist())
            for place in batch:
                found[place] = [next(scores) for _ in groups[place][1]]
        return [score for place in range(len(groups)) for score in found[place]]


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
    """Train in place on soft labels, `size` comparisons a step. Metrics: loss (nats) and agreement with the
    labels before the step, ties left out. `weights` are those of each axis in the loss, 1 where none is
    given: HH-RLHF's lambda is that of "harmless" (section 3.4 there: L_helpful + lambda L_harmless). `loss`
    is `comparison_loss` unless another is given.
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
    """The preference loss, the prompt of a comparison computed once for both replies."""

    def loss(rows: Sequence[LabelledPair]) -> LossTotal:
        scores_N2 = scalar.reply_scores([group for group, _, _ in rows]).view(-1, 2)
        difference_N = scores_N2[:, 0] - scores_N2[:, 1]
        p_first_N, weight_N = torch.tensor([own for _, *own in rows], device=difference_N.device).unbind(
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
    """Set the head, in place, to the ridge-logistic solution on the frozen body's end-of-context states.

    Ours, not the papers': with a thousand comparisons a head that starts at zero spends the one pass that
    there is on finding its direction. The penalty is the one of least loss in four-fold cross-validation on
    these comparisons. Raises InputError on no comparison.
    """
    if not comparisons:
        raise InputError("a head cannot be started from no comparisons")
    weights_C = ridge_head(
        end_states(model, comparisons), np.array([c.p_first for c in comparisons]), penalties=penalties
    )
    with torch.no_grad():
        model.scalar.head.weight.copy_(torch.from_numpy(weights_C)[None])


def end_states(model: PreferenceModel, comparisons: Sequence[Comparison]) -> np.ndarray:
    """The states that the head reads for both replies of every comparison, (N, 2, C)."""
    groups = [model.group(comparison) for comparison in comparisons]
    states: dict[int, Tensor] = {}
    tokens = tokens_per_pass(model.scalar.backbone.device)
    with torch.inference_mode():
        for batch in batch_by_tokens([group_length(group) for group in groups], tokens=tokens):
            found_N2C = (
                model.scalar.reply_states([groups[place] for place in batch])
                .double()
                .cpu()
                .view(len(batch), 2, -1)
            )
            states |= dict(zip(batch, found_N2C, strict=True))
    return torch.stack([states[place] for place in range(len(groups))]).numpy()


def ridge_head(
    states_N2C: np.ndarray,
    p_first_N: np.ndarray,
    weight_N: np.ndarray | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> np.ndarray:
    """Weights (C,) of least soft-label preference loss, each comparison weighted, with a ridge on
    standardised states whose penalty is cross-validated.
    """
    weight_N = np.ones(len(p_first_N)) if weight_N is None else weight_N
    scale_C = np.maximum(states_N2C.reshape(-1, states_N2C.shape[-1]).std(axis=0), 1e-6)
    x_NC = (states_N2C[:, 0] - states_N2C[:, 1]) / scale_C
    return np.asarray(fit_cross_validated(x_NC, p_first_N, weight_N, penalties=penalties) / scale_C)
