"""What the study of sparse autoencoders needs: its settings, its presets, what it works on, and what it
finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from solon.errors import InputError
from solon.interpretability.features import FeatureFit
from solon.interpretability.steering import Attribution
from solon.models.base import LanguageModel, Tokens
from solon.models.torch_model import TorchModel
from solon.scaling.frontier import TrainingRun


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    layer: int = 0
    """the layer whose residual stream is taken apart, from 1; 0 takes the middle one"""
    features: tuple[int, ...] = (4608,)
    """of each autoencoder; all learn from one stream"""
    l1_coefficients: tuple[float, ...] = (5.0,)
    """of sparsity, every one with every width; the widest with the first of these is looked into"""
    steps: int = 1000
    batch: int = 1024
    learning_rate: float = 1e-3
    """the April 2024 update has 5e-5 for 200,000 steps; fewer steps want more"""
    normalisation: Literal["mean_square", "mean_norm"] = "mean_square"
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


def main_member(settings: Settings) -> int:
    """The place in the bank of the one that is looked into: the widest, with the first penalty."""
    return settings.features.index(max(settings.features)) * len(settings.l1_coefficients)


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


@dataclass(frozen=True, slots=True)
class Inputs:
    """A model, rows of text in its tokens, how a token is spelled, and what is known of tokens: predicates,
    by name. `steered` are tokens that a predicate's feature should raise where it is clamped high. A
    `labeller` says what features stand for.
    """

    model: TorchModel
    rows: tuple[Tokens, ...]
    spelled: Callable[[int], str]
    predicates: Mapping[str, Callable[[str], bool]] = field(default_factory=dict)
    steered: Mapping[str, frozenset[int]] = field(default_factory=dict)
    labeller: LanguageModel | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Member:
    """One autoencoder of the bank, and what it is worth on held-out rows. Losses in nats a token, by row."""

    features: int
    l1_coefficient: float
    explained: float
    active: float
    dead: float
    loss: float
    recovered: float
    recovered_over_mean: float
    clean: tuple[float, ...]
    reconstructed: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Steered:
    """The probability of what follows, behind each row: of the model as it is, and with a feature clamped to
    each strength.
    """

    plain: list[float]
    levels: list[tuple[float, list[float]]]


@dataclass(slots=True)
class Findings:
    """Everything the report prints."""

    counts: dict[str, int] = field(default_factory=dict)
    layer: int = 0
    depth: int = 0
    scale: float = 1.0
    limit: float = 0.0  # length from which activations are left out
    members: list[Member] = field(default_factory=list)
    main: int = 0  # the one that is looked into
    cosines: list[float] = field(default_factory=list)  # of each planted direction, the nearest decoder row's
    attempts: list[TrainingRun] = field(default_factory=list)
    complete: dict[int, list[tuple[float, bool]]] = field(
        default_factory=dict
    )  # width -> of each planted direction, log(frequency * alive) and found
    # word, log(frequency * alive), F1 of its best feature
    words: list[tuple[str, float, float]] = field(default_factory=list)
    # predicate -> its feature, and how well it goes with it
    fits: dict[str, tuple[int, FeatureFit]] = field(default_factory=dict)
    steering: dict[str, Steered] = field(default_factory=dict)  # predicate -> what clamping its feature does
    untouched: float = 0.0  # how far the error term moved, at most, over its length
    attributions: list[Attribution] = field(default_factory=list)
    # feature, label, ratings from the highest interval down
    labels: list[tuple[int, str, list[float]]] = field(default_factory=list)
