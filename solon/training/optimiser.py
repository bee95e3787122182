"""AdamW with a learning-rate schedule and gradient clipping; its whole state is a dict of named tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from solon.errors import InputError
from solon.models.weights import full_tensor, trainable_parameters
from solon.training.parallel import SINGLE_PROCESS, World, shard_like
from solon.training.steps import Diverged, State


@dataclass(frozen=True, slots=True)
class Plan:
    """How to optimise. The learning rate rises linearly over `warmup` steps, then follows the schedule to the
    last step; `stable_decay` is constant and falls to 0 over the last fifth.

    `clip` is the largest norm of the gradient. `bf16` computes in bfloat16 by autocast over weights in fp32;
    a frozen base keeps its precision.
    """

    steps: int
    learning_rate: float
    warmup: int = 0
    schedule: Literal["constant", "linear", "cosine", "stable_decay"] = "constant"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float = 1.0
    bf16: bool = False


def learning_rate(plan: Plan, step: int) -> float:
    """The learning rate of step 1, 2, ...

    >>> [learning_rate(Plan(4, 1.0, warmup=2, schedule="linear"), step) for step in (1, 2, 3, 4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    if step <= plan.warmup:
        return plan.learning_rate * step / plan.warmup
    progress = (step - 1 - plan.warmup) / max(plan.steps - plan.warmup, 1)
    factors = {
        "constant": 1.0,
        "linear": 1 - progress,
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        "stable_decay": min(1.0, 5 * (1 - progress)),
    }
    return plan.learning_rate * factors[plan.schedule]


class Optimiser:
    """AdamW over the parameters of a module that require gradients: the mutable state of a training loop.

    Raises InputError where nothing trains, or a trainable parameter is not in fp32.
    """

    def __init__(self, module: nn.Module, plan: Plan, world: World = SINGLE_PROCESS) -> None:
        self.world = world
        self.parameters = trainable_parameters(module)
        if not self.parameters:
            raise InputError("nothing in this module trains: give it adapters, or unfreeze it")
        low = [name for name, parameter in self.parameters.items() if parameter.dtype != torch.float32]
        if low:
            raise InputError(
                f"{low[0]} trains in {self.parameters[low[0]].dtype}; small updates would be lost, so "
                "train in float32"
            )
        self.plan = plan
        self.adam = torch.optim.AdamW(
            list(self.parameters.values()),
            lr=plan.learning_rate,
            betas=plan.betas,
            weight_decay=plan.weight_decay,
            fused=True,
        )

    def step(self, number: int, *, weight: float) -> dict[str, float]:
        """Divide the accumulated gradients by `weight`, clip their norm, and take step `number`; returns the
        norm before clipping and the learning rate.

        Raises Diverged, without a step, where they are not finite.
        """
        rate = learning_rate(self.plan, number)
        gradients = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        share = weight / self.world.size  # FSDP averages gradients over processes
        norm = float(full_tensor(nn.utils.get_total_norm(gradients))) / share
        if not math.isfinite(norm):
            self.zero_grad()
            raise Diverged(
                f"the gradient at step {number} is not finite; lower the learning rate ({rate:g}) or look "
                "at the data"
            )
        for group in self.adam.param_groups:
            group["lr"] = rate
        divisor = share / min(1.0, self.plan.clip / (norm + 1e-6))
        if self.world.size == 1:
            # the fused step divides gradients by this as it reads them, without another pass
            scaled: Any = self.adam
            scaled.grad_scale, scaled.found_inf = (
                torch.full((), value, device=gradients[0].device) for value in (divisor, 0.0)
            )
        else:
            torch._foreach_div_(gradients, divisor)
        self.adam.step()
        # the fused step does not, and fingerprints depend on it
        torch.autograd.graph.increment_version(self.parameters.values())
        self.zero_grad()
        return {"gradient_norm": norm, "learning_rate": rate}

    def zero_grad(self) -> None:
        """Drop the accumulated gradients."""
        self.adam.zero_grad(set_to_none=True)

    def state(self, prefix: str = "") -> State:
        """Parameters and moments by name, each after `prefix`; good until the next step."""
        state: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            state[f"{prefix}parameter:{name}"] = parameter.detach()
            for key, value in self.adam.state[parameter].items():
                state[f"{prefix}{key}:{name}"] = value
        return state

    def restore(self, state: Mapping[str, Tensor], prefix: str = "") -> None:
        """Load what `state` returned, bit for bit."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(shard_like(state[f"{prefix}parameter:{name}"], parameter))
                keys = ("step", "exp_avg", "exp_avg_sq")
                moments = {
                    key: state[f"{prefix}{key}:{name}"].clone()
                    for key in keys
                    if f"{prefix}{key}:{name}" in state
                }
                if moments:
                    self.adam.state[parameter] = {
                        key: value.to(parameter.device) if key == "step" else shard_like(value, parameter)
                        for key, value in moments.items()
                    }
