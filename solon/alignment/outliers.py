"""Which prompts are unlike those a model was trained to help with (HH-RLHF, arXiv:2204.05862, section 5).

A prompt is the mean over its tokens of one layer's output. Its score is its squared Mahalanobis distance from
the helpful prompts less the one that keeps only the diagonal of the covariance (the paper's simplified
relative Mahalanobis distance), so that what is merely large does not count. With a few known outliers a
logistic layer does better (outlier exposure).

Shapes: N prompts, L layers, C width.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression

from solon.errors import InputError
from solon.models.activations import activations, layer_sites
from solon.models.backbones.backbone import Backbone
from solon.models.base import Tokens, derive
from solon.models.scoring import batch_by_tokens
from solon.statistics.calibration import auroc
from solon.statistics.intervals import Estimate

Floats = npt.NDArray[np.float64]


def prompt_states(body: Backbone, prompts: Sequence[Tokens], *, tokens: int = 2048) -> Floats:
    """The mean of every layer's output over each prompt's tokens, (N, L, C), so many tokens at a time."""
    if not prompts or not all(prompts):
        raise InputError("out-of-distribution detection needs prompts of at least one token each")
    sites = layer_sites(body)
    found: dict[int, torch.Tensor] = {}
    for batch in batch_by_tokens([len(prompt) for prompt in prompts], tokens=tokens):
        kept = activations(body, [prompts[place] for place in batch], sites)
        for row, place in enumerate(batch):
            found[place] = torch.stack(
                [kept[site][row, : len(prompts[place])].double().mean(dim=0) for site in sites]
            ).cpu()
    return torch.stack([found[place] for place in range(len(prompts))]).numpy()


@dataclass(frozen=True, slots=True)
class Detector:
    """Scores of prompts against those it was fitted on: the higher, the less alike. `shrinkage` is how far
    the covariance was drawn towards its diagonal (Ledoit and Wolf 2004), 1 where nothing of it is left.
    """

    mean_C: Floats
    scale_C: Floats
    inverse_CC: Floats
    shrinkage: float

    def __call__(self, states_NC: Floats) -> Floats:
        z_NC = (states_NC - self.mean_C) / self.scale_C
        return np.asarray(np.einsum("nc,cd,nd->n", z_NC, self.inverse_CC, z_NC) - np.square(z_NC).sum(axis=1))


def fit_detector(states_NC: Floats) -> Detector:
    """Fit mean and covariance. Channels are standardised first, so that the diagonal is one and shrinking is
    towards it; with fewer prompts than channels the covariance has no inverse without.

    Raises InputError on fewer than 8 prompts.
    """
    if len(states_NC) < 8:
        raise InputError(
            f"a covariance of {states_NC.shape[1]} channels from {len(states_NC)} prompts says nothing; "
            "give at least 8, better hundreds"
        )
    mean_C, scale_C = states_NC.mean(axis=0), np.maximum(states_NC.std(axis=0), 1e-9)
    covariance_CC, shrinkage = ledoit_wolf((states_NC - mean_C) / scale_C, assume_centered=True)
    diagonal_C = np.sqrt(np.diag(covariance_CC))
    inverse_CC = np.linalg.inv(covariance_CC / np.outer(diagonal_C, diagonal_C))
    return Detector(mean_C, scale_C * diagonal_C, inverse_CC, float(shrinkage))


PENALTY = 100.0  # of the logistic layer on standardised channels, ours: the paper gives none


def fit_outlier_exposure(states_NC: Floats, outliers_MC: Floats) -> Callable[[Floats], Floats]:
    """Outlier exposure: a logistic layer that parts the prompts from a few known outliers, each counted N //
    M times.
    """
    if len(states_NC) < len(outliers_MC) or not len(outliers_MC):
        raise InputError(
            f"outlier exposure needs some outliers and no fewer prompts; found {len(outliers_MC)} and "
            f"{len(states_NC)}"
        )
    mean_C, scale_C = states_NC.mean(axis=0), np.maximum(states_NC.std(axis=0), 1e-9)
    x = (np.concatenate([states_NC, outliers_MC]) - mean_C) / scale_C
    y = np.repeat([0, 1], [len(states_NC), len(outliers_MC)])
    weight = np.where(y == 1, len(states_NC) // len(outliers_MC), 1)
    layer = LogisticRegression(C=1 / PENALTY, max_iter=2000).fit(x, y, sample_weight=weight)
    return lambda states: np.asarray(layer.decision_function((states - mean_C) / scale_C))


@dataclass(frozen=True, slots=True)
class Separation:
    """How well one layer parts held-out prompts from outliers: the AUROC of each split or draw, with DeLong's
    interval.
    """

    layer: int
    splits: tuple[Estimate, ...]

    @property
    def aurocs(self) -> tuple[float, ...]:
        return tuple(split.value for split in self.splits)

    @property
    def mean(self) -> float:
        return float(np.mean(self.aurocs))

    @property
    def estimate(self) -> Estimate:
        """The mean over splits, with the mean of their intervals: splits share prompts, so more of them make
        it no narrower.
        """
        low, high = (
            float(np.mean([getattr(split, side) for split in self.splits])) for side in ("low", "high")
        )
        return Estimate(
            self.mean,
            low,
            high,
            f"DeLong, mean of {len(self.splits)} splits",
            self.splits[0].n,
            self.splits[0].clusters,
        )

    @property
    def standard_deviation(self) -> float:
        """Over splits (one less than their number in the divisor); 0 where there is one."""
        return float(np.std(self.aurocs, ddof=1)) if len(self.aurocs) > 1 else 0.0


def detector_aurocs(
    inside_NLC: Floats, outside_MLC: Floats, *, splits: int = 3, seed: int = 0
) -> list[Separation]:
    """For each layer, fitted on half of the prompts: the other half against all outliers, over `splits`
    random halves.
    """

    def one(inside: Floats, layer: int, split: int) -> Estimate:
        fitted, held = random_halves(len(inside), derive(seed, "split", split))
        return outlier_auroc(fit_detector(inside[fitted]), inside[held], outside_MLC[:, layer])

    return [
        Separation(layer, tuple(one(inside_NLC[:, layer], layer, split) for split in range(splits)))
        for layer in range(inside_NLC.shape[1])
    ]


def exposure_aurocs(
    inside_NLC: Floats, outside_MLC: Floats, *, examples: int = 10, draws: int = 5, seed: int = 0
) -> list[Separation]:
    """The same by outlier exposure with `examples` outliers drawn anew each time; the others are told
    apart.
    """
    if len(outside_MLC) <= examples:
        raise InputError(
            f"{len(outside_MLC)} outliers do not give {examples} to learn from and some to test on"
        )

    def one(layer: int, draw: int) -> Estimate:
        fitted, held = random_halves(len(inside_NLC), derive(seed, "split", draw))
        order = random.Random(derive(seed, "outliers", draw)).sample(
            range(len(outside_MLC)), len(outside_MLC)
        )
        known, unknown = outside_MLC[order[:examples], layer], outside_MLC[order[examples:], layer]
        return outlier_auroc(
            fit_outlier_exposure(inside_NLC[fitted, layer], known), inside_NLC[held, layer], unknown
        )

    return [
        Separation(layer, tuple(one(layer, draw) for draw in range(draws)))
        for layer in range(inside_NLC.shape[1])
    ]


def random_halves(count: int, seed: int) -> tuple[list[int], list[int]]:
    order = random.Random(seed).sample(range(count), count)
    return order[: count // 2], order[count // 2 :]


def outlier_auroc(score: Callable[[Floats], Floats], inside_NC: Floats, outside_MC: Floats) -> Estimate:
    """The AUROC of outliers over prompts."""
    scores = np.concatenate([score(inside_NC), score(outside_MC)])
    return auroc(scores.tolist(), [place >= len(inside_NC) for place in range(len(scores))])
