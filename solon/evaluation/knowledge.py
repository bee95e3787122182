"""P(IK): the probability that a model knows the answer, from its last hidden state of a question (Kadavath et
al. 2022, arXiv:2207.05221, section 5).

A linear head gives the log-odds; the target is the share of right samples (the paper draws 30). Three
methods: "full" trains the whole model as in the paper, "lora" adapters and the head, "probe" the head alone.

Shapes: B rows, C width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from solon.errors import InputError
from solon.models.adapters import Lora
from solon.models.base import Tokens
from solon.models.dialogue import Dialogue
from solon.models.scalar import ScalarModel, last_hidden_states
from solon.models.scoring import BATCH_TOKENS
from solon.models.torch_model import TorchModel
from solon.models.weights import load_trained, save_trained
from solon.statistics.logistic import PENALTIES, fit_cross_validated
from solon.training.fit import fit, micro_batches, shuffled_batch
from solon.training.losses import LossTotal
from solon.training.optimiser import Plan
from solon.training.parallel import SINGLE_PROCESS, World
from solon.training.steps import State, Step
from solon.words.question import Problem, to_question

Method = Literal["probe", "lora", "full"]
LabelledQuestion = tuple[Tokens, float]  # a question's tokens, the share of right samples


@dataclass(frozen=True, slots=True)
class KnowledgeModel:
    """Predicts from a question alone whether the model will answer it right."""

    scalar: ScalarModel
    dialogue: Dialogue

    def __call__(self, problems: Sequence[Problem], *, examples: Sequence[Problem] = ()) -> list[float]:
        """P(IK) of each problem, after the few-shot examples with which its samples were drawn."""
        rows = [self.dialogue.prompt(to_question(problem, examples).prompt) for problem in problems]
        with torch.inference_mode():
            return torch.sigmoid(
                self.scalar.apply_head(
                    last_hidden_states(self.scalar.backbone, rows).to(self.scalar.backbone.device)
                )
            ).tolist()

    def copy(self) -> KnowledgeModel:
        """A copy with trainable weights of its own on the same frozen base."""
        return KnowledgeModel(self.scalar.copy(), self.dialogue)

    def save(self, path: Path) -> None:
        """Writes the trained weights, head included (safetensors)."""
        save_trained(self.scalar, path)

    def load(self, path: Path) -> None:
        """Reads what `save` wrote, in place."""
        load_trained(self.scalar, path)


def build_knowledge_model(
    model: TorchModel, method: Method, *, depth: float = 1.0, rank: int = 16, seed: int = 0
) -> KnowledgeModel:
    """An untrained head on the share `depth` of a model's first layers; `rank` is LoRA's. The model itself
    does not change. Raises InputError unless 0 < depth <= 1.
    """
    if not 0 < depth <= 1:
        raise InputError(f"depth is a share of the layers, above 0 and at most 1; found {depth}")
    prepared = (
        model.unfrozen()
        if method == "full"
        else model.adapted(Lora(rank, 2.0 * rank), seed=seed)
        if method == "lora"
        else model.copy()
    )
    if method == "probe":
        prepared.module.requires_grad_(False)
    backbone = (
        prepared.module
        if depth == 1
        else prepared.module.first_layers(max(1, round(depth * model.module.depth)))
    )
    return KnowledgeModel(ScalarModel(backbone), model.dialogue)


def label_questions(
    model: KnowledgeModel,
    problems: Sequence[Problem],
    shares: Sequence[float],
    *,
    examples: Sequence[Problem] = (),
) -> list[LabelledQuestion]:
    """Training rows with soft labels: in expectation each equals the paper's 30 rows with hard labels."""
    return [
        (model.dialogue.prompt(to_question(problem, examples).prompt), share)
        for problem, share in zip(problems, shares, strict=True)
    ]


def hard_labels(rows: Sequence[LabelledQuestion], samples: int) -> list[LabelledQuestion]:
    """The paper's rows: one for each of `samples` samples, labelled 1 or 0."""
    return [
        (tokens, float(number < round(share * samples)))
        for tokens, share in rows
        for number in range(samples)
    ]


def init_head(
    model: KnowledgeModel, rows: Sequence[LabelledQuestion], *, penalties: Sequence[float] = PENALTIES
) -> None:
    """Sets the head, in place, to the cross-validated ridge-logistic solution on standardised frozen states.
    This alone trains a probe. Raises InputError without rows and where all shares are equal.
    """
    shares_N = np.array([share for _, share in rows])
    if not len(rows) or np.ptp(shares_N) == 0:
        raise InputError(
            f"P(IK) cannot be learned from {len(rows)} questions of one share of right answers; give "
            "easier and harder ones"
        )
    states_NC = last_hidden_states(model.scalar.backbone, [tokens for tokens, _ in rows]).double().numpy()
    centre_C, scale_C = states_NC.mean(axis=0), np.maximum(states_NC.std(axis=0), 1e-6)
    weights = fit_cross_validated(
        (states_NC - centre_C) / scale_C,
        shares_N,
        np.ones(len(rows)),
        penalties=(1.0, 3.0, *penalties),
        intercept=True,
    )
    own_C = weights[:-1] / scale_C
    with torch.no_grad():
        model.scalar.head.weight.copy_(torch.from_numpy(own_C)[None])
        model.scalar.head.bias.fill_(float(weights[-1] - own_C @ centre_C))


def fit_knowledge_model(
    model: KnowledgeModel,
    rows: Sequence[LabelledQuestion],
    *,
    plan: Plan,
    size: int,
    seed: int,
    state: State | None = None,
    world: World = SINGLE_PROCESS,
) -> Iterator[Step]:
    """Trains in place by soft cross-entropy at the last token of each question, `size` rows a step. The
    metric `loss` is in nats.
    """

    def batch(number: int) -> list[list[LabelledQuestion]]:
        return micro_batches(
            shuffled_batch(rows, size=size, seed=seed, number=number),
            lambda row: len(row[0]),
            tokens=BATCH_TOKENS,
        )

    return fit(model.scalar, batch, _loss(model.scalar), plan=plan, state=state, world=world)


def _loss(scalar: ScalarModel) -> Callable[[Sequence[LabelledQuestion]], LossTotal]:
    def loss(rows: Sequence[LabelledQuestion]) -> LossTotal:
        logits_B = scalar.reply_scores([(tokens, [()]) for tokens, _ in rows])
        shares_B = torch.tensor([share for _, share in rows], device=logits_B.device)
        return LossTotal(
            F.binary_cross_entropy_with_logits(logits_B, shares_B, reduction="sum"), float(len(rows))
        )

    return loss
