"""What features fire on: everything a dashboard shows, and how specific and how sensitive a feature is to
something that is known of each token.

Shapes: B activations, F features, P places (tokens of the sample, in the order of its rows), N firings.
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
    """Every activation above 0 on a sample of `tokens` places, feature by feature, each feature's in the
    order of places.
    """

    tokens: int
    starts_F: Ints  # one more than there are features
    positions_N: Ints
    values_N: Floats

    def of_feature(self, feature: int) -> tuple[Ints, Floats]:
        span = slice(self.starts_F[feature], self.starts_F[feature + 1])
        return self.positions_N[span], self.values_N[span]

    def at_positions(self, kept_P: Flags) -> FeatureActivations:
        """Those at some places alone; places keep their numbers."""
        kept_N = kept_P[self.positions_N]
        before = np.concatenate([[0], np.cumsum(kept_N)])
        return FeatureActivations(
            self.tokens, before[self.starts_F], self.positions_N[kept_N], self.values_N[kept_N]
        )


@torch.no_grad()
def feature_activations(
    own: Autoencoder, sample: Iterable[Tensor], *, limit: float = math.inf
) -> FeatureActivations:
    """Of activations (B, D) as the model has them, a few at a time, in order; none at those longer than
    `limit`. Values are f times |W_dec,i|.
    """
    places, features, values = list[Ints](), list[Ints](), list[Floats]()
    tokens, norms_F = 0, own.norms_F
    for x_BD in sample:
        if own.top_k is None and not bool(own.threshold_F.any()):
            on = active_pairs(own, x_BD * own.scale)
            rows, which, heights = on.rows_N, on.features_N, on.values_N
        else:
            f_BF = own.encode(x_BD)
            rows, which = f_BF.nonzero(as_tuple=True)
            heights = f_BF[rows, which]
        if limit < math.inf:
            kept = (x_BD.norm(dim=1) <= limit)[rows]
            rows, which, heights = rows[kept], which[kept], heights[kept]
        places.append(rows.numpy() + tokens)
        features.append(which.numpy())
        values.append((heights * norms_F[which]).numpy())
        tokens += len(x_BD)
    which_N = np.concatenate(features) if features else np.zeros(0, dtype=np.int64)
    order = np.argsort(which_N, kind="stable")
    starts = np.searchsorted(which_N[order], np.arange(own.features + 1))
    return FeatureActivations(tokens, starts, np.concatenate(places)[order], np.concatenate(values)[order])


def sample_by_interval(values_N: Floats, *, intervals: int, each: int, seed: int) -> list[list[int]]:
    """Places in `values` of up to `each` firings from every interval of equal width below the highest,
    highest interval first; in the first they are the highest, in the others drawn.
    """
    if not len(values_N):
        return []
    rng = np.random.default_rng(seed)
    top = float(values_N.max())
    level_N = np.minimum((values_N / top * intervals).astype(int), intervals - 1)
    found = []
    for level in reversed(range(intervals)):
        own = np.flatnonzero(level_N == level)
        highest = own[np.argsort(-values_N[own], kind="stable")][:each]
        found.append(
            [
                int(place)
                for place in (
                    highest
                    if level == intervals - 1 or len(own) <= each
                    else rng.choice(own, each, replace=False)
                )
            ]
        )
    return found


@dataclass(frozen=True, slots=True)
class FeatureFit:
    """How a feature goes with something that is true or false of each place: the share of firings at which it
    is true, by interval of activation (lowest first; None where there is no firing), and the share of true
    places at which the feature fires.
    """

    specificity: tuple[Estimate | None, ...]
    sensitivity: Estimate | None

    @property
    def top(self) -> Estimate | None:
        """Specificity in the highest interval that has ten firings; where none has, in the highest that has
        one.
        """
        held = [own for own in reversed(self.specificity) if own is not None]
        return next((own for own in held if own.n >= 10), held[0] if held else None)


def feature_fit(found: FeatureActivations, feature: int, true_P: Flags, *, intervals: int = 5) -> FeatureFit:
    """Wilson intervals over places, which are not independent within a text: they are a little narrow."""
    places, values = found.of_feature(feature)
    level = (
        np.minimum((values / values.max() * intervals).astype(int), intervals - 1)
        if len(values)
        else np.zeros(0, dtype=int)
    )
    hit = true_P[places]
    shares = [
        wilson(float(hit[level == own].sum()), int((level == own).sum())) if (level == own).any() else None
        for own in range(intervals)
    ]
    there = int(true_P.sum())
    return FeatureFit(tuple(shares), wilson(float(hit.sum()), there) if there else None)


@dataclass(frozen=True, slots=True)
class ConceptMatch:
    """The feature that goes best with a set of places: the share of its activation that falls on them, and
    the share of them at which it fires.
    """

    feature: int
    precision: float
    recall: float

    @property
    def score(self) -> float:
        """Their harmonic mean (F1)."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-30)


def best_features(found: FeatureActivations, truths: Sequence[Ints]) -> list[ConceptMatch]:
    """For each set of places (at least one in each), the feature with the highest F1; of those within a
    thousandth of it, the most active: an autoencoder that is wider than it need be splits one feature into
    several alike.
    """
    features, size = len(found.starts_F) - 1, found.tokens
    which_N = np.repeat(np.arange(features), np.diff(found.starts_F))
    values_PF = scipy.sparse.csr_matrix(
        (found.values_N, (found.positions_N, which_N)), shape=(size, features)
    )
    whole_F = np.maximum(np.asarray(values_PF.sum(axis=0)).ravel(), 1e-30)
    best = []
    for places in truths:
        own_KF = values_PF[places]
        precision_F = np.asarray(own_KF.sum(axis=0)).ravel() / whole_F
        recall_F = own_KF.getnnz(axis=0) / len(places)
        score_F = 2 * precision_F * recall_F / np.maximum(precision_F + recall_F, 1e-30)
        feature = int(np.where(score_F >= score_F.max() - 1e-3, whole_F, -1.0).argmax())
        best.append(ConceptMatch(feature, float(precision_F[feature]), float(recall_F[feature])))
    return best


def nearest_features(own: Autoencoder, feature: int, count: int) -> list[tuple[int, float]]:
    """The features whose decoder directions are nearest by cosine, nearest first, itself left out."""
    unit_FD = own.decoder_FD.detach() / own.norms_F.clamp(min=1e-12)[:, None]
    cosine_F = unit_FD @ unit_FD[feature]
    cosine_F[feature] = -2.0
    best = cosine_F.topk(min(count, own.features - 1))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def project_directions(own: Autoencoder, features: Sequence[int]) -> list[tuple[float, float]]:
    """Two principal components of the features' directions: a map that needs no other library. Distances in
    it say less than cosines.
    """
    rows = own.decoder_FD.detach()[list(features)] / own.norms_F[list(features)].clamp(min=1e-12)[:, None]
    rows = (rows - rows.mean(dim=0)).double()
    _, _, v = torch.linalg.svd(rows, full_matrices=False)
    axes = v[:2] * torch.where(v[:2].sum(dim=1, keepdim=True) < 0, -1.0, 1.0)
    spread = rows @ axes.T
    if spread.shape[1] < 2:
        spread = torch.cat([spread, torch.zeros(len(spread), 2 - spread.shape[1], dtype=spread.dtype)], dim=1)
    return [(float(x), float(y)) for x, y in spread.tolist()]
