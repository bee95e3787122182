"""Learning dictionaries: autoencoders of several widths and penalties on one stream of activations, and what
each is worth.

The April 2024 update's optimiser: Adam without weight decay, gradients clipped to length 1, the learning rate
to 0 over the last fifth, the penalty from 0 over the first twentieth. No feature is set up again when it
dies.

Shapes: B activations, D channels, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from solon.errors import InputError
from solon.interpretability.autoencoder import DENSE_SHARE, Autoencoder, AutoencoderBank, gradients
from solon.training.fit import numbered_state
from solon.training.optimiser import Optimiser, Plan
from solon.training.steps import Diverged, State, Step

L1_COEFFICIENT = 5.0  # the paper's
LEARNING_RATE = 5e-5  # the April 2024 update's default
WARMUP = 0.05  # of all steps, until the penalty is whole


def training_plan(steps: int, learning_rate: float = LEARNING_RATE) -> Plan:
    return Plan(steps, learning_rate, schedule="stable_decay")


def fit_autoencoders(
    bank: AutoencoderBank,
    batches: Callable[[int], Iterator[Tensor]],
    l1_coefficients: Sequence[float],
    *,
    plan: Plan,
    state: Mapping[str, Tensor] | None = None,
) -> Iterator[Step]:
    """Train every member of a bank, in place, on the same batches: `batches(n)` gives those from number n
    (from 0) on. Each step is yielded after it is taken, with each member's squared error, sparsity and active
    features in scaled units.

    Raises Diverged where a gradient is not finite.
    """
    members = list(bank)
    if len(l1_coefficients) != len(members):
        raise InputError(
            f"{len(members)} autoencoders need as many L1 coefficients; found {len(l1_coefficients)}"
        )
    optimisers = [Optimiser(own, plan) for own in members]
    # the share of pairs that were active last: above DENSE, products are dense
    start, shares = 0, [1.0] * len(members)
    if state is not None:
        start = int(state["number"])
        shares = state["shares"].tolist()
        for place, optimiser in enumerate(optimisers):
            optimiser.restore(state, f"{place}/")
    stream = batches(start)
    for number in range(start + 1, plan.steps + 1):
        x_BD = next(stream)
        share = min(1.0, number / max(1.0, WARMUP * plan.steps))
        metrics = dict[str, float]()
        for place, (own, optimiser) in enumerate(zip(members, optimisers, strict=True)):
            found = gradients(own, x_BD, l1_coefficients[place] * share, dense=shares[place] > DENSE_SHARE)
            if not math.isfinite(found.error):
                raise Diverged(
                    f"the loss at step {number} is {found.error}; lower the learning rate "
                    f"({plan.learning_rate:g})"
                )
            optimiser.step(number, weight=1.0)
            shares[place] = found.active / own.features
            metrics |= {
                f"{place}/error": found.error,
                f"{place}/sparsity": found.sparsity,
                f"{place}/active": found.active,
            }
        metrics["loss"] = sum(
            metrics[f"{p}/error"] + own * metrics[f"{p}/sparsity"] for p, own in enumerate(l1_coefficients)
        ) / len(members)
        yield Step(number, metrics, lambda number=number: _state(number, optimisers, shares))  # type: ignore[misc]


def _state(number: int, optimisers: Sequence[Optimiser], shares: Sequence[float]) -> State:
    kept = {
        name: tensor
        for place, own in enumerate(optimisers)
        for name, tensor in own.state(f"{place}/").items()
    }
    return numbered_state(number, {"shares": torch.tensor(shares, dtype=torch.float64), **kept})


@dataclass(frozen=True, slots=True)
class AutoencoderQuality:
    """What an autoencoder is worth on a sample of activations.

    `loss` is the paper's with its penalty, in scaled units; `explained` is 1 - E|x - reconstruction|^2 / E|x
    - mean|^2; `active` is L0, the features active at one activation. By feature: the share of activations
    where it is active, and its largest activation f (not times |W_dec,i|).
    """

    tokens: int
    loss: float
    explained: float
    active: float
    frequency_F: Tensor
    largest_F: Tensor

    @property
    def dead(self) -> float:
        """The share of features that were active nowhere in the sample. The paper's sample is 10^7 tokens: in
        a smaller one more look dead.
        """
        return float((self.frequency_F == 0).double().mean())


@torch.inference_mode()
def measure_autoencoder(
    own: Autoencoder, sample: Iterable[Tensor], l1_coefficient: float = L1_COEFFICIENT
) -> AutoencoderQuality:
    """Of activations (B, D) as the model has them, a few at a time."""
    tokens, error, sparsity, squares = 0, 0.0, 0.0, 0.0
    total_D = torch.zeros(own.width, dtype=torch.float64)
    count_F, largest_F = torch.zeros(own.features, dtype=torch.float64), torch.zeros(own.features)
    for x_BD in sample:
        f_BF = own.encode(x_BD)
        error += float((own.decode(f_BF) - x_BD).double().square().sum())
        sparsity += float((f_BF @ own.norms_F).double().sum())
        squares += float(x_BD.double().square().sum())
        total_D += x_BD.double().sum(dim=0)
        count_F += (f_BF > 0).sum(dim=0)
        largest_F = torch.maximum(largest_F, f_BF.amax(dim=0))
        tokens += len(x_BD)
    if not tokens:
        raise InputError("nothing to measure an autoencoder on")
    variance = squares / tokens - float((total_D / tokens).square().sum())
    scaled = error / tokens * float(own.scale) ** 2 + l1_coefficient * sparsity / tokens
    explained = 1 - error / tokens / variance if variance > 0 else math.nan
    return AutoencoderQuality(
        tokens, scaled, explained, float(count_F.sum()) / tokens, count_F / tokens, largest_F
    )


def recovered_directions(truth_GD: Tensor, own: Autoencoder) -> Tensor:
    """Of each planted direction, the highest cosine with a decoder row, (G,)."""
    rows_FD = own.decoder_FD.detach() / own.norms_F.clamp(min=1e-12)[:, None]
    truth_GD = truth_GD / truth_GD.norm(dim=1, keepdim=True)
    return (truth_GD @ rows_FD.T).amax(dim=1)
