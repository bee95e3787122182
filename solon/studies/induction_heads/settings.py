"""What the study of induction heads needs: its settings, its presets, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from solon.errors import InputError
from solon.models.base import Tokens
from solon.models.torch_model import TorchModel

KINDS = {  # layers, MLPs, smeared keys
    "1 layer": (1, False, False),
    "2 layers": (2, False, False),
    "3 layers": (3, False, False),
    "2 layers with MLPs": (2, True, False),
    "1 layer, smeared keys": (1, False, True),
    "2 layers, smeared keys": (2, False, True),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    kinds: tuple[str, ...] = tuple(KINDS)
    """of the models that are trained; the first two of all are needed"""
    vocabulary: int = 32
    length: int = 64
    """tokens of a row"""
    width: int = 64
    heads: int = 4
    steps: int = 2000
    batch: int = 32
    learning_rate: float = 3e-3
    snapshots: int = 25
    """at which everything is measured, evenly spaced"""
    held_out: int = 256
    """rows"""
    top: int = 10
    """heads of a given model that are listed, and silenced one after another"""
    random_draws: int = 5
    """as many other heads, silenced for comparison"""

    def __post_init__(self) -> None:
        unknown = [own for own in self.kinds if own not in KINDS]
        if unknown or not {"1 layer", "2 layers"} <= set(self.kinds):
            raise InputError(
                f"kinds are among {', '.join(KINDS)}, with 1 layer and 2 layers among them; found "
                f"{', '.join(self.kinds)}"
            )
        if self.length < 12 or self.batch < 2 or self.vocabulary < max(8, self.block):
            raise InputError(
                "rows have at least 12 tokens, a batch 2 rows, and a vocabulary as many tokens as a block "
                f"({self.block}) and 8"
            )
        if (
            self.snapshots < 4
            or self.steps < self.snapshots
            or self.held_out < 8
            or min(self.top, self.random_draws) < 1
        ):
            raise InputError(
                "at least 4 snapshots, no fewer steps, 8 held-out rows, and one head and draw are needed"
            )

    @property
    def block(self) -> int:
        """Tokens of a repeated block that heads are scored on: as long as those that were trained on."""
        return int(self.length * 3 / 8)

    @property
    def early(self) -> int:
        return self.length // 8

    @property
    def late(self) -> int:
        return self.length * 7 // 8


def quick() -> Settings:
    """Minutes on two cores: no third layer."""
    return Settings(kinds=tuple(own for own in KINDS if own != "3 layers"), steps=1200)


def full() -> Settings:
    """All kinds, for longer."""
    return Settings(steps=6000, batch=64, snapshots=50, held_out=1000)


@dataclass(frozen=True, slots=True)
class Given:
    """A model to look into instead: tokens that repeated rows are drawn from, what begins a text, and rows of
    text of one length.
    """

    model: TorchModel
    tokens: tuple[int, ...]
    start: Tokens
    text: tuple[Tokens, ...]
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One model at one step: its loss, in-context score by row, best prefix-matching and previous-token head
    of each layer, and single tokens' losses.
    """

    step: int
    loss: float
    in_context: tuple[float, ...]
    prefix: tuple[float, ...]
    previous: tuple[float, ...]
    single: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Silenced:
    """In-context scores by row as they are, without the best induction head, without all of them, and without
    each other head in turn.
    """

    clean: tuple[float, ...]
    best: tuple[float, ...]
    inducers: tuple[float, ...]
    others: tuple[tuple[float, ...], ...]
    best_head: tuple[int, int]
    count: int


@dataclass(slots=True)
class Findings:
    """Everything the report prints."""

    curves: dict[str, list[Snapshot]] = field(default_factory=dict)
    # kind -> final scores and errors, by layer and head
    prefix: dict[str, tuple[list[list[float]], list[list[float]]]] = field(default_factory=dict)
    copying: dict[str, list[list[float]]] = field(default_factory=dict)
    silenced: dict[str, Silenced] = field(default_factory=dict)
    linear_error: dict[str, float] = field(default_factory=dict)
