"""Losses for preferences (Askell et al. 2021, arXiv:2112.00861, section 3): imitation learning fits the
better reply and compares likelihoods, binary discrimination classifies each reply as good or bad, and ranked
preference modelling (`preference`) learns their order. The latter two share a scalar model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from solon.alignment.preference import LabelledPair
from solon.models.base import LanguageModel
from solon.models.scalar import ScalarModel
from solon.training.losses import LossTotal, preference_loss
from solon.words.conversation import Conversation

EMPTY_PROMPT = Conversation().human("")


def discrimination_loss(scalar: ScalarModel) -> Callable[[Sequence[LabelledPair]], LossTotal]:
    """The loss of binary discrimination for `fit_preference_model`: cross-entropy (nats a reply) of
    1 / (1 + e^-r) against p_first for the first reply and 1 - p_first for the second. Its metrics are those
    of `comparison_loss`.
    """

    def loss(rows: Sequence[LabelledPair]) -> LossTotal:
        scores_N2 = scalar.reply_scores([group for group, _, _ in rows]).view(-1, 2)
        p_first_N, weight_N = torch.tensor([label for _, *label in rows], device=scores_N2.device).unbind(
            dim=1
        )
        good_N2 = torch.stack([p_first_N, 1 - p_first_N], dim=1)
        # the form of the ranked loss, with a score in place of a difference of scores
        each_N2: Tensor = preference_loss(scores_N2, good_N2)
        agrees_N = weight_N * (
            ((scores_N2[:, 0] > scores_N2[:, 1]) == (p_first_N > 0.5)) & (p_first_N != 0.5)
        )
        return LossTotal(
            (weight_N * each_N2.mean(dim=1)).sum(),
            float(weight_N.sum()),
            {"agreement": float(agrees_N.sum())},
        )

    return loss


def mutual_information(
    model: LanguageModel,
    prompts: Sequence[Conversation],
    replies: Sequence[str],
    *,
    context: Conversation | None = None,
) -> list[float]:
    """The empirical mutual information of each reply and its prompt, log P(a | q) - log P(a), nats (section
    3.2): it removes the effect of a reply's length. P(a) is conditioned on an empty human turn; `context`
    precedes both.
    """
    before = context or Conversation()
    conversations = [prompt.after(before) for prompt in prompts] + [EMPTY_PROMPT.after(before)] * len(prompts)
    scored = model.score(conversations, [*replies, *replies])
    return [
        conditional.logprob - marginal.logprob
        for conditional, marginal in zip(scored[: len(prompts)], scored[len(prompts) :], strict=True)
    ]
