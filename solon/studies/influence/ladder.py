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
        return [(own, int(label)) for own, label in zip(self.inputs_NC, self.labels_N, strict=True)]

    @property
    def asked(self) -> list[LabelledVector]:
        return [(own, int(label)) for own, label in zip(self.questions_QC, self.answers_Q, strict=True)]


def digits(seed: int, *, rows: int, asked: int) -> Digits:
    """Drawn by seed, none both learned from and asked."""
    pixels, names = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(pixels))[: rows + asked]
    inputs, labels = torch.tensor(pixels[order] / 16, dtype=torch.float32), torch.tensor(names[order])
    return Digits(inputs[:rows], labels[:rows], inputs[rows:], labels[rows:])


def network(inputs_NC: Tensor, labels_N: Tensor, *, seed: int, steps: int = 200) -> nn.Sequential:
    """64 - 24 - 10 with tanh, trained on all of them at once."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Linear(64, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 10))
    for parameter in net.parameters():
        bound = parameter.shape[-1] ** -0.5
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2, weight_decay=1e-4)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(net(inputs_NC), labels_N).backward()
        optimiser.step()
    return net


@dataclass(frozen=True, slots=True)
class Rungs:
    """Influences (Q, N) by each approximation, from exact curvature down; and how far each layer's factored
    curvature is from its dense block, by Frobenius norms over that of the block.
    """

    scores: dict[str, np.ndarray]
    apart: dict[str, list[float]]
    damping_P: Tensor
    dense_PP: Tensor
    model: Classifier


def rungs(net: nn.Sequential, data: Digits) -> Rungs:
    """Every approximation on the same network. Labels are all classes, weighted: curvature without the noise
    of drawing them.
    """
    layers, objective = linear_layers(net), classification_objective(net)
    factors = fit_factors(
        expected_label_objective(net, 10),
        layers,
        [(own, label) for own, _ in data.rows for label in range(10)],
    )
    asked = {m: preconditioned_queries(objective, layers, factors, data.asked, method=m) for m in METHODS}
    found: dict[str, np.ndarray] = {
        m: influence(objective, layers, own, data.rows) for m, own in asked.items()
    }
    model = Classifier(net.double(), tuple(layers))
    dense_PP = gauss_newton(model, data.inputs_NC)
    sizes = model.sizes()
    damping_P = torch.cat(
        [
            torch.full((o * i,), DAMPING * float(own.values_OI.mean()), dtype=torch.float64)
            for own, (o, i) in zip(factors.values(), sizes, strict=True)
        ]
    )
    learned, wanted = (
        gradients(model, data.inputs_NC, data.labels_N),
        gradients(model, data.questions_QC, data.answers_Q),
    )
    for name, matrix in (("exact", dense_PP), ("blocks", block_diagonal(dense_PP, sizes))):
        found[name] = (wanted @ torch.linalg.solve(matrix + torch.diag(damping_P), learned.T)).numpy()
    return Rungs(found, apart(factors, dense_PP, sizes), damping_P, dense_PP, model)


def apart(
    factors: dict[str, Factors], dense_PP: Tensor, sizes: Sequence[tuple[int, int]]
) -> dict[str, list[float]]:
    """|dense block - factored| / |dense block| of each layer. EK-FAC's is never above K-FAC's: of all
    matrices with these eigenvectors it is the nearest (George et al. 2018).
    """
    found: dict[str, list[float]] = {"ekfac": [], "kfac": []}
    start = 0
    for own, (o, i) in zip(factors.values(), sizes, strict=True):
        part = dense_PP[start : start + o * i, start : start + o * i]
        basis = torch.einsum("ab,cd->acbd", own.basis_OO.double(), own.basis_II.double()).reshape(
            o * i, o * i
        )
        for method in found:
            values = own.eigenvalues(method).double().flatten()  # type: ignore[arg-type]
            found[method].append(float((part - (basis * values) @ basis.T).norm() / part.norm()))
        start += o * i
    return found


def responses(own: Rungs, data: Digits, places: Sequence[int]) -> np.ndarray:
    """How fast each question's log-probability rises with a row's weight, by solving the proximal objective
    at a weight of -0.1 / N: (Q, places).
    """
    answers, questions = data.answers_Q, data.questions_QC.double()

    def losses(theta_P: Tensor) -> Tensor:
        return F.cross_entropy(own.model.logits(theta_P, questions), answers, reduction="none").detach()

    before, weight, found = losses(own.model.start()), -0.1 / len(data.rows), []
    for place in places:
        theta = response(
            own.model,
            data.inputs_NC,
            data.rows[place],
            weight=weight,
            damping_P=own.damping_P,
            diagonal_P=own.dense_PP.diagonal(),
        )
        found.append(-(losses(theta) - before).numpy() / weight)
    return np.stack(found, axis=1)


def by_question(first_QN: np.ndarray, second_QN: np.ndarray) -> list[float]:
    """Pearson's r of each question's rows."""
    return [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(first_QN, second_QN, strict=True)]


def subset(data: Digits, seed: int, number: int) -> np.ndarray:
    """Half of the rows, by number: their places."""
    return np.random.default_rng([seed, number]).permutation(len(data.rows))[: len(data.rows) // 2]


def trained_again(data: Digits, places: np.ndarray, *, seed: int, starts: int) -> list[float]:
    """Each question's log-probability after training on those rows alone, the mean over so many starts."""
    found = []
    for start in range(starts):
        net = network(data.inputs_NC[places], data.labels_N[places], seed=1000 * seed + start)
        found.append(
            -F.cross_entropy(net(data.questions_QC), data.answers_Q, reduction="none").detach().numpy()
        )
    return [float(own) for own in np.mean(found, axis=0)]


def datamodelling(
    scores_QN: np.ndarray, subsets: Sequence[np.ndarray], outcomes_SQ: np.ndarray
) -> list[float]:
    """Of each question the rank correlation, over subsets, of the sum of their rows' influences with what
    training on them alone came to.
    """
    sums_SQ = np.stack([scores_QN[:, places].sum(axis=1) for places in subsets])
    return [
        float(stats.spearmanr(a, b).statistic)
        for a, b in zip(sums_SQ.T, np.asarray(outcomes_SQ).T, strict=True)
    ]
