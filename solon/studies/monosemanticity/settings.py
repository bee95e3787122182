"""What can be changed about the study of sparse autoencoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from solon.errors import InputError
from solon.study.settings import paper, unpublished


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    layer: int = 0
    """the layer whose residual stream is taken apart, from 1; 0 takes the middle one"""
    features: tuple[int, ...] = (4608,)
    """of each autoencoder; all learn from one stream"""
    l1_coefficients: tuple[float, ...] = (5.0,)
    """of sparsity, every one with every width; the widest with the first of these is looked into"""
    steps: int = paper(200_000, "training steps", default=1000)
    batch: int = 1024
    learning_rate: float = paper(5e-5, "learning rate", default=1e-3)
    """fewer steps want more"""
    normalisation: Literal["mean_square", "mean_norm"] = unpublished("mean_square")
    """what typical length of activations is brought to the root of the width"""
    length: int = 129
    """tokens of a row"""
    skip: int = 1
    """first tokens of a row that are left out: their activations are many times the others'"""
    farthest: float = 10.0
    """activations longer than this many medians are left out, and left as they are: single tokens that
    attention rests on can be a hundred times longer than all others, and would be most of the squared error;
    0 leaves none out
    """
    chunk: int = 128
    """rows that are read at once"""
    held_out: int = 400
    """rows that nothing is learned from, and all is measured on"""
    shown: int = 400
    """features on the page"""
    prompts: int = 8
    """held-out rows whose next token is attributed"""
    strength: float = 10.0
    """of the steering that is judged, in largest activations"""
    labelled: int = 20
    """features that a model labels, where one is given"""
    planted: bool = False
    """recover planted directions, and fit scaling laws and completeness on them, first"""
    planted_steps: int = 3000
    sweep_features: tuple[int, ...] = (32, 64, 128, 256)
    sweep_steps: tuple[int, ...] = (250, 500, 1000, 2000)

    def __post_init__(self) -> None:
        if (
            not self.features
            or not self.l1_coefficients
            or min(self.features) < 2
            or min(self.l1_coefficients) < 0
        ):
            raise InputError(
                "at least one width of 2 features or more and one penalty of 0 or more are needed"
            )
        if (
            min(self.steps, self.batch, self.chunk, self.held_out, self.shown, self.prompts) < 1
            or self.length <= self.skip + 1
            or self.skip < 0
        ):
            raise InputError(
                "steps, batch, chunk, held-out rows, features shown and prompts are at least 1, and a row "
                "is longer than what is skipped"
            )
        if self.farthest < 0 or 0 < self.farthest < 2:
            raise InputError(f"farthest is 0 or at least 2 medians; found {self.farthest:g}")
        if (
            self.layer < 0
            or self.learning_rate <= 0
            or self.planted_steps < 10
            or len(self.sweep_features) < 3
            or len(self.sweep_steps) < 3
        ):
            raise InputError(
                "a layer counts from 1, learning rates are above 0, and the sweep has at least three "
                "widths and three lengths"
            )

    @property
    def widths(self) -> list[int]:
        """The number of features of each autoencoder of the bank."""
        return [features for features in self.features for _ in self.l1_coefficients]

    @property
    def penalties(self) -> list[float]:
        """The penalty of each autoencoder of the bank: every one with every width."""
        return [penalty for _ in self.features for penalty in self.l1_coefficients]

    @property
    def main(self) -> int:
        """The number of the autoencoder that is looked into: the widest, with the first penalty."""
        return self.widths.index(max(self.features))


def quick() -> Settings:
    """A quarter of an hour for a model of 135M parameters, most of it reading: a million tokens."""
    return Settings()


def toy() -> Settings:
    """Planted directions, then a small model of classes of words; minutes on two cores."""
    return Settings(
        layer=1,
        features=(16, 32, 64),
        steps=1500,
        batch=512,
        length=33,
        chunk=64,
        held_out=300,
        shown=256,
        prompts=30,
        planted=True,
    )


def full() -> Settings:
    """The paper's schedule, narrower: 200,000 steps at 5e-5."""
    return Settings(
        features=(4608, 18432),
        steps=200_000,
        batch=4096,
        learning_rate=5e-5,
        chunk=1024,
        held_out=4000,
        shown=1000,
        prompts=50,
    )
