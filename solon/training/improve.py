"""Reinforcement learning against a reward: sample, reward, step. RLOO and PPO differ only in their
advantages.

The papers leave unpublished, so these are ours: lambda of GAE, value network, batch and minibatch sizes,
advantage normalisation (PPO only), optimiser constants (docs/decisions/004-unpublished-constants.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from solon.errors import InputError
from solon.models.base import derive, row_seeds
from solon.models.scalar import ScalarModel
from solon.models.scoring import group_length, reply_hidden, reply_logprobs
from solon.models.torch_model import TorchModel
from solon.training.backoff import OutOfMemoryBackoff
from solon.training.fit import micro_batches, numbered_state, shuffled_batch
from solon.training.losses import clipped_loss
from solon.training.optimiser import Optimiser, Plan
from solon.training.parallel import SINGLE_PROCESS, World
from solon.training.rollouts import (
    Reward,
    RolloutGroup,
    describe,
    gather_rollouts,
    make_rollout_groups,
    sample_rollouts,
)
from solon.training.steps import Diverged, State, Step
from solon.words.conversation import Conversation


@dataclass(frozen=True, slots=True)
class RLConfig:
    """How to train a policy.

    The reward of a reply is r - kl_coefficient * KL, with the KL (k1: log-ratio) summed over the reply in
    nats (HH-RLHF section 4.1; 0.001 there). PPO: clip 0.2, `epochs` passes over each batch of samples,
    entropy bonus 0, discount 1. Samples are drawn from the policy's distribution, at temperature 1 without
    truncation. Raises InputError on values out of range.
    """

    plan: Plan
    method: Literal["rloo", "ppo"] = "rloo"
    prompts: int = 8  # a step
    samples: int = 4  # a prompt
    max_tokens: int = 128
    epochs: int = 1
    minibatches: int = 1
    clip: float = 0.2
    kl_coefficient: float = 0.001
    gae_lambda: float = 0.95
    value_learning_rate: float = 1e-4
    micro_tokens: int = 2048

    def __post_init__(self) -> None:
        if self.method == "rloo" and self.samples < 2:
            raise InputError("RLOO compares replies to one prompt: samples must be at least 2")
        if (
            min(self.prompts, self.samples, self.epochs, self.minibatches) < 1
            or self.minibatches > self.prompts
        ):
            raise InputError(
                "prompts, samples, epochs and minibatches must be at least 1, and minibatches at most prompts"
            )


def improve(
    policy: TorchModel,
    prompts: Sequence[Conversation],
    reward: Reward,
    *,
    reference: TorchModel,
    config: RLConfig,
    seed: int,
    critic: ScalarModel | None = None,
    state: Mapping[str, Tensor] | None = None,
    world: World = SINGLE_PROCESS,
) -> Iterator[Step]:
    """Train `policy` in place against `reward`, yielding each round with its rollouts. `reference` never
    changes.

    A run continued from `state` equals one that never stopped, bit for bit: prompts and samples depend on
    seed and step alone. In a `world` of several processes each calls this with the same arguments, samples
    its share of the prompts, and yields the rollouts of all; the reward, the reference and the critic's start
    are whole on each.

    Raises InputError where policy and reference share trainable weights, or PPO gets no critic; Diverged as
    `fit`.
    """
    check_inputs(policy, prompts, reference=reference, critic=critic, config=config, world=world)
    sampler = policy.rounded() if config.plan.bf16 else policy
    learner = Learner(policy, critic, config, world)
    if state is not None:
        learner.restore(state)
    for number in range(1 if state is None else int(state["number"]) + 1, config.plan.steps + 1):
        batch = shuffled_batch(prompts, size=config.prompts, seed=seed, number=number)
        seeds = row_seeds(batch, count=config.samples, seed=derive(seed, "rollouts", number))
        indices = range(world.rank, len(batch), world.size)  # of this process's prompts
        with world.unsharded(policy.module), world.unsharded(critic or policy.module):
            copy_parameters(policy, sampler)
            rows = sample_rollouts(
                sampler,
                [batch[index] for index in indices],
                [seeds[index] for index in indices],
                reward,
                max_tokens=config.max_tokens,
            )
            rollouts = dict(zip(indices, rows, strict=True))
            with learner.autocast():  # as the update computes them
                groups, kl_metrics = make_rollout_groups(
                    policy,
                    reference,
                    critic,
                    rollouts,
                    kl_coefficient=config.kl_coefficient,
                    gae_lambda=config.gae_lambda,
                    world=world,
                )
        metrics = learner.update(number, groups)
        everyone = gather_rollouts(world, rollouts)
        yield Step(
            number, {**describe(everyone), **kl_metrics, **metrics}, partial(learner.state, number), everyone
        )


@torch.no_grad()
def copy_parameters(source: TorchModel, target: TorchModel) -> None:
    """Copy the parameters of `source` into `target`, a rounded copy of it or the model itself."""
    for new, old in zip(source.module.parameters(), target.module.parameters(), strict=True):
        if old.data_ptr() != new.data_ptr():
            old.copy_(new)


def check_inputs(
    policy: TorchModel,
    prompts: Sequence[Conversation],
    *,
    reference: TorchModel,
    critic: ScalarModel | None,
    config: RLConfig,
    world: World,
) -> None:
    """Raise InputError on arguments of `improve` that could only fail later."""
    if not prompts:
        raise InputError("there are no prompts to train on")
    if config.prompts < world.size:
        raise InputError(
            f"{config.prompts} prompts a step do not keep {world.size} processes busy; ask for at least as "
            "many"
        )
    mine = {parameter.data_ptr() for parameter in policy.module.parameters() if parameter.requires_grad}
    if mine & {parameter.data_ptr() for parameter in reference.module.parameters()}:
        raise InputError("policy and reference share weights that train: give the reference its own copy")
    if (config.method == "ppo") != (critic is not None):
        raise InputError("PPO needs a critic (a ScalarModel of its own), and RLOO takes none")


class Learner:
    """The policy, the critic in PPO, and their optimisers: what a round of rollouts updates."""

    def __init__(
        self, policy: TorchModel, critic: ScalarModel | None, config: RLConfig, world: World
    ) -> None:
        self.policy, self.critic, self.config, self.world = policy, critic, config, world
        plan = config.plan
        value_plan = Plan(plan.steps, config.value_learning_rate, clip=plan.clip, bf16=plan.bf16)
        trained: list[tuple[str, nn.Module, Plan]] = [("", policy.module, plan)]
        if critic is not None:
            trained.append(("critic:", critic, value_plan))
        self.optimisers: dict[str, Optimiser] = {}  # by the prefix of their state's names
        for prefix, module, module_plan in trained:
            world.shard(module)
            self.optimisers[prefix] = Optimiser(module, module_plan, world)
        modules = [module for _, module, _ in trained]
        self.backoff = OutOfMemoryBackoff(*zip(modules, self.optimisers.values(), strict=True), world=world)

    def autocast(self) -> torch.autocast:
        """Computation in bfloat16 where the plan says so."""
        return torch.autocast(self.policy.module.device.type, torch.bfloat16, enabled=self.config.plan.bf16)

    def state(self, number: int) -> State:
        """Weights and moments of policy and critic after round `number`, good until the next update."""
        tensors: State = {}
        for prefix, optimiser in self.optimisers.items():
            tensors |= optimiser.state(prefix)
        return numbered_state(number, tensors)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights and moments of a `state`, bit for bit."""
        for prefix, optimiser in self.optimisers.items():
            optimiser.restore(state, prefix)

    def update(self, number: int, groups: Sequence[RolloutGroup]) -> dict[str, float]:
        """`epochs` passes over the rollouts, `minibatches` optimiser steps each; returns mean losses and the
        last gradient norm.

        Raises Diverged where a loss or a gradient is not finite; weights are then those before the round.
        """
        before = {name: tensor.clone() for name, tensor in self.state(number).items()}
        try:
            return self._update(number, groups)
        except Diverged:  # perhaps in a later pass
            self.restore(before)
            raise

    def _update(self, number: int, groups: Sequence[RolloutGroup]) -> dict[str, float]:
        """The passes of one round; see `update`."""
        config = self.config
        means = {"loss": 0.0, "clipped": 0.0, "value_loss": 0.0}
        passes = config.epochs * config.minibatches
        metrics: dict[str, float] = {}
        for step in range(passes):
            batch = [group for group in groups if (group.index - step) % config.minibatches == 0]
            weight = self.world.all_reduce({"weight": self._weight(batch)})["weight"]
            parts = micro_batches(batch, _tokens, tokens=config.micro_tokens)
            sums = self.backoff.run(number, parts, partial(self._accumulate, spare=groups[:1]))
            for name, value in sums.items():
                means[name] += value / weight / passes
            if not math.isfinite(means["loss"] + means["value_loss"]):
                raise Diverged(
                    f"the loss at step {number} is not finite; lower the learning rate "
                    f"({config.plan.learning_rate:g})"
                )
            steps = [optimiser.step(number, weight=weight) for optimiser in self.optimisers.values()]
            metrics = steps[0]  # the policy's
        return {**metrics, **means}

    def _weight(self, groups: Sequence[RolloutGroup]) -> float:
        """The number of ratios: of replies in RLOO, of tokens in PPO."""
        replies = [reply for group in groups for reply in group.old_logprobs]
        return float(len(replies) if self.config.method == "rloo" else sum(map(len, replies)))

    def _accumulate(
        self, parts: Sequence[Sequence[RolloutGroup]], *, spare: Sequence[RolloutGroup]
    ) -> dict[str, float]:
        """Accumulate the gradients of all micro-batches; returns the sums of the losses of all processes."""
        sums = {"loss": 0.0, "clipped": 0.0, "value_loss": 0.0}
        for groups, counted in self.world.pad_parts(parts, spare):
            with self.autocast():
                call = partial(policy_loss, self.policy, groups, self.config)
                loss, clipped = self.world.run(self.policy.module, call)
            (loss * counted).backward()
            sums["loss"] += loss.item() * counted
            sums["clipped"] += clipped * counted
            if self.critic is not None:
                with self.autocast():
                    value_loss = self.world.run(self.critic, partial(critic_loss, self.critic, groups))
                (value_loss * counted).backward()
                sums["value_loss"] += value_loss.item() * counted
        return self.world.all_reduce(sums)


def _tokens(rollout_group: RolloutGroup) -> int:
    """The number of tokens of a rollout group."""
    return group_length(rollout_group.group)


def policy_loss(policy: TorchModel, groups: Sequence[RolloutGroup], config: RLConfig) -> tuple[Tensor, float]:
    """The clipped loss, summed (see `clipped_loss`), and how many ratios were outside the clip.

    The ratio is of a whole reply in RLOO and of a token in PPO.
    """
    device = policy.module.device
    new = reply_logprobs(policy.module, [group.group for group in groups])
    old = [reply.to(device) for group in groups for reply in group.old_logprobs]
    advantages = [reply.to(device) for group in groups for reply in group.advantages]
    if config.method == "rloo":
        new_N, old_N = (torch.stack([reply.sum() for reply in replies]) for replies in (new, old))
        advantage_N = torch.stack(advantages)
    else:
        new_N, old_N, advantage_N = torch.cat(new), torch.cat(old), torch.cat(advantages)
    if config.epochs == config.minibatches == 1:
        # on-policy: the ratio is one, whatever rounding differs between the two passes
        old_N = new_N.detach()
    outside = ((new_N - old_N).exp() - 1).abs() > config.clip
    return clipped_loss(new_N, old_N, advantage_N, config.clip).sum(), float(outside.sum())


def critic_loss(critic: ScalarModel, groups: Sequence[RolloutGroup]) -> Tensor:
    """Half the squared error of the value before each reply token, summed."""
    hidden_NC, _, _ = reply_hidden(critic.backbone, [group.group for group in groups])
    target_N = torch.cat([reply for group in groups for reply in group.returns]).to(hidden_NC.device)
    return torch.sum(0.5 * (critic.apply_head(hidden_NC) - target_N).square())
