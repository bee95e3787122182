"""Proofs of influence functions on a network small enough to know the truth of: from exact curvature down to
plain gradients, against the proximal response and against training again (Grosse et al. 2023,
arXiv:2308.03296, section 5; linear datamodelling scores after Park et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from sklearn.datasets import load_digits
from torch import Tensor, nn

from solon.interpretability.curvature import DAMPING, Factors, Method, fit_factors
from solon.interpretability.influence import influence, preconditioned_queries
from solon.interpretability.linear import linear_layers
from solon.interpretability.objectives import (
    LabelledVector,
    classification_objective,
    expected_label_objective,
)
from solon.studies.influence.ground_truth import Classifier, block_diagonal, gauss_newton, gradients, response

METHODS: tuple[Method, ...] = ("ekfac", "kfac", "identity")
WIDTH = 24


@dataclass(frozen=True, slots=True)
class Digits:
    """What a network learns from and what it is asked: images of 8 x 8 digits, (N, 64), and their names."""

    inputs_NC: Tensor
    labels_N: Tensor
    questions_QC: Tensor
    answers_Q: Tensor

    @property
    def rows(self) -> list[LabelledVector]:
        return [(image, int(label)) for image, label in zip(self.inputs_NC, self.labels_N, strict=True)]

    @property
    def questions(self) -> list[LabelledVector]:
        return [(image, int(label)) for image, label in zip(self.questions_QC, self.answers_Q, strict=True)]


def draw_digits(seed: int, *, rows: int, questions: int) -> Digits:
    """Digits drawn by seed, none both learned from and asked."""
    pixels, names = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(pixels))[: rows + questions]
    inputs, labels = torch.tensor(pixels[order] / 16, dtype=torch.float32), torch.tensor(names[order])
    return Digits(inputs[:rows], labels[:rows], inputs[rows:], labels[rows:])


def train_network(inputs_NC: Tensor, labels_N: Tensor, *, seed: int, steps: int = 200) -> nn.Sequential:
    """64 - 24 - 10 with tanh, trained on all of them at once."""
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Linear(64, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 10))
    for parameter in network.parameters():
        bound = parameter.shape[-1] ** -0.5
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2, weight_decay=1e-4)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(network(inputs_NC), labels_N).backward()
        optimiser.step()
    return network


@dataclass(frozen=True, slots=True)
class Approximations:
    """Influences (Q, N) by each approximation, from exact curvature down; and how far each layer's factored
    curvature is from its dense block, by Frobenius norms over that of the block.
    """

    scores: dict[str, np.ndarray]
    block_errors: dict[str, list[float]]
    damping_P: Tensor
    dense_PP: Tensor
    model: Classifier


def approximate(network: nn.Sequential, data: Digits) -> Approximations:
    """Every approximation on the same network. Labels are all classes, weighted: curvature without the noise
    of drawing them.
    """
    layers, objective = linear_layers(network), classification_objective(network)
    factors = fit_factors(
        expected_label_objective(network, 10),
        layers,
        [(image, label) for image, _ in data.rows for label in range(10)],
    )
    scores: dict[str, np.ndarray] = {}
    for method in METHODS:
        queries = preconditioned_queries(objective, layers, factors, data.questions, method=method)
        scores[method] = influence(objective, layers, queries, data.rows)
    model = Classifier(network.double(), tuple(layers))
    dense_PP = gauss_newton(model, data.inputs_NC)
    sizes = model.sizes()
    damping_P = torch.cat(
        [
            torch.full((o * i,), DAMPING * float(layer.values_OI.mean()), dtype=torch.float64)
            for layer, (o, i) in zip(factors.values(), sizes, strict=True)
        ]
    )
    rows_NP = gradients(model, data.inputs_NC, data.labels_N)
    questions_QP = gradients(model, data.questions_QC, data.answers_Q)
    for name, matrix in (("exact", dense_PP), ("blocks", block_diagonal(dense_PP, sizes))):
        scores[name] = (questions_QP @ torch.linalg.solve(matrix + torch.diag(damping_P), rows_NP.T)).numpy()
    return Approximations(scores, block_errors(factors, dense_PP, sizes), damping_P, dense_PP, model)


def block_errors(
    factors: dict[str, Factors], dense_PP: Tensor, sizes: Sequence[tuple[int, int]]
) -> dict[str, list[float]]:
    """|dense block - factored| / |dense block| of each layer. EK-FAC's is never above K-FAC's: of all
    matrices with these eigenvectors it is the nearest (George et al. 2018).
    """
    errors: dict[str, list[float]] = {"ekfac": [], "kfac": []}
    start = 0
    for layer, (o, i) in zip(factors.values(), sizes, strict=True):
        block = dense_PP[start : start + o * i, start : start + o * i]
        basis = torch.einsum("ab,cd->acbd", layer.basis_OO.double(), layer.basis_II.double()).reshape(
            o * i, o * i
        )
        for method in errors:
            values = layer.eigenvalues(method).double().flatten()  # type: ignore[arg-type]
            errors[method].append(float((block - (basis * values) @ basis.T).norm() / block.norm()))
        start += o * i
    return errors


def proximal_responses(approximations: Approximations, data: Digits, rows: Sequence[int]) -> np.ndarray:
    """How fast each question's log-probability rises with a row's weight, by solving the proximal objective
    at a weight of -0.1 / N: (Q, rows).
    """
    model, answers, questions = approximations.model, data.answers_Q, data.questions_QC.double()

    def losses(theta_P: Tensor) -> Tensor:
        return F.cross_entropy(model.logits(theta_P, questions), answers, reduction="none").detach()

    before, weight, columns = losses(model.start()), -0.1 / len(data.rows), []
    for row in rows:
        theta = response(
            model,
            data.inputs_NC,
            data.rows[row],
            weight=weight,
            damping_P=approximations.damping_P,
            diagonal_P=approximations.dense_PP.diagonal(),
        )
        columns.append(-(losses(theta) - before).numpy() / weight)
    return np.stack(columns, axis=1)


def correlations(first_QN: np.ndarray, second_QN: np.ndarray) -> list[float]:
    """Pearson's r of each question's rows."""
    return [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(first_QN, second_QN, strict=True)]


def half_of_rows(data: Digits, seed: int, number: int) -> np.ndarray:
    """The indices of half of the rows, drawn by number."""
    return np.random.default_rng([seed, number]).permutation(len(data.rows))[: len(data.rows) // 2]


def retrain(data: Digits, rows: np.ndarray, *, seed: int, starts: int) -> list[float]:
    """Each question's log-probability after training on those rows alone, the mean over so many starts."""
    logprobs = []
    for start in range(starts):
        network = train_network(data.inputs_NC[rows], data.labels_N[rows], seed=1000 * seed + start)
        losses = F.cross_entropy(network(data.questions_QC), data.answers_Q, reduction="none")
        logprobs.append(-losses.detach().numpy())
    return [float(logprob) for logprob in np.mean(logprobs, axis=0)]


def datamodelling_scores(
    scores_QN: np.ndarray, subsets: Sequence[np.ndarray], outcomes_SQ: np.ndarray
) -> list[float]:
    """Of each question the rank correlation, over subsets, of the sum of their rows' influences with what
    training on them alone came to.
    """
    sums_SQ = np.stack([scores_QN[:, rows].sum(axis=1) for rows in subsets])
    return [
        float(stats.spearmanr(a, b).statistic)
        for a, b in zip(sums_SQ.T, np.asarray(outcomes_SQ).T, strict=True)
    ]
