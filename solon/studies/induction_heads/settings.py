"""What can be changed about the study of induction heads."""

from __future__ import annotations

from dataclasses import dataclass

from solon.errors import InputError
from solon.study.settings import paper, unpublished


@dataclass(frozen=True, slots=True)
class Kind:
    """A transformer that is trained here: its layers, and whether it has MLPs or smeared keys."""

    layers: int
    mlps: bool = False
    smeared_keys: bool = False


KINDS = {
    "1 layer": Kind(1),
    "2 layers": Kind(2),
    "3 layers": Kind(3),
    "2 layers with MLPs": Kind(2, mlps=True),
    "1 layer, smeared keys": Kind(1, smeared_keys=True),
    "2 layers, smeared keys": Kind(2, smeared_keys=True),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    kinds: tuple[str, ...] = tuple(KINDS)
    """of the models that are trained; the first two of all are needed"""
    vocabulary: int = paper(65_536, "tokens of the vocabulary", default=32)
    length: int = paper(8192, "tokens of a row", default=64)
    """tokens of a row"""
    width: int = paper(768, "channels of the small models", default=64)
    heads: int = paper(12, "heads of a layer", default=4)
    steps: int = paper(10_000, "training steps", default=2000)
    batch: int = unpublished(32)
    learning_rate: float = unpublished(3e-3)
    snapshots: int = paper(200, "snapshots", default=25)
    """at which everything is measured, evenly spaced"""
    held_out: int = paper(10_000, "held-out rows", default=256)
    """rows"""
    top: int = 10
    """heads of a given model that are listed, and silenced one after another"""
    random_draws: int = 5
    """as many other heads, silenced for comparison"""

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
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
        """The early token of the in-context score, from 1."""
        return self.length // 8

    @property
    def late(self) -> int:
        """The late token of the in-context score, from 1."""
        return self.length * 7 // 8


def quick() -> Settings:
    """Minutes on two cores: no third layer."""
    return Settings(kinds=tuple(kind for kind in KINDS if kind != "3 layers"), steps=1200)


def full() -> Settings:
    """All kinds, for longer."""
    return Settings(steps=6000, batch=64, snapshots=50, held_out=1000)
