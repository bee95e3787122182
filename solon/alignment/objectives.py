"""Three ways to learn which of two replies is better, side by side (Askell et al. 2021, arXiv:2112.00861,
section 3).

Imitation learns the better reply word by word and is asked how likely each is; binary discrimination learns
to call every reply good or bad alone; ranked preference modelling learns only their order. The second and
third are one scalar model and two losses.
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
    """Cross-entropy, in nats a reply, of 1 / (1 + e^-r) against how good each reply is alone: p_first for the
    first, 1 - p_first for the second. For `learn`; its metrics are those of the ranked loss.
    """

    def loss(rows: Sequence[LabelledPair]) -> LossTotal:
        scores_N2 = scalar.reply_scores([group for group, _, _ in rows]).view(-1, 2)
        p_first_N, weight_N = torch.tensor([own for _, *own in rows], device=scores_N2.device).unbind(dim=1)
        good_N2 = torch.stack([p_first_N, 1 - p_first_N], dim=1)
        # the same form: a score against nothing instead of another's
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
    """log P(a | q) - log P(a) in nats, the empirical mutual information of each reply and its prompt (section
    3.2 there): what a reply's length and plainness alone are worth is taken off, so long replies are not
    judged bad for being long. P(a) is read behind a human's turn that says nothing; `context` stands before
    both.
    """
    before = context or Conversation()
    asked = [prompt.after(before) for prompt in prompts] + [EMPTY_PROMPT.after(before)] * len(prompts)
    scored = model.score(asked, [*replies, *replies])
    return [
        given.logprob - alone.logprob
        for given, alone in zip(scored[: len(prompts)], scored[len(prompts) :], strict=True)
    ]
