"""Rollouts of one round of reinforcement learning: replies, their advantages, and what is reported of them.

Shapes: P prompts, K replies a prompt, T tokens of a reply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from solon.models.base import Sample, Stop
from solon.models.scalar import ScalarModel
from solon.models.scoring import Group, reply_hidden, score_groups
from solon.models.torch_model import TorchModel
from solon.pool.maps import batched
from solon.training.losses import generalised_advantages, kl_k1, kl_k3, leave_one_out
from solon.training.parallel import World
from solon.training.steps import Diverged, Rollout
from solon.words.conversation import Conversation

Reward = Callable[[Sequence[Conversation], Sequence[Sample]], Sequence[float]]


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """The replies to one prompt of a round; lists have one entry for each reply.

    `index` is the prompt's among the prompts of the round. `old_logprobs` (T) are those of the policy that
    sampled. `advantages` are () a reply in RLOO and (T) in PPO; `returns` (T), in PPO only, are the critic's
    targets.
    """

    index: int
    group: Group
    old_logprobs: list[Tensor]
    advantages: list[Tensor]
    returns: list[Tensor]


def sample_rollouts(
    policy: TorchModel,
    prompts: Sequence[Conversation],
    seeds: Sequence[Sequence[int]],
    reward: Reward,
    *,
    max_tokens: int,
) -> list[list[Rollout]]:
    """Sample one reply for each of a prompt's seeds, and reward all of them; prompt by prompt."""
    samples = policy.sample_with_seeds(prompts, seeds, max_tokens=max_tokens)
    flat = [(prompt, sample) for prompt, row in zip(prompts, samples, strict=True) for sample in row]
    rewards = reward([prompt for prompt, _ in flat], [sample for _, sample in flat])
    rollouts = [Rollout(*row, float(value)) for row, value in zip(flat, rewards, strict=True)]
    return list(batched(rollouts, len(seeds[0])))


def make_rollout_groups(
    policy: TorchModel,
    reference: TorchModel,
    critic: ScalarModel | None,
    rollouts: Mapping[int, Sequence[Rollout]],
    *,
    kl_coefficient: float,
    gae_lambda: float,
    world: World,
) -> tuple[list[RolloutGroup], dict[str, float]]:
    """Advantages from rewards less kl_coefficient * KL, without gradients; `rollouts` are by index of their
    prompt. Also returns means over all processes, in nats: the KL by two estimators and the total reward of a
    reply, and the entropy of a token.

    Raises Diverged where a reward or a KL is not finite, on any process.
    """
    groups: list[Group] = [
        (policy.dialogue.prompt(row[0].prompt), [rollout.sample.tokens for rollout in row])
        for row in rollouts.values()
    ]
    old, anchors = score_groups(policy.module, groups), score_groups(reference.module, groups)
    pairs_P_K = [list(zip(*rows, strict=True)) for rows in zip(old, anchors, strict=True)]
    kl_P_K = [[kl_k1(*pair) for pair in row] for row in pairs_P_K]
    totals_PK = torch.tensor(
        [
            [rollout.reward - kl_coefficient * kl for rollout, kl in zip(*rows, strict=True)]
            for rows in zip(rollouts.values(), kl_P_K, strict=True)
        ]
    )
    if not all(world.all_gather(bool(torch.isfinite(totals_PK).all()))):
        raise Diverged("a reward or a KL is not finite; the reward model or the policy has broken down")
    if critic is None:
        advantages = [list(row) for row in leave_one_out(totals_PK)]
        returns: list[list[Tensor]] = [[] for _ in groups]
    else:
        values = token_values(critic, groups)
        advantages, returns = normalised_advantages(totals_PK, values, gae_lambda=gae_lambda, world=world)
    sums = world.all_reduce(
        {
            "kl_k1": sum(map(sum, kl_P_K)),
            "kl_k3": sum(kl_k3(*pair) for row in pairs_P_K for pair in row),
            "entropy": -sum(float(reply.sum()) for row in old for reply in row),
            "total_reward": float(totals_PK.sum()),
            "replies": totals_PK.numel(),
            "tokens": sum(len(reply) for row in old for reply in row),
        }
    )
    rows = zip(rollouts, groups, old, advantages, returns, strict=True)
    return [RolloutGroup(*row) for row in rows], {
        name: sums[name] / sums["tokens" if name == "entropy" else "replies"]
        for name in ("kl_k1", "kl_k3", "entropy", "total_reward")
    }


def normalised_advantages(
    totals_PK: Tensor, values: Sequence[Sequence[Tensor]], *, gae_lambda: float, world: World
) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """Advantages (T) of each reply by GAE, normalised over the batch of all processes, and returns (T).

    The whole reward `totals_PK` comes at a reply's last token. `values` (T) are those before each token.
    """
    advantages: list[list[Tensor]] = []
    for totals_K, values_K in zip(totals_PK, values, strict=True):
        rewards = [
            torch.cat([torch.zeros(len(values_T) - 1), total[None]])
            for total, values_T in zip(totals_K, values_K, strict=True)
        ]
        advantages.append(
            [
                generalised_advantages(rewards_T, values_T, discount=1.0, gae_lambda=gae_lambda)
                for rewards_T, values_T in zip(rewards, values_K, strict=True)
            ]
        )
    returns = [[a + v for a, v in zip(*rows, strict=True)] for rows in zip(advantages, values, strict=True)]
    batch = torch.cat(world.all_gather(torch.cat([reply for row in advantages for reply in row])))
    scale = batch.std().clamp(min=1e-8) if batch.numel() > 1 else torch.ones(())
    return [[(reply - batch.mean()) / scale for reply in row] for row in advantages], returns


@torch.inference_mode()
def token_values(critic: ScalarModel, groups: Sequence[Group]) -> list[list[Tensor]]:
    """The critic's value before each token of each reply (T), group by group, without gradients."""
    values = []
    for group in groups:
        hidden_NC, _, lengths = reply_hidden(critic.backbone, [group])
        values.append([reply.cpu() for reply in critic.apply_head(hidden_NC).split(lengths)])
    return values


def gather_rollouts(world: World, rollouts: Mapping[int, Sequence[Rollout]]) -> tuple[Rollout, ...]:
    """The rollouts of all processes, in the order of the round's prompts."""
    everyone = {index: row for part in world.all_gather(rollouts) for index, row in part.items()}
    return tuple(rollout for index in sorted(everyone) for rollout in everyone[index])


def describe(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Mean reward, mean length in tokens, and the share of replies cut off by the token limit."""
    return {
        "reward": sum(rollout.reward for rollout in rollouts) / len(rollouts),
        "length": sum(len(rollout.sample.tokens) for rollout in rollouts) / len(rollouts),
        "truncated": sum(rollout.sample.stop is Stop.LENGTH for rollout in rollouts) / len(rollouts),
    }
