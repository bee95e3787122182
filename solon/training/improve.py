"""Reinforcement learning against a reward: sample, reward, step. RLOO and PPO share everything but the
advantage.

What the papers leave unpublished and is therefore ours: lambda of GAE, value network, batch and minibatch
sizes, advantage normalisation (PPO only), optimiser constants (docs/decisions/004-unpublished-constants.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from solon.errors import InputError
from solon.models.base import Sample, Stop, derive, row_seeds
from solon.models.scalar import ScalarModel
from solon.models.scoring import Group, group_length, reply_hidden, reply_logprobs, score_groups
from solon.models.torch_model import TorchModel
from solon.training.backoff import OutOfMemoryBackoff
from solon.training.fit import micro_batches, numbered_state, shuffled_batch
from solon.training.losses import clipped_loss, generalised_advantages, kl_k1, kl_k3, leave_one_out
from solon.training.optimiser import Optimiser, Plan
from solon.training.parallel import SINGLE_PROCESS, World
from solon.training.steps import Diverged, Rollout, State, Step
from solon.words.conversation import Conversation

Reward = Callable[[Sequence[Conversation], Sequence[Sample]], Sequence[float]]


@dataclass(frozen=True, slots=True)
class RLConfig:
    """How to improve a policy.

    The reward of a reply is r - kl_coefficient * KL, the KL (k1: log-ratio) summed over the reply in nats
    (HH-RLHF section 4.1; 0.001 there). PPO: clip 0.2, `epochs` passes over each batch of samples, entropy
    bonus 0, discount 1. Samples are drawn at temperature 1 without truncation, so their distribution is the
    policy's own.
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


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """One prompt, its replies, and what each reply's tokens earned. Lists run over the K replies."""

    place: int  # among the prompts of the round
    group: Group
    old: list[Tensor]
    advantages: list[Tensor]
    returns: list[Tensor]


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

    Going on from `state` equals never having stopped, bit for bit: prompts and samples depend on seed and
    step alone. In a `world` of several processes each calls this with the same arguments, samples its share
    of the prompts, and yields the rollouts of all; the reward, the reference and the critic's start are whole
    on each.

    Raises InputError where policy and reference share trainable weights, or PPO is given no critic; Diverged
    as `fit`.
    """
    check_inputs(policy, reference, critic, config, prompts, world)
    drawing = policy.rounded() if config.plan.bf16 else policy
    world.shard(policy.module)
    optimiser = Optimiser(policy.module, config.plan, world)
    value_plan = Plan(
        config.plan.steps, config.value_learning_rate, clip=config.plan.clip, bf16=config.plan.bf16
    )
    value_optimiser = None
    if critic is not None:
        world.shard(critic)
        value_optimiser = Optimiser(critic, value_plan, world)
    backoff = OutOfMemoryBackoff(
        (policy.module, optimiser),
        *([(critic, value_optimiser)] if critic is not None and value_optimiser is not None else []),
        world=world,
    )
    start = 0
    if state is not None:
        start = int(state["number"])
        optimiser.restore(state)
        if value_optimiser is not None:
            value_optimiser.restore(state, "critic:")
    for number in range(start + 1, config.plan.steps + 1):
        asked = shuffled_batch(prompts, size=config.prompts, seed=seed, number=number)
        seeds = row_seeds(asked, count=config.samples, seed=derive(seed, "rollouts", number))
        places = range(world.rank, len(asked), world.size)
        mine = [asked[place] for place in places]
        with world.unsharded(policy.module), world.unsharded(critic or policy.module):
            copy_parameters(drawing, policy)
            drawn = drawing.sample_with_seeds(
                mine, [seeds[place] for place in places], max_tokens=config.max_tokens
            )
            flat = [(prompt, sample) for prompt, group in zip(mine, drawn, strict=True) for sample in group]
            rewards = reward([prompt for prompt, _ in flat], [sample for _, sample in flat])
            groups = [
                (policy.dialogue.prompt(p), [s.tokens for s in group])
                for p, group in zip(mine, drawn, strict=True)
            ]
            # as `update` computes them
            with torch.autocast(policy.module.device.type, torch.bfloat16, enabled=config.plan.bf16):
                rollout_groups, divergence = make_rollout_groups(
                    policy, reference, critic, dict(zip(places, groups, strict=True)), rewards, config, world
                )
        before = training_state(number, optimiser, value_optimiser, copied=True)
        try:
            learned = update(
                policy, critic, optimiser, value_optimiser, rollout_groups, config, number, backoff
            )
        # perhaps in a later pass of this round: the weights go back to those of the last good one
        except Diverged:
            optimiser.restore(before)
            if value_optimiser is not None:
                value_optimiser.restore(before, "critic:")
            raise
        own = [Rollout(p, s, float(r)) for (p, s), r in zip(flat, rewards, strict=True)]
        rollouts = gather_rollouts(world, places, own, config.samples)
        yield Step(
            number,
            {**describe(rollouts), **divergence, **learned},
            partial(training_state, number, optimiser, value_optimiser),
            rollouts,
        )


@torch.no_grad()
def copy_parameters(drawing: TorchModel, policy: TorchModel) -> None:
    """Give the rounded copy that samples the policy's weights of now."""
    for old, new in zip(drawing.module.parameters(), policy.module.parameters(), strict=True):
        if old.data_ptr() != new.data_ptr():
            old.copy_(new)


def gather_rollouts(
    world: World, places: Sequence[int], own: Sequence[Rollout], samples: int
) -> tuple[Rollout, ...]:
    """The rollouts of all processes in the order of the round's prompts."""
    found = {
        place: own[start : start + samples]
        for start, place in zip(range(0, len(own), samples), places, strict=True)
    }
    everyone = {place: group for part in world.all_gather(found) for place, group in part.items()}
    return tuple(rollout for place in sorted(everyone) for rollout in everyone[place])


def training_state(
    number: int, optimiser: Optimiser, value_optimiser: Optimiser | None, *, copied: bool = False
) -> State:
    """The whole state after a round: policy, critic, their moments; `copied` where it must outlive the next
    step.
    """
    state = numbered_state(
        number, {**optimiser.state(), **(value_optimiser.state("critic:") if value_optimiser else {})}
    )
    return {name: tensor.clone() for name, tensor in state.items()} if copied else state


def check_inputs(
    policy: TorchModel,
    reference: TorchModel,
    critic: ScalarModel | None,
    config: RLConfig,
    prompts: Sequence[Conversation],
    world: World,
) -> None:
    """Refuse what could only go wrong later."""
    if not prompts:
        raise InputError("there are no prompts to practise on")
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


def make_rollout_groups(
    policy: TorchModel,
    reference: TorchModel,
    critic: ScalarModel | None,
    asked: Mapping[int, Group],
    rewards: Sequence[float],
    config: RLConfig,
    world: World,
) -> tuple[list[RolloutGroup], dict[str, float]]:
    """Advantages of every token, from rewards less the KL term; and the KL of the batch by two estimators."""
    groups = list(asked.values())
    old, ref = score_groups(policy.module, groups), score_groups(reference.module, groups)
    kl = [
        [kl_k1(mine, theirs) for mine, theirs in zip(*pair, strict=True)]
        for pair in zip(old, ref, strict=True)
    ]
    k3 = [
        kl_k3(mine, theirs) for pair in zip(old, ref, strict=True) for mine, theirs in zip(*pair, strict=True)
    ]
    scores = iter(rewards)
    totals_PK = torch.tensor([[next(scores) - config.kl_coefficient * own for own in row] for row in kl])
    if not all(world.all_gather(bool(torch.isfinite(totals_PK).all()))):
        raise Diverged("a reward or a KL is not finite; the reward model or the policy has broken down")
    values = values_of(critic, groups) if critic is not None else None
    advantages, returns = advantages_of(totals_PK, old, values, config, world)
    rollout_groups = [
        RolloutGroup(*found) for found in zip(asked, groups, old, advantages, returns, strict=True)
    ]
    sums = {
        "kl_k1": sum(map(sum, kl)),
        "kl_k3": sum(k3),
        "entropy": -sum(float(reply.sum()) for row in old for reply in row),
        "total_reward": float(totals_PK.sum()),
        "replies": totals_PK.numel(),
        "tokens": sum(len(reply) for row in old for reply in row),
    }
    every = world.all_reduce(sums)
    per = {"entropy": "tokens"}
    return rollout_groups, {
        name: every[name] / every[per.get(name, "replies")]
        for name in ("kl_k1", "kl_k3", "entropy", "total_reward")
    }


def advantages_of(
    totals_PK: Tensor,
    old: list[list[Tensor]],
    values: list[list[Tensor]] | None,
    config: RLConfig,
    world: World = SINGLE_PROCESS,
) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """For RLOO one number a reply, the same for the reply as a whole; for PPO one a token by GAE, normalised
    over the batch. The whole reward stands at the last token.
    """
    if values is None:
        own_PK = leave_one_out(totals_PK)
        return [[own_PK[p, k] for k in range(len(row))] for p, row in enumerate(old)], [[] for _ in old]
    advantages: list[list[Tensor]] = []
    for totals, row in zip(totals_PK, values, strict=True):
        rewards = [
            torch.cat([torch.zeros(len(own) - 1), total[None]])
            for total, own in zip(totals, row, strict=True)
        ]
        advantages.append(
            [
                generalised_advantages(r, v, discount=1.0, gae_lambda=config.gae_lambda)
                for r, v in zip(rewards, row, strict=True)
            ]
        )
    returns = [[a + v for a, v in zip(*pair, strict=True)] for pair in zip(advantages, values, strict=True)]
    every = torch.cat(world.all_gather(torch.cat([own for row in advantages for own in row])))
    scale = every.std().clamp(min=1e-8) if every.numel() > 1 else torch.ones(())
    return [[(own - every.mean()) / scale for own in row] for row in advantages], returns


def values_of(critic: ScalarModel, groups: Sequence[Group]) -> list[list[Tensor]]:
    """V before each reply token, without gradients."""
    found = []
    with torch.inference_mode():
        for group in groups:
            hidden_NC, _, lengths = reply_hidden(critic.backbone, [group])
            found.append([part.cpu() for part in critic.apply_head(hidden_NC).split(lengths)])
    return found


def describe(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Reward, length in tokens, and the share of replies that were cut off by the token limit."""
    return {
        "reward": sum(rollout.reward for rollout in rollouts) / len(rollouts),
        "length": sum(len(rollout.sample.tokens) for rollout in rollouts) / len(rollouts),
        "truncated": sum(rollout.sample.stop is Stop.LENGTH for rollout in rollouts) / len(rollouts),
    }


def update(
    policy: TorchModel,
    critic: ScalarModel | None,
    optimiser: Optimiser,
    value_optimiser: Optimiser | None,
    rollout_groups: Sequence[RolloutGroup],
    config: RLConfig,
    number: int,
    backoff: OutOfMemoryBackoff,
) -> dict[str, float]:
    """`epochs` passes over the trials, `minibatches` optimiser steps each."""
    sums = {"loss": 0.0, "clipped": 0.0, "value_loss": 0.0}
    passes, world = config.epochs * config.minibatches, backoff.world
    metrics: dict[str, float] = {}
    for turn in range(passes):
        part = [
            rollout_group
            for rollout_group in rollout_groups
            if rollout_group.place % config.minibatches == turn % config.minibatches
        ]
        weight = world.all_reduce({"weight": _weight(part, config)})["weight"]
        parts = micro_batches(
            part, lambda rollout_group: group_length(rollout_group.group), tokens=config.micro_tokens
        )
        found = backoff.run(
            number,
            parts,
            lambda some: accumulate_gradients(policy, critic, some, rollout_groups[:1], config, world),
        )
        for name, own in found.items():
            sums[name] += own / weight / passes
        if not math.isfinite(sums["loss"] + sums["value_loss"]):
            raise Diverged(
                f"the loss at step {number} is not finite; lower the learning rate "
                f"({config.plan.learning_rate:g})"
            )
        metrics = optimiser.step(number, weight=weight)
        if value_optimiser is not None:
            value_optimiser.step(number, weight=weight)
    return {**metrics, **sums}


def accumulate_gradients(
    policy: TorchModel,
    critic: ScalarModel | None,
    parts: Sequence[Sequence[RolloutGroup]],
    spare: Sequence[RolloutGroup],
    config: RLConfig,
    world: World,
) -> dict[str, float]:
    """Gather the gradients of all micro-batches on policy and critic; returns the sums over all of them."""
    found = {"loss": 0.0, "clipped": 0.0, "value_loss": 0.0}
    for some, counted in world.pad_parts(parts, spare):
        with torch.autocast(policy.module.device.type, torch.bfloat16, enabled=config.plan.bf16):
            loss, clipped = world.run(policy.module, lambda some=some: policy_loss(policy, some, config))  # type: ignore[misc]
        (loss * counted).backward()
        found["loss"] += loss.item() * counted
        found["clipped"] += clipped * counted
        if critic is not None:
            with torch.autocast(policy.module.device.type, torch.bfloat16, enabled=config.plan.bf16):
                value_loss = world.run(critic, lambda some=some: critic_loss(critic, some))  # type: ignore[misc]
            (value_loss * counted).backward()
            found["value_loss"] += value_loss.item() * counted
    return world.all_reduce(found)


def _weight(rollout_groups: Sequence[RolloutGroup], config: RLConfig) -> float:
    """Replies for RLOO, whose ratio is the reply's; tokens for PPO, whose ratio is the token's."""
    return float(
        sum(
            1 if config.method == "rloo" else len(old)
            for rollout_group in rollout_groups
            for old in rollout_group.old
        )
    )


def policy_loss(
    policy: TorchModel, rollout_groups: Sequence[RolloutGroup], config: RLConfig
) -> tuple[Tensor, float]:
    """The clipped loss, summed; and how many ratios were outside the clip."""
    device = policy.module.device
    new = reply_logprobs(policy.module, [rollout_group.group for rollout_group in rollout_groups])
    old = [reply.to(device) for rollout_group in rollout_groups for reply in rollout_group.old]
    advantages = [own.to(device) for rollout_group in rollout_groups for own in rollout_group.advantages]
    if config.method == "rloo":
        now_N, then_N = (
            torch.stack([reply.sum() for reply in new]),
            torch.stack([reply.sum() for reply in old]),
        )
        advantage_N = torch.stack(advantages)
    else:
        now_N, then_N, advantage_N = torch.cat(new), torch.cat(old), torch.cat(advantages)
    if config.epochs == config.minibatches == 1:
        # on-policy: the ratio is one, whatever rounding differs between the two passes
        then_N = now_N.detach()
    outside = ((now_N - then_N).exp() - 1).abs() > config.clip
    return clipped_loss(now_N, then_N, advantage_N, config.clip).sum(), float(outside.sum())


def critic_loss(critic: ScalarModel, rollout_groups: Sequence[RolloutGroup]) -> Tensor:
    """Half the squared error of V before each reply token, summed."""
    hidden_NC, _, _ = reply_hidden(critic.backbone, [rollout_group.group for rollout_group in rollout_groups])
    target_N = torch.cat([own for rollout_group in rollout_groups for own in rollout_group.returns]).to(
        hidden_NC.device
    )
    return torch.sum(0.5 * (critic.apply_head(hidden_NC) - target_N).square())
