"""Out-of-distribution detection: prompts unlike those that a model was trained on (HH-RLHF, arXiv:2204.05862,
section 5).

A prompt's vector is the mean over its tokens of one layer's output. Its score is the squared Mahalanobis
distance from the in-distribution prompts minus that with the covariance's diagonal alone (the paper's
simplified relative Mahalanobis distance). With a few known outliers, outlier exposure trains a logistic
layer.

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


def prompt_states(backbone: Backbone, prompts: Sequence[Tokens], *, tokens: int = 2048) -> Floats:
    """The mean of every layer's output over each prompt's tokens, (N, L, C), in batches of at most `tokens`
    tokens. Raises InputError on an empty prompt, and without prompts.
    """
    if not prompts or not all(prompts):
        raise InputError("out-of-distribution detection needs prompts of at least one token each")
    sites = layer_sites(backbone)
    states: dict[int, torch.Tensor] = {}
    for batch in batch_by_tokens([len(prompt) for prompt in prompts], tokens=tokens):
        outputs = activations(backbone, [prompts[index] for index in batch], sites)
        for row, index in enumerate(batch):
            states[index] = torch.stack(
                [outputs[site][row, : len(prompts[index])].double().mean(dim=0) for site in sites]
            ).cpu()
    return torch.stack([states[index] for index in range(len(prompts))]).numpy()


@dataclass(frozen=True, slots=True)
class Detector:
    """Scores prompts: the higher, the less like those it was fitted on. `shrinkage` is the weight of the
    diagonal in the covariance (Ledoit and Wolf 2004), from 0 to 1.
    """

    mean_C: Floats
    scale_C: Floats
    inverse_CC: Floats
    shrinkage: float

    def __call__(self, states_NC: Floats) -> Floats:
        """The score of each prompt, (N,)."""
        z_NC = (states_NC - self.mean_C) / self.scale_C
        return np.asarray(np.einsum("nc,cd,nd->n", z_NC, self.inverse_CC, z_NC) - np.square(z_NC).sum(axis=1))


def fit_detector(states_NC: Floats) -> Detector:
    """A detector fitted on in-distribution prompts (N, C). Channels are standardised, and the covariance is
    shrunk towards its diagonal, without which it has no inverse where prompts are fewer than channels. Raises
    InputError on fewer than 8 prompts.
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


PENALTY = 100.0  # L2, of the logistic layer on standardised channels; the paper gives none


def fit_outlier_exposure(states_NC: Floats, outliers_MC: Floats) -> Callable[[Floats], Floats]:
    """Outlier exposure: the log-odds of a logistic layer that separates the prompts from M known outliers,
    each weighted N // M. Raises InputError without outliers, and on more outliers than prompts.
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
    """The AUROC of outliers over held-out prompts at one layer, with DeLong's interval, for each split or
    draw.
    """

    layer: int
    splits: tuple[Estimate, ...]

    @property
    def aurocs(self) -> tuple[float, ...]:
        """The AUROC of each split."""
        return tuple(split.value for split in self.splits)

    @property
    def mean(self) -> float:
        """The mean AUROC over splits."""
        return float(np.mean(self.aurocs))

    @property
    def estimate(self) -> Estimate:
        """The mean over splits, with the mean of their intervals: splits share prompts, so that more of them
        do not narrow it.
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
        """The sample standard deviation over splits; 0 where there is one."""
        return float(np.std(self.aurocs, ddof=1)) if len(self.aurocs) > 1 else 0.0


def detector_aurocs(
    inside_NLC: Floats, outside_MLC: Floats, *, splits: int = 3, seed: int = 0
) -> list[Separation]:
    """For each layer, a detector fitted on a random half of the prompts, and its AUROC on the other half
    against all outliers, for `splits` halves.
    """

    def one(inside: Floats, layer: int, split: int) -> Estimate:
        fitted, held_out = random_halves(len(inside), derive(seed, "split", split))
        return outlier_auroc(fit_detector(inside[fitted]), inside[held_out], outside_MLC[:, layer])

    return [
        Separation(layer, tuple(one(inside_NLC[:, layer], layer, split) for split in range(splits)))
        for layer in range(inside_NLC.shape[1])
    ]


def exposure_aurocs(
    inside_NLC: Floats, outside_MLC: Floats, *, examples: int = 10, draws: int = 5, seed: int = 0
) -> list[Separation]:
    """`detector_aurocs` by outlier exposure: `examples` random outliers train it, and the others are tested.
    Raises InputError where none would be left.
    """
    if len(outside_MLC) <= examples:
        raise InputError(
            f"{len(outside_MLC)} outliers do not give {examples} for training and others for testing"
        )

    def one(layer: int, draw: int) -> Estimate:
        fitted, held_out = random_halves(len(inside_NLC), derive(seed, "split", draw))
        order = random.Random(derive(seed, "outliers", draw)).sample(
            range(len(outside_MLC)), len(outside_MLC)
        )
        known, unknown = outside_MLC[order[:examples], layer], outside_MLC[order[examples:], layer]
        return outlier_auroc(
            fit_outlier_exposure(inside_NLC[fitted, layer], known), inside_NLC[held_out, layer], unknown
        )

    return [
        Separation(layer, tuple(one(layer, draw) for draw in range(draws)))
        for layer in range(inside_NLC.shape[1])
    ]


def random_halves(count: int, seed: int) -> tuple[list[int], list[int]]:
    """The indices from 0 to `count` in two random halves."""
    order = random.Random(seed).sample(range(count), count)
    return order[: count // 2], order[count // 2 :]


def outlier_auroc(score: Callable[[Floats], Floats], inside_NC: Floats, outside_MC: Floats) -> Estimate:
    """The AUROC of `score` for outliers (M, C) over prompts (N, C)."""
    scores = np.concatenate([score(inside_NC), score(outside_MC)])
    return auroc(scores.tolist(), [index >= len(inside_NC) for index in range(len(scores))])
