"""More features than dimensions: the ReLU output model, many at once, with gradients by hand (Toy Models of
Superposition, Elhage et al. 2022, arXiv:2209.10652).

    h = W^T x        reconstruction = ReLU(W h + b)        loss = mean over inputs and features of importance
    * (x - reconstruction)^2

Features are 0 with probability 1 - density, else uniform on [0, 1]. Only those that are not 0 are drawn: the
gaps between them are geometric.

Shapes: K instances, B inputs, N features, M hidden dimensions, A features of a batch that are not 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from solon.errors import InputError

DENSE = 0.3  # density from which it is faster to draw all and leave out
Relation = Literal["independent", "correlated", "anticorrelated"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many instances are trained alike: their number, size, density, importances (one row for each
    instance, or one for all), and how. `relation` ties the features 2i and 2i + 1: present together, or one
    at most. `linear` leaves the ReLU out. `kept` says how many times on the way weights are kept.
    """

    features: int
    hidden: int
    density: float
    importance: tuple[tuple[float, ...], ...]
    instances: int = 1
    seed: int = 0
    steps: int = 10_000
    batch: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    relation: Relation = "independent"
    linear: bool = False
    kept: int = 0

    def __post_init__(self) -> None:
        if (
            not 0 < self.density <= 1
            or min(self.features, self.hidden, self.instances, self.steps, self.batch) < 1
        ):
            raise InputError(
                f"density lies above 0 and at most at 1 ({self.density:g}), and features, hidden, "
                "instances, steps and batch are at least 1"
            )
        if len(self.importance) not in (1, self.instances) or any(
            len(row) != self.features for row in self.importance
        ):
            raise InputError(
                f"importances are needed of {self.features} features, once or for each of {self.instances} "
                "instances"
            )
        if self.relation != "independent" and self.features % 2:
            raise InputError(f"features are tied in pairs; {self.features} is odd")

    @property
    def sparsity(self) -> float:
        """Minus the density's logarithm to base 10."""
        return float(-np.log10(self.density))


@dataclass(frozen=True, slots=True)
class ToyModels:
    """The instances of a plan as they ended: weights (K, N, M), biases (K, N), each instance's mean loss over
    the last twentieth of steps; and what was kept on the way: steps and weights (S, K, N, M).
    """

    plan: Plan
    weights_KNM: Tensor
    bias_KN: Tensor
    loss: tuple[float, ...]
    steps: tuple[int, ...]
    snapshots_SKNM: Tensor

    @property
    def best(self) -> int:
        """The instance with the lowest loss."""
        return min(range(len(self.loss)), key=lambda instance: self.loss[instance])


Levels = Sequence[ToyModels]  # models of one kind, the densest first


def successes(total: int, density: float, generator: torch.Generator) -> Tensor:
    """Where `total` independent trials of probability `density` succeed, in order: exactly so in
    distribution, by as many draws as there are successes.

    >>> trials = successes(1000, 1.0, torch.Generator().manual_seed(0))
    >>> len(trials), int(trials[0]), int(trials[-1])
    (1000, 0, 999)
    """
    if density >= 1:
        return torch.arange(total)
    chunks, last = list[Tensor](), -1
    while last < total:
        count = int((total - last) * density + 6 * math.sqrt((total - last) * density) + 16)
        uniform = torch.rand(count, generator=generator, dtype=torch.float64).clamp_(min=1e-300)
        gaps = (uniform.log_() / math.log1p(-density)).floor_().to(torch.int64) + 1
        ahead = gaps.cumsum(0) + last
        chunks.append(ahead)
        last = int(ahead[-1])
    whole = torch.cat(chunks)
    return whole[: int(torch.searchsorted(whole, total))]


def train(plan: Plan) -> ToyModels:
    """All instances of a plan, AdamW, weights drawn as the authors' notebook draws them."""
    count, features, hidden, size = plan.instances, plan.features, plan.hidden, plan.batch
    generator = torch.Generator().manual_seed(plan.seed)
    weights_KNM = torch.randn(count, features, hidden, generator=generator) * math.sqrt(
        2 / (hidden * (features + 20))
    )
    bias_KN = torch.zeros(count, features)
    importance_K1N = torch.tensor(plan.importance)[:, None, :]
    optimiser = torch.optim.AdamW(
        [weights_KNM, bias_KN], lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    kept = {round(plan.steps * number / plan.kept) for number in range(1, plan.kept + 1)}
    steps, snapshots_KNM = list[int](), list[Tensor]()
    recent_K, tail = torch.zeros(count), max(1, plan.steps // 20)
    for step in range(1, plan.steps + 1):
        last = step > plan.steps - tail
        weights_KNM.grad, bias_KN.grad, loss_K = gradients(
            plan, weights_KNM, bias_KN, importance_K1N, size, generator=generator, loss=last
        )
        optimiser.step()
        if last:
            recent_K += loss_K / tail
        if step in kept:
            steps.append(step)
            snapshots_KNM.append(weights_KNM.clone())
    empty = torch.zeros(0, count, features, hidden)
    snapshots = torch.stack(snapshots_KNM) if snapshots_KNM else empty
    return ToyModels(plan, weights_KNM, bias_KN, tuple(recent_K.tolist()), tuple(steps), snapshots)


def gradients(
    plan: Plan,
    weights_KNM: Tensor,
    bias_KN: Tensor,
    importance_K1N: Tensor,
    size: int,
    *,
    generator: torch.Generator,
    loss: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of one fresh batch: the gradients by weights and biases of the summed losses, and the losses (K,),
    zeros where they are not wanted.
    """
    count, features, _ = weights_KNM.shape
    x_KBN = draw_inputs(plan, count, size, generator)
    h_KBM = torch.bmm(x_KBN, weights_KNM)
    output_KBN = torch.baddbmm(bias_KN[:, None, :], h_KBM, weights_KNM.transpose(1, 2))
    if not plan.linear:
        output_KBN.relu_()
    error_KBN = output_KBN - x_KBN
    losses_K = (error_KBN.square() * importance_K1N).mean(dim=(1, 2)) if loss else torch.zeros(count)
    slope_KBN = error_KBN.mul_(importance_K1N * (2 / (size * features)))
    if not plan.linear:
        slope_KBN.mul_(output_KBN.sign_())  # 1 where the reconstruction is above 0
    back_KBM = torch.bmm(slope_KBN, weights_KNM)
    weights_slope = torch.baddbmm(
        torch.bmm(slope_KBN.transpose(1, 2), h_KBM), x_KBN.transpose(1, 2), back_KBM
    )
    return weights_slope, slope_KBN.sum(dim=1), losses_K


def draw_inputs(plan: Plan, count: int, size: int, generator: torch.Generator) -> Tensor:
    """Inputs (K, B, N), with zeros in them."""
    if plan.relation == "independent" and plan.density < DENSE:
        there_A = successes(count * size * plan.features, plan.density, generator)
        x = torch.zeros(count, size, plan.features)
        x.view(-1)[there_A] = torch.rand(len(there_A), generator=generator)
        return x
    value_KBN = torch.rand(count, size, plan.features, generator=generator)
    if plan.relation == "independent":
        return value_KBN * (torch.rand(value_KBN.shape, generator=generator) < plan.density)
    there = torch.rand(count, size, plan.features // 2, generator=generator) < plan.density
    if plan.relation == "correlated":
        return value_KBN * there.repeat_interleave(2, dim=2)
    first = torch.rand(there.shape, generator=generator) < 0.5
    return value_KBN * torch.stack([there & first, there & ~first], dim=-1).flatten(2)


def geometric(base: float, features: int) -> tuple[float, ...]:
    """Importances base^0, base^1, ..."""
    return tuple(base**number for number in range(features))


def train_absolute(plan: Plan) -> ToyModels:
    """Absolute values computed by ReLU neurons, h = ReLU(W1^T x), |x| ~ ReLU(W2 h + b), of inputs on [-1, 1];
    the weights given back are W1 (K, N, M).
    """
    count, features, hidden = plan.instances, plan.features, plan.hidden
    generator = torch.Generator().manual_seed(plan.seed)
    into_KNM = (
        torch.randn(count, features, hidden, generator=generator) * math.sqrt(2 / (features + hidden))
    ).requires_grad_()
    out_KMN = (
        torch.randn(count, hidden, features, generator=generator) * math.sqrt(2 / (features + hidden))
    ).requires_grad_()
    bias_K1N = torch.zeros(count, 1, features, requires_grad=True)
    importance_K1N = torch.tensor(plan.importance)[:, None, :]
    optimiser = torch.optim.AdamW(
        [into_KNM, out_KMN, bias_K1N], lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    recent_K, tail = torch.zeros(count), max(1, plan.steps // 20)
    for step in range(1, plan.steps + 1):
        size_KBN = draw_inputs(plan, count, plan.batch, generator)
        x_KBN = size_KBN * (torch.randint(0, 2, size_KBN.shape, generator=generator) * 2 - 1)
        with torch.enable_grad():
            output_KBN = torch.relu(torch.baddbmm(bias_K1N, torch.relu(torch.bmm(x_KBN, into_KNM)), out_KMN))
            losses_K = ((output_KBN - size_KBN).square() * importance_K1N).mean(dim=(1, 2))
        optimiser.zero_grad()
        losses_K.sum().backward()
        optimiser.step()
        if step > plan.steps - tail:
            recent_K += losses_K.detach() / tail
    empty = torch.zeros(0, count, features, hidden)
    loss = tuple(recent_K.tolist())
    return ToyModels(plan, into_KNM.detach(), bias_K1N.detach()[:, 0], loss, (), empty)
