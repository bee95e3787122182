"""The autoencoder that is looked into, where it stands, and what it does on held-out rows.

Shapes: P tokens of the held-out rows, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from solon.interpretability.autoencoder import Autoencoder
from solon.interpretability.features import FeatureActivations, sample_by_interval
from solon.interpretability.steering import HookSite
from solon.interpretability.stream import within_norm
from solon.models.base import Tokens

FEWEST = 5  # firings of a feature that is shown
INTERVALS, EACH = 4, 5  # of activation, and examples of each


@dataclass(frozen=True, slots=True)
class Sample:
    """Held-out rows and their activations (tokens, D), in the order of rows."""

    rows: tuple[Tokens, ...]
    activations: Tensor
    limit: float = math.inf

    def parts(self) -> Iterator[Tensor]:
        """Those that are not too long, a few at a time."""
        return within_norm(iter(self.activations.split(4096)), self.limit)

    @property
    def left_out(self) -> int:
        """How many activations are too long."""
        return len(self.activations) - sum(map(len, self.parts()))


@dataclass(frozen=True, slots=True)
class Subject:
    """An autoencoder at its site, what its features do on a sample, and how a token is spelled."""

    site: HookSite
    autoencoder: Autoencoder
    sample: Sample
    activations: FeatureActivations
    spelled: Callable[[int], str]
    seed: int

    @property
    def per_row(self) -> int:
        """Tokens of a row that are looked at."""
        return len(self.sample.rows[0]) - self.site.skip

    @property
    def tokens_P(self) -> npt.NDArray[np.int64]:
        """The tokens that are looked at, row after row."""
        return np.array([token for row in self.sample.rows for token in row[self.site.skip :]])

    def examples(self, feature: int) -> list[tuple[str, list[int]]]:
        """(title, positions) of each interval of a feature's activation, highest first."""
        positions, values = self.activations.of_feature(feature)
        drawn = sample_by_interval(values, intervals=INTERVALS, each=EACH, seed=self.seed)
        titled = []
        for number, indices in enumerate(drawn):
            high, low = 100 * (INTERVALS - number) // INTERVALS, 100 * (INTERVALS - number - 1) // INTERVALS
            kind = "Highest" if number == 0 else "Drawn from"
            if indices:
                title = f"{kind} {low} to {high}% of the largest activation"
                titled.append((title, [int(positions[index]) for index in indices]))
        return titled


def select_features(activations: FeatureActivations, count: int, seed: int) -> list[int]:
    """Features to look at: half of them the strongest that fire on no more than a twentieth of the tokens,
    half drawn from the rest that fire at all.
    """
    counts_F = np.diff(activations.starts_F)
    alive = np.flatnonzero(counts_F >= FEWEST)
    heights = {int(feature): float(activations.of_feature(int(feature))[1].max()) for feature in alive}
    rare = [feature for feature in heights if counts_F[feature] <= activations.tokens / 20]
    strongest = sorted(rare, key=lambda feature: -heights[feature])[: (count + 1) // 2]
    others = [feature for feature in heights if feature not in set(strongest)]
    drawn = np.random.default_rng(seed).permutation(np.array(others, dtype=int))[: count - len(strongest)]
    return [*strongest, *map(int, drawn)]
