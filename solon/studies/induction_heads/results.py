"""What is measured of the models trained here, and how it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np

from solon.interpretability.induction import DRAWS, Head, HeadScores
from solon.records.run import Run
from solon.statistics.intervals import Estimate


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One model at one step: its loss (nats a token), in-context score by row, prefix matching and attention
    to the previous token of the best head of each layer, and the losses of single tokens.
    """

    step: int
    loss: float
    in_context: tuple[float, ...]
    prefix: tuple[float, ...]
    previous: tuple[float, ...]
    single: tuple[float, ...]

    @property
    def score(self) -> float:
        """The mean in-context score."""
        return float(np.mean(self.in_context))


@dataclass(frozen=True, slots=True)
class Ablation:
    """In-context scores by row: of the model as it is, without its best induction head, without all of them,
    and without one other head, on average over these. How many induction heads there are.
    """

    clean: tuple[float, ...]
    best: tuple[float, ...]
    inducers: tuple[float, ...]
    others: tuple[float, ...]
    best_head: Head
    count: int


@dataclass(slots=True)
class Results:
    """By kind of model: its snapshots, the heads it ends with, what is lost without them, and how far its
    logits are from the sum of its paths.
    """

    curves: dict[str, list[Snapshot]] = field(default_factory=dict)
    heads: dict[str, HeadScores] = field(default_factory=dict)
    ablations: dict[str, Ablation] = field(default_factory=dict)
    path_errors: dict[str, float] = field(default_factory=dict)


def keep_scores(run: Run, name: str, score: Callable[[], HeadScores]) -> HeadScores:
    """The scores of all heads, computed once and read back."""
    kept = run.once(name, lambda: {field: array.tolist() for field, array in asdict(score()).items()})
    return HeadScores(**{field: np.array(values) for field, values in kept.items()})


def prefix_estimate(scores: HeadScores, head: Head) -> Estimate:
    """A head's prefix matching with a t interval over draws: 9 degrees of freedom."""
    value, half = float(scores.prefix_LH[head]), 2.26 * float(scores.prefix_error_LH[head])
    return Estimate(value, value - half, value + half, "t over draws", DRAWS, DRAWS)
