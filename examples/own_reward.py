"""Reinforcement learning with a reward function of your own: python own_reward.py MODEL"""

import sys
from collections.abc import Sequence

import solon
from solon.models.adapters import Lora
from solon.models.base import Sample


def brevity(prompts: Sequence[solon.Conversation], samples: Sequence[Sample]) -> list[float]:
    """One point less for every ten tokens: what comes out is short."""
    return [-len(sample.tokens) / 10 for sample in samples]


def main(name: str = "smollm2", steps: int = 4) -> None:
    start = solon.load(name)
    policy = start.adapted(Lora(rank=8, alpha=16.0), seed=0)  # the start's weights are the reference
    prompts = [
        solon.Conversation().human(f"Tell me about {thing}.") for thing in ("rain", "bread", "ships", "time")
    ]
    config = solon.RLConfig(solon.Plan(steps, 1e-3), prompts=4, samples=4, max_tokens=24, kl_coefficient=0.01)
    for step in solon.improve(policy, prompts, brevity, reference=start, config=config, seed=0):
        metrics = step.metrics
        print(step.number, f"reward {metrics['reward']:.2f}", f"KL {metrics['kl_k3']:.3f} nats a reply")
    print(policy.sample(prompts[:1], max_tokens=24, seed=1)[0][0].text)


if __name__ == "__main__":
    main(*sys.argv[1:2])
