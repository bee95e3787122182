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
    """A warning in plain words where, over some stretch of steps, the train score rose while the test score fell.

    Stretches are of 8, 16, 32 ... steps and the whole; a trend is a straight line more than `threshold` standard errors
    from level, and both must be, so noise does not set it off. The longest stretch, then the latest, is named. None
    where there is none, or too few steps to tell.

    >>> overoptimising(range(20), range(20)) is None
    True
    >>> print(overoptimising([0, 1, 2, 3, 4, 5, 6, 7.1], [0, -1, -2, -3, -4, -5, -6, -7.1]))
    over-optimising: from step 1 to 8 the reward model's score rose by 7.06 nats while the held-out model's fell by 7.06; stop earlier or raise the KL coefficient
    """
    lengths = {len(train)} | {shortest * 2**power for power in range(16) if shortest * 2**power < len(train)}
    for length in sorted(lengths, reverse=True):
        for start in range(len(train) - length, -1, -1):
            if length < shortest:
                continue
            rise, rise_t = _trend(train[start : start + length])
            fall, fall_t = _trend(test[start : start + length])
            if rise_t > threshold and fall_t < -threshold:
                return (
                    f"over-optimising: from step {start + 1} to {start + length} the reward model's score rose by {rise:.2f} nats while "
                    f"the held-out model's fell by {-fall:.2f}; stop earlier or raise the KL coefficient"
                )
    return None


def _trend(values: Sequence[float]) -> tuple[float, float]:
    """The fitted change from first to last, and its slope in standard errors."""
    fitted = stats.linregress(range(len(values)), values)
    size = float(fitted.slope) / max(float(fitted.stderr), 1e-12)
    return float(fitted.slope) * (len(values) - 1), size
