"""Dictionary learning: training autoencoders of several widths and L1 coefficients on one stream of
activations, and measuring them.

The optimiser is that of Anthropic's April 2024 update: Adam without weight decay, gradients clipped to norm
1, the learning rate decayed to 0 over the last fifth, the L1 coefficient warmed up over the first twentieth.
Dead features are not resampled.

Shapes: B activations, D channels, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from solon.errors import InputError
from solon.interpretability.autoencoder import DENSE_SHARE, Autoencoder, AutoencoderBank, gradients
from solon.training.fit import numbered_state
from solon.training.optimiser import Optimiser, Plan
from solon.training.steps import Diverged, State, Step

L1_COEFFICIENT = 5.0  # the paper's
LEARNING_RATE = 5e-5  # the April 2024 update's default
WARMUP = 0.05  # share of all steps over which the L1 coefficient rises from 0


def training_plan(steps: int, learning_rate: float = LEARNING_RATE) -> Plan:
    """The plan of `fit_autoencoders` in the April 2024 update."""
    return Plan(steps, learning_rate, schedule="stable_decay")


def fit_autoencoders(
    bank: AutoencoderBank,
    batches: Callable[[int], Iterator[Tensor]],
    l1_coefficients: Sequence[float],
    *,
    plan: Plan,
    state: Mapping[str, Tensor] | None = None,
) -> Iterator[Step]:
    """Trains every autoencoder of a bank, in place, on the same batches: `batches(n)` yields those from index
    n on. Each step is yielded with each member's squared error, sparsity and active features, in scaled
    units.

    Raises InputError unless there is one L1 coefficient for each member, and Diverged on a loss that is not
    finite.
    """
    members = list(bank)
    if len(l1_coefficients) != len(members):
        raise InputError(
            f"{len(members)} autoencoders need as many L1 coefficients; found {len(l1_coefficients)}"
        )
    optimisers = [Optimiser(member, plan) for member in members]
    # the share of active pairs in the last step: above DENSE_SHARE, products are dense
    start, shares = 0, [1.0] * len(members)
    if state is not None:
        start = int(state["number"])
        shares = state["shares"].tolist()
        for index, optimiser in enumerate(optimisers):
            optimiser.restore(state, f"{index}/")
    stream = batches(start)
    for number in range(start + 1, plan.steps + 1):
        x_BD = next(stream)
        share = min(1.0, number / max(1.0, WARMUP * plan.steps))
        metrics = dict[str, float]()
        for index, (member, optimiser) in enumerate(zip(members, optimisers, strict=True)):
            losses = gradients(
                member, x_BD, l1_coefficients[index] * share, dense=shares[index] > DENSE_SHARE
            )
            if not math.isfinite(losses.error):
                raise Diverged(
                    f"the loss at step {number} is {losses.error}; lower the learning rate "
                    f"({plan.learning_rate:g})"
                )
            optimiser.step(number, weight=1.0)
            shares[index] = losses.active / member.features
            metrics |= {
                f"{index}/error": losses.error,
                f"{index}/sparsity": losses.sparsity,
                f"{index}/active": losses.active,
            }
        metrics["loss"] = sum(
            metrics[f"{p}/error"] + coefficient * metrics[f"{p}/sparsity"]
            for p, coefficient in enumerate(l1_coefficients)
        ) / len(members)
        yield Step(number, metrics, partial(_state, number, optimisers, shares))


def _state(number: int, optimisers: Sequence[Optimiser], shares: Sequence[float]) -> State:
    tensors = {
        name: tensor
        for index, optimiser in enumerate(optimisers)
        for name, tensor in optimiser.state(f"{index}/").items()
    }
    return numbered_state(number, {"shares": torch.tensor(shares, dtype=torch.float64), **tensors})


@dataclass(frozen=True, slots=True)
class AutoencoderQuality:
    """An autoencoder's quality on a sample of activations.

    `loss` is the paper's, in scaled units; `explained` is 1 - E|x - reconstruction|^2 / E|x - mean|^2;
    `active` is the mean number of active features (L0). By feature: the share of activations where it is
    active, and its largest value f, not multiplied by |W_dec,i|.
    """

    tokens: int
    loss: float
    explained: float
    active: float
    frequency_F: Tensor
    largest_F: Tensor

    @property
    def dead(self) -> float:
        """The share of features that are active nowhere in the sample. The paper's sample has 10^7 tokens; in
        a smaller one more features appear dead.
        """
        return float((self.frequency_F == 0).double().mean())


@torch.inference_mode()
def measure_autoencoder(
    autoencoder: Autoencoder, sample: Iterable[Tensor], l1_coefficient: float = L1_COEFFICIENT
) -> AutoencoderQuality:
    """The quality on batches of unscaled activations (B, D). Raises InputError without activations."""
    tokens, error, sparsity, squares = 0, 0.0, 0.0, 0.0
    total_D = torch.zeros(autoencoder.width, dtype=torch.float64)
    count_F, largest_F = (
        torch.zeros(autoencoder.features, dtype=torch.float64),
        torch.zeros(autoencoder.features),
    )
    for x_BD in sample:
        f_BF = autoencoder.encode(x_BD)
        error += float((autoencoder.decode(f_BF) - x_BD).double().square().sum())
        sparsity += float((f_BF @ autoencoder.norms_F).double().sum())
        squares += float(x_BD.double().square().sum())
        total_D += x_BD.double().sum(dim=0)
        count_F += (f_BF > 0).sum(dim=0)
        largest_F = torch.maximum(largest_F, f_BF.amax(dim=0))
        tokens += len(x_BD)
    if not tokens:
        raise InputError("nothing to measure an autoencoder on")
    variance = squares / tokens - float((total_D / tokens).square().sum())
    scaled = error / tokens * float(autoencoder.scale) ** 2 + l1_coefficient * sparsity / tokens
    explained = 1 - error / tokens / variance if variance > 0 else math.nan
    return AutoencoderQuality(
        tokens, scaled, explained, float(count_F.sum()) / tokens, count_F / tokens, largest_F
    )


def recovered_directions(truth_GD: Tensor, autoencoder: Autoencoder) -> Tensor:
    """The highest cosine of each planted direction (G, D) with a decoder row, (G,)."""
    rows_FD = autoencoder.decoder_FD.detach() / autoencoder.norms_F.clamp(min=1e-12)[:, None]
    truth_GD = truth_GD / truth_GD.norm(dim=1, keepdim=True)
    return (truth_GD @ rows_FD.T).amax(dim=1)
