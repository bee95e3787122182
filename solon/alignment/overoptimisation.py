"""Watching a policy's reward for the moment it stops meaning anything (HH-RLHF section 4.2).

Two preference models are trained on disjoint halves; the policy climbs one, and the other, which it never sees, says
whether the climb is real.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from scipy import stats

from solon.training.improve import Reward
from solon.training.steps import Step


def watched(steps: Iterator[Step], judges: Mapping[str, Reward], means: Mapping[str, float]) -> Iterator[Step]:
    """The same steps with each judge's mean score of the rollouts, less its mean on a fixed set (appendix B.2: only
    then can two preference models be drawn in one figure).
    """
    for step in steps:
        prompts = [rollout.prompt for rollout in step.rollouts]
        samples = [rollout.sample for rollout in step.rollouts]
        found = {name: sum(judge(prompts, samples)) / len(samples) - means[name] for name, judge in judges.items()}
        yield replace(step, metrics={**step.metrics, **found})


def overoptimising(train: Sequence[float], test: Sequence[float], *, shortest: int = 8, threshold: float = 3.0) -> str | None:
    """A warning in plain words where, over the last steps, the train score has risen and the test score has fallen.

    Both are straight-line trends over the last 8, 16, 32 ... or all steps, each more than `threshold` standard errors
    from level, so noise does not set it off. None where there is no such stretch, or too few steps to tell.

    >>> overoptimising(range(20), range(20)) is None
    True
    >>> print(overoptimising([0, 1, 2, 3, 4, 5, 6, 7.1], [0, -1, -2, -3, -4, -5, -6, -7.1]))
    over-optimising: over the last 8 steps the reward model's score rose by 7.04 nats while the held-out model's fell by 7.04; stop earlier or raise the KL coefficient
    """
    lengths = {len(train)}
    length = shortest
    while length < len(train):
        lengths.add(length)
        length *= 2
    for length in sorted(lengths):
        if length < shortest:
            continue
        rise, rise_t = _trend(train[-length:])
        fall, fall_t = _trend(test[-length:])
        if rise_t > threshold and fall_t < -threshold:
            return (
                f"over-optimising: over the last {length} steps the reward model's score rose by {rise:.2f} nats while "
                f"the held-out model's fell by {-fall:.2f}; stop earlier or raise the KL coefficient"
            )
    return None


def _trend(values: Sequence[float]) -> tuple[float, float]:
    """The fitted change from first to last, and its slope in standard errors."""
    fitted = stats.linregress(range(len(values)), values)
    size = float(fitted.slope) / max(float(fitted.stderr), 1e-12)
    return float(fitted.slope) * (len(values) - 1), size
