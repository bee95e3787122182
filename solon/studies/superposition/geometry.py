"""What superposition looks like: how many features share a dimension, in which shapes, and what theory says
should be represented (Elhage et al. 2022).

Shapes: N features, M hidden dimensions, B inputs, P points of integration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from scipy import optimize
from torch import Tensor

from solon.errors import InputError

Floats = npt.NDArray[np.float64]
# antipodal pair, tetrahedron, triangle, pentagon, square antiprism
LINES = {"1/2": 1 / 2, "3/4": 3 / 4, "2/3": 2 / 3, "2/5": 2 / 5, "3/8": 3 / 8}


def dimensionality(weights_NM: Tensor) -> Floats:
    """The share of a dimension that each feature has: |W_i|^2 / sum_j (W_i / |W_i| . W_j)^2, (N,); 0 where a
    feature is absent.

    >>> dimensionality(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0]])).round(6).tolist()
    [0.5, 0.5, 1.0]
    """
    w = weights_NM.double().numpy()
    squares = (w**2).sum(axis=1)
    shared = ((w @ w.T) ** 2).sum(axis=1)  # |W_i|^2 times the sum
    return np.where(squares > 1e-6, squares**2 / np.maximum(shared, 1e-30), 0.0)


def per_dimension(weights_NM: Tensor) -> float:
    """Features represented for each hidden dimension, |W|^2 / M; its inverse is D*, the dimensions that a
    feature has.
    """
    return float(weights_NM.square().sum()) / weights_NM.shape[1]


def on_line(
    values: Floats, line: float, *, near: float = 0.005, flank: float = 0.0125, fewest: int = 10
) -> bool:
    """Whether features gather at a fraction: `fewest` or more within `near` of it, and at least twice as many
    as in either band of the same width `flank` away.
    """

    def count(middle: float) -> int:
        return int((np.abs(values - middle) <= near).sum())

    here = count(line)
    return here >= fewest and here >= 2 * max(count(line - flank), count(line + flank))


LEAST = 0.25  # of a weight, or of an overlap, that counts as there
SEARCH = {"maxiter": 600, "xatol": 1e-4, "fatol": 1e-9}  # Nelder and Mead's


@lru_cache(maxsize=4)
def _inputs(features: int, density: float) -> tuple[Floats, Floats]:
    """Inputs (P, N) at which integration looks, and their weights (P,): every choice of features that are
    there, each at Gauss and Legendre's points.
    """
    x, share = np.polynomial.legendre.leggauss(48 if features < 3 else 12)
    here, gone = ((x + 1) / 2, density * share / 2), (np.zeros(1), np.array([1 - density]))
    cases = [zip(*chosen, strict=True) for chosen in product((here, gone), repeat=features)]
    parts = [
        (np.meshgrid(*values, indexing="ij"), np.meshgrid(*weights, indexing="ij"))
        for values, weights in cases
    ]
    inputs = np.concatenate([np.stack([x.ravel() for x in values], axis=1) for values, _ in parts])
    return inputs, np.concatenate([np.prod([w.ravel() for w in weights], axis=0) for _, weights in parts])


def expected_loss(weights_NM: Floats, bias_N: Floats, importance_N: Floats, density: float) -> float:
    """The loss  E sum_i I_i (x_i - ReLU(W W^T x + b)_i)^2  of a model of up to three features, by
    integration.

    >>> round(expected_loss(np.eye(2), np.zeros(2), np.ones(2), 0.3), 12)
    0.0
    """
    x_PN, weight_P = _inputs(len(weights_NM), density)
    output_PN = np.maximum(x_PN @ weights_NM @ weights_NM.T + bias_N, 0)
    return float(weight_P @ (output_PN - x_PN) ** 2 @ importance_N)


@cache
def phases(density: float, importance: float) -> dict[str, float]:
    """The loss of each way to put two features, the second of this importance and the first of 1, into one
    dimension: the first alone, the second alone, both opposite each other. A feature alone is got exactly and
    the other by its mean; opposite ones have their best lengths and biases.
    """
    variance = density / 3 - density**2 / 4

    def opposite(free: Floats) -> float:
        return expected_loss(
            np.array([[free[0]], [-free[1]]]), free[2:], np.array([1.0, importance]), density
        )

    starts = ([1.0, 1.0, 0.0, 0.0], [1.0, 0.6, 0.0, density / 2], [0.6, 1.0, density / 2, 0.0])
    tries = [
        optimize.minimize(opposite, np.array(start), method="Nelder-Mead", options=SEARCH) for start in starts
    ]
    # with one length near 0 it is one feature alone
    losses = [float(found.fun) for found in tries if min(found.x[0], found.x[1]) > LEAST]
    return {"first": importance * variance, "second": variance, "both": min(losses, default=float("inf"))}


@cache
def phases_of_three(density: float, importance: float) -> dict[str, float]:
    """The loss of each place that a third feature, of this importance beside two of 1, may have in two
    dimensions: absent, with a dimension for each of the others; shared, opposite one of them or in a triangle
    with both; dedicated, with the others opposite each other or one of them absent.
    """
    variance = density / 3 - density**2 / 4

    def triangle(free: Floats) -> float:
        length, third, angle, bias, bias_third = free
        across, along = length * np.sin(angle), length * np.cos(angle)
        weights = np.array([[across, -along], [-across, -along], [0.0, third]])
        return expected_loss(
            weights, np.array([bias, bias, bias_third]), np.array([1.0, 1.0, importance]), density
        )

    starts = ([0.9, 0.9, np.pi / 3, 0.0, 0.0], [0.8, 1.0, 1.25, density / 3, density / 6])
    tries = [
        optimize.minimize(triangle, np.array(start), method="Nelder-Mead", options=SEARCH) for start in starts
    ]
    # else nothing is shared
    triangles = [
        float(found.fun)
        for found in tries
        if min(abs(found.x[1]), abs(found.x[0] * np.cos(found.x[2]))) > LEAST
    ]
    shared = min([phases(density, importance)["both"], *triangles])
    return {
        "absent": importance * variance,
        "shared": shared,
        "dedicated": min(phases(density, 1.0)["both"], variance),
    }


def best(losses: Mapping[str, float]) -> str:
    """The arrangement with the lowest loss."""
    return min(losses, key=lambda name: losses[name])


def phase_of(weights_21: Tensor) -> str:
    """What two features in one dimension came to be: first, second, both (opposite), alike (on one side), or
    neither.
    """
    first, second = map(float, weights_21.flatten())
    there = [abs(first) > LEAST, abs(second) > LEAST]
    if all(there):
        return "both" if first * second < 0 else "alike"
    return "first" if there[0] else "second" if there[1] else "neither"


def phase_of_third(weights_32: Tensor) -> str:
    """What became of the third feature: absent, shared (another lies along its direction too), or
    dedicated.
    """
    length = float(weights_32[2].norm())
    if length <= LEAST:
        return "absent"
    return "shared" if float((weights_32[:2] @ weights_32[2] / length).abs().max()) > LEAST else "dedicated"


def attacked_error(
    weights_NM: Tensor, bias_N: Tensor, x_BN: Tensor, *, radius: float, steps: int = 30
) -> float:
    """The mean squared error of a model where every input is moved, by at most `radius`, to where it is
    worst; found by ascent from a random start.
    """
    if radius < 0:
        raise InputError(f"a radius is not below 0; found {radius:g}")

    def error(moved: Tensor) -> Tensor:
        output = torch.relu((x_BN + moved) @ weights_NM @ weights_NM.T + bias_N)
        return (output - x_BN).square().sum(dim=1)

    if radius == 0:
        return float(error(torch.zeros_like(x_BN)).mean())
    generator = torch.Generator().manual_seed(0)
    moved = torch.randn(x_BN.shape, generator=generator)
    moved = radius * moved / moved.norm(dim=1, keepdim=True)
    for _ in range(steps):
        with torch.enable_grad():
            free = moved.detach().requires_grad_()
            (slope,) = torch.autograd.grad(error(free).sum(), free)
        moved = moved + 0.5 * radius * slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-12)
        moved = moved * (radius / moved.norm(dim=1, keepdim=True).clamp(min=radius))
    return float(torch.maximum(error(moved), error(torch.zeros_like(moved))).mean())


def polytopes() -> dict[str, tuple[Tensor, float]]:
    """Shapes whose features' dimensionality is known: rows, and the fraction."""

    def ring(count: int) -> Tensor:
        angle = torch.arange(count, dtype=torch.float64) * (2 * torch.pi / count)
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    corners = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    square, rotated = ring(4), ring(8)[1::2]
    lift = torch.full((4, 1), 0.5**0.5, dtype=torch.float64)  # so that rows spread alike in three directions
    antiprism = torch.cat([torch.cat([square, lift], dim=1), torch.cat([rotated, -lift], dim=1)])
    return {
        "orthogonal": (torch.eye(3, dtype=torch.float64), 1.0),
        "digon": (torch.tensor([[1.0], [-1.0]], dtype=torch.float64), 1 / 2),
        "triangle": (ring(3), 2 / 3),
        "tetrahedron": (corners, 3 / 4),
        "pentagon": (ring(5), 2 / 5),
        "square antiprism": (antiprism, 3 / 8),
    }


def largest_share(values: Sequence[float]) -> float:
    """How much of a row of weights its largest has: max |w| / sum |w|. 1: one feature alone."""
    sizes = np.abs(np.array(values))
    return float(sizes.max() / max(float(sizes.sum()), 1e-12))
