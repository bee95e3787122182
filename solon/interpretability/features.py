"""Feature activations on a sample of tokens, and the specificity and sensitivity of features to known
properties of tokens.

Shapes: B activations, F features, P positions (tokens of the sample, in order), N activations above 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
from torch import Tensor

from solon.interpretability.autoencoder import Autoencoder, active_pairs
from solon.statistics.intervals import Estimate, wilson

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FeatureActivations:
    """All activations above 0 on a sample of `tokens` tokens, by feature and then by position. Those of
    feature i are at `starts_F[i]` to `starts_F[i + 1]`.
    """

    tokens: int
    starts_F: Ints  # one more than there are features
    positions_N: Ints
    values_N: Floats

    def of_feature(self, feature: int) -> tuple[Ints, Floats]:
        """Positions and values of one feature's activations."""
        span = slice(self.starts_F[feature], self.starts_F[feature + 1])
        return self.positions_N[span], self.values_N[span]

    def at_positions(self, kept_P: Flags) -> FeatureActivations:
        """The activations at the positions of a mask (P,); positions keep their numbers."""
        kept_N = kept_P[self.positions_N]
        before = np.concatenate([[0], np.cumsum(kept_N)])
        return FeatureActivations(
            self.tokens, before[self.starts_F], self.positions_N[kept_N], self.values_N[kept_N]
        )


@torch.no_grad()
def feature_activations(
    autoencoder: Autoencoder, sample: Iterable[Tensor], *, max_norm: float = math.inf
) -> FeatureActivations:
    """The feature activations of batches of unscaled activations (B, D), in order; none where an activation's
    norm exceeds `max_norm`. Values are f_i |W_dec,i|.
    """
    positions, features, values = list[Ints](), list[Ints](), list[Floats]()
    tokens, norms_F = 0, autoencoder.norms_F
    for x_BD in sample:
        if autoencoder.top_k is None and not bool(autoencoder.threshold_F.any()):
            on = active_pairs(autoencoder, x_BD * autoencoder.scale)
            rows, which, heights = on.rows_N, on.features_N, on.values_N
        else:
            f_BF = autoencoder.encode(x_BD)
            rows, which = f_BF.nonzero(as_tuple=True)
            heights = f_BF[rows, which]
        if max_norm < math.inf:
            within = (x_BD.norm(dim=1) <= max_norm)[rows]
            rows, which, heights = rows[within], which[within], heights[within]
        positions.append(rows.numpy() + tokens)
        features.append(which.numpy())
        values.append((heights * norms_F[which]).numpy())
        tokens += len(x_BD)
    which_N = np.concatenate(features) if features else np.zeros(0, dtype=np.int64)
    order = np.argsort(which_N, kind="stable")
    starts = np.searchsorted(which_N[order], np.arange(autoencoder.features + 1))
    return FeatureActivations(tokens, starts, np.concatenate(positions)[order], np.concatenate(values)[order])


def sample_by_interval(values_N: Floats, *, intervals: int, each: int, seed: int) -> list[list[int]]:
    """Indices of up to `each` values from each of `intervals` intervals of equal width from 0 to the maximum,
    highest interval first: the largest values of the first, a random sample of the others.
    """
    if not len(values_N):
        return []
    rng = np.random.default_rng(seed)
    top = float(values_N.max())
    level_N = np.minimum((values_N / top * intervals).astype(int), intervals - 1)
    examples = []
    for level in reversed(range(intervals)):
        members = np.flatnonzero(level_N == level)
        highest = members[np.argsort(-values_N[members], kind="stable")][:each]
        examples.append(
            [
                int(index)
                for index in (
                    highest
                    if level == intervals - 1 or len(members) <= each
                    else rng.choice(members, each, replace=False)
                )
            ]
        )
    return examples


@dataclass(frozen=True, slots=True)
class FeatureFit:
    """A feature as a detector of a property of positions. `specificity` is the share of its activations where
    the property is true, by interval of activation, lowest first (None without activations); `sensitivity` is
    the share of true positions where the feature is active.
    """

    specificity: tuple[Estimate | None, ...]
    sensitivity: Estimate | None

    @property
    def top(self) -> Estimate | None:
        """Specificity in the highest interval with ten activations, else in the highest with any."""
        estimates = [estimate for estimate in reversed(self.specificity) if estimate is not None]
        return next(
            (estimate for estimate in estimates if estimate.n >= 10), estimates[0] if estimates else None
        )


def feature_fit(
    activations: FeatureActivations, feature: int, true_P: Flags, *, intervals: int = 5
) -> FeatureFit:
    """How one feature detects a property (P,). Wilson intervals over positions, which are dependent within a
    text, so that intervals are somewhat too narrow.
    """
    positions, values = activations.of_feature(feature)
    level = (
        np.minimum((values / values.max() * intervals).astype(int), intervals - 1)
        if len(values)
        else np.zeros(0, dtype=int)
    )
    hit = true_P[positions]
    shares = [
        wilson(float(hit[level == interval].sum()), int((level == interval).sum()))
        if (level == interval).any()
        else None
        for interval in range(intervals)
    ]
    there = int(true_P.sum())
    return FeatureFit(tuple(shares), wilson(float(hit.sum()), there) if there else None)


@dataclass(frozen=True, slots=True)
class ConceptMatch:
    """The feature that best matches a set of positions: the share of its total activation on them, and the
    share of them where it is active.
    """

    feature: int
    precision: float
    recall: float

    @property
    def score(self) -> float:
        """The harmonic mean of precision and recall (F1)."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-30)


def best_features(activations: FeatureActivations, truths: Sequence[Ints]) -> list[ConceptMatch]:
    """For each non-empty set of positions, the feature with the highest F1. Of features within 0.001 of it,
    the most active: a wide autoencoder splits one feature into several similar ones.
    """
    features, size = len(activations.starts_F) - 1, activations.tokens
    which_N = np.repeat(np.arange(features), np.diff(activations.starts_F))
    values_PF = scipy.sparse.csr_matrix(
        (activations.values_N, (activations.positions_N, which_N)), shape=(size, features)
    )
    whole_F = np.maximum(np.asarray(values_PF.sum(axis=0)).ravel(), 1e-30)
    best = []
    for positions in truths:
        own_KF = values_PF[positions]
        precision_F = np.asarray(own_KF.sum(axis=0)).ravel() / whole_F
        recall_F = own_KF.getnnz(axis=0) / len(positions)
        score_F = 2 * precision_F * recall_F / np.maximum(precision_F + recall_F, 1e-30)
        feature = int(np.where(score_F >= score_F.max() - 1e-3, whole_F, -1.0).argmax())
        best.append(ConceptMatch(feature, float(precision_F[feature]), float(recall_F[feature])))
    return best


def nearest_features(autoencoder: Autoencoder, feature: int, count: int) -> list[tuple[int, float]]:
    """(feature, cosine) of the `count` other features with the nearest decoder directions, nearest first."""
    unit_FD = autoencoder.decoder_FD.detach() / autoencoder.norms_F.clamp(min=1e-12)[:, None]
    cosine_F = unit_FD @ unit_FD[feature]
    cosine_F[feature] = -2.0
    best = cosine_F.topk(min(count, autoencoder.features - 1))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def project_directions(autoencoder: Autoencoder, features: Sequence[int]) -> list[tuple[float, float]]:
    """The first two principal components of the features' unit directions, for a map."""
    rows = (
        autoencoder.decoder_FD.detach()[list(features)]
        / autoencoder.norms_F[list(features)].clamp(min=1e-12)[:, None]
    )
    rows = (rows - rows.mean(dim=0)).double()
    _, _, v = torch.linalg.svd(rows, full_matrices=False)
    axes = v[:2] * torch.where(v[:2].sum(dim=1, keepdim=True) < 0, -1.0, 1.0)
    spread = rows @ axes.T
    if spread.shape[1] < 2:
        spread = torch.cat([spread, torch.zeros(len(spread), 2 - spread.shape[1], dtype=spread.dtype)], dim=1)
    return [(float(x), float(y)) for x, y in spread.tolist()]
