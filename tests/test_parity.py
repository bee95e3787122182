"""Our losses against the peer's own code, run on the same numbers (TRL 1.16; the extra `parity`).

TRL no longer has PPO: its clipped loss lives on in RLOO, and generalised advantages are checked against their
definition in test_training.py instead.
"""

import inspect
import textwrap
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from solon.training.losses import clipped_loss, leave_one_out, preference_loss

trl = pytest.importorskip(
    "trl", reason="trl is not installed: `pip install solon[parity]` to compare with it"
)
reward_trainer = pytest.importorskip("trl.trainer.reward_trainer")
rloo_trainer = pytest.importorskip("trl.trainer.rloo_trainer")
pytestmark = pytest.mark.extra
GENERATOR = torch.Generator().manual_seed(0)


def stand_in(**more: Any) -> SimpleNamespace:
    """What the peer's methods reach for on `self`, none of which touches the loss."""
    accelerator = SimpleNamespace(
        gather_for_metrics=lambda x: x, gather=lambda x: x, reduce=lambda x, reduction="sum": x, device="cpu"
    )
    metrics = defaultdict(lambda: defaultdict(list))
    return SimpleNamespace(
        accelerator=accelerator,
        _metrics=metrics,
        model=SimpleNamespace(training=False),
        _total_train_tokens=0,
        **more,
    )


def test_the_preference_loss_equals_the_peers() -> None:
    scores = torch.randn(32, generator=GENERATOR)
    inputs = {"attention_mask": torch.ones(32, 1)}
    peer = reward_trainer.RewardTrainer.compute_loss(
        stand_in(args=SimpleNamespace(center_rewards_coefficient=None), aux_loss_enabled=False),
        lambda **given: SimpleNamespace(logits=scores[:, None]),
        inputs,
    )
    ours = preference_loss(scores[:16] - scores[16:], torch.ones(16)).mean()
    assert ours.item() == pytest.approx(peer.item(), abs=1e-5)


def test_the_clipped_loss_equals_the_peers() -> None:
    now, then = torch.randn(24, 9, generator=GENERATOR), torch.randn(24, generator=GENERATOR)
    advantages = torch.randn(24, generator=GENERATOR)
    mask = (torch.rand(24, 9, generator=GENERATOR) < 0.8).int()
    inputs = {
        "prompt_ids": torch.zeros(24, 1).long(),
        "prompt_mask": torch.ones(24, 1).int(),
        "completion_ids": torch.zeros(24, 9).long(),
        "completion_mask": mask,
        "old_logps": then,
        "advantages": advantages,
    }
    trainer = stand_in(
        _get_per_token_logps_and_entropies=lambda *given, **more: (now, torch.zeros_like(now), None),
        epsilon_low=0.2,
        epsilon_high=0.2,
        aux_loss_enabled=False,
    )
    peer = rloo_trainer.RLOOTrainer._compute_loss(trainer, None, inputs)
    ours = clipped_loss((now * mask).sum(1), then, advantages, 0.2).mean()
    assert ours.item() == pytest.approx(peer.item(), abs=1e-5)


def test_leave_one_out_equals_the_peers() -> None:
    lines = inspect.getsource(rloo_trainer).splitlines()
    first = next(
        n for n, line in enumerate(lines) if "grouped_rewards = rewards.view(-1, num_generations)" in line
    )
    last = next(n for n, line in enumerate(lines) if n > first and "advantages = rewards - baselines" in line)
    kept = [line for line in lines[first : last + 1] if "std_rewards" not in line and "nanstd" not in line]
    block = textwrap.dedent("\n".join(kept))
    rewards = torch.randn(20, generator=GENERATOR)
    names: dict[str, Any] = {"torch": torch, "rewards": rewards, "num_generations": 4}
    grouped = [
        line
        for line in block.splitlines()
        if line.strip().startswith(("grouped_", "scorable_", "baselines", "advantages"))
    ]
    exec("\n".join(line.strip() for line in grouped), names)
    torch.testing.assert_close(
        leave_one_out(rewards.view(5, 4)).flatten(), names["advantages"], atol=1e-5, rtol=0
    )
