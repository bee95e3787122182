"""What is measured of autoencoders and of their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from solon.interpretability.features import FeatureFit
from solon.interpretability.steering import Attribution
from solon.scaling.frontier import TrainingRun


@dataclass(frozen=True, slots=True)
class PlantedResults:
    """On directions that are known: the cosine of each with the nearest feature; trainings over widths and
    steps; and by width, of each direction, the logarithm of frequency x alive features, and whether it has a
    feature.
    """

    cosines: Sequence[float]
    trainings: Sequence[TrainingRun]
    completeness: Mapping[int, Sequence[tuple[float, bool]]]


@dataclass(frozen=True, slots=True)
class AutoencoderWorth:
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
class WordMatch:
    """A word, the logarithm of frequency x alive features, and the F1 of its best feature."""

    word: str
    log_frequency: float
    score: float


@dataclass(frozen=True, slots=True)
class PredicateMatch:
    """The feature that goes best with a predicate of tokens, and how well."""

    feature: int
    fit: FeatureFit


@dataclass(frozen=True, slots=True)
class Steering:
    """The probability of what follows, behind each row: of the model as it is, and with a feature clamped to
    each strength.
    """

    plain: tuple[float, ...]
    levels: tuple[tuple[float, Sequence[float]], ...]


@dataclass(frozen=True, slots=True)
class FeatureLabel:
    """What a model says that a feature stands for, and its ratings from the highest interval down."""

    feature: int
    label: str
    ratings: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything the report prints. `scale` multiplied the activations; `error_moved` is how far clamping
    moved what is not explained, at most, over the stream's length.
    """

    model: str
    layer: int
    depth: int
    scale: float
    counts: Mapping[str, int]
    planted: PlantedResults | None
    autoencoders: Sequence[AutoencoderWorth]
    words: Sequence[WordMatch]
    predicates: Mapping[str, PredicateMatch]
    steering: Mapping[str, Steering]
    error_moved: float
    attributions: Sequence[Attribution]
    labels: Sequence[FeatureLabel]
