"""Losses and advantages as pure functions, each with its equation.

Shapes: P prompts, K replies a prompt, T tokens, N any number.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LossTotal:
    """A loss summed over one micro-batch, the weight to divide it by after all micro-batches, and sums to
    report in the same way.
    """

    loss: Tensor
    weight: float
    sums: dict[str, float] = field(default_factory=dict)


def preference_loss(difference_N: Tensor, p_first_N: Tensor) -> Tensor:
    """-[p log s(d) + (1 - p) log s(-d)], d = r_first - r_second in nats (Constitutional AI stage 2; with p =
    1, the log(1 + exp(r_bad - r_good)) of HH-RLHF section 2).

    >>> preference_loss(torch.tensor([0.0]), torch.tensor([1.0])).item() == torch.tensor(2.0).log().item()
    True
    """
    return -(p_first_N * F.logsigmoid(difference_N) + (1 - p_first_N) * F.logsigmoid(-difference_N))


def leave_one_out(rewards_PK: Tensor) -> Tensor:
    """RLOO advantages (P, K): each reward less the mean of the other replies to its prompt (Kool et al. 2019;
    Ahmadian et al. 2024).

    >>> leave_one_out(torch.tensor([[1.0, 2.0, 6.0]])).tolist()
    [[-3.0, -1.5, 4.5]]
    """
    replies = rewards_PK.shape[1]
    return (rewards_PK - rewards_PK.mean(dim=1, keepdim=True)) * replies / (replies - 1)


def clipped_loss(logprob_N: Tensor, old_N: Tensor, advantage_N: Tensor, clip: float) -> Tensor:
    """-min(ratio A, clamp(ratio, 1 - clip, 1 + clip) A) (N,), ratio = exp(logprob - old) (Schulman et al.
    2017, equation 7).
    """
    ratio_N = (logprob_N - old_N).exp()
    return -torch.minimum(ratio_N * advantage_N, ratio_N.clamp(1 - clip, 1 + clip) * advantage_N)


def generalised_advantages(
    rewards_T: Tensor, values_T: Tensor, *, discount: float, gae_lambda: float
) -> Tensor:
    """A_t = sum_l (discount lambda)^l delta_{t+l}, delta_t = r_t + discount V_{t+1} - V_t, V after the last
    token 0 (GAE; Schulman et al. 2015, equation 16); (T,).

    >>> rewards, values = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5])
    >>> generalised_advantages(rewards, values, discount=1.0, gae_lambda=1.0).tolist()
    [0.5, 0.5]
    """
    advantages = torch.zeros_like(rewards_T)
    carried = torch.zeros((), dtype=rewards_T.dtype)
    for t in range(len(rewards_T) - 1, -1, -1):
        following = values_T[t + 1] if t + 1 < len(rewards_T) else torch.zeros_like(values_T[t])
        carried = rewards_T[t] + discount * following - values_T[t] + discount * gae_lambda * carried
        advantages[t] = carried
    return advantages


def kl_k1(logprobs_T: Tensor, reference_T: Tensor) -> float:
    """log pi(x) - log pi0(x) of one whole reply x sampled from pi, in nats: unbiased, may be negative."""
    return float((logprobs_T - reference_T).sum())


def kl_k3(logprobs_T: Tensor, reference_T: Tensor) -> float:
    """sum_t (e^-d - 1 + d), d = log pi - log pi0 at token t, in nats: never negative, of lower variance."""
    difference_T = logprobs_T - reference_T
    return float(((-difference_T).exp() - 1 + difference_T).sum())
