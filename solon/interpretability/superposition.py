"""What superposition looks like: how many features share a dimension, in which shapes, and what theory says should be represented (Elhage et al. 2022).

Shapes: N features, M hidden dimensions, B inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import optimize
from torch import Tensor

from solon.errors import InputError

Floats = npt.NDArray[np.float64]
LINES = {"1/2": 1 / 2, "3/4": 3 / 4, "2/3": 2 / 3, "2/5": 2 / 5, "3/8": 3 / 8}  # antipodal pair, tetrahedron, triangle, pentagon, square antiprism


def dimensionality(weights_NM: Tensor) -> Floats:
    """The share of a dimension that each feature has: |W_i|^2 / sum_j (W_i / |W_i| . W_j)^2, (N,); 0 where a feature is absent.

    >>> dimensionality(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0]])).round(6).tolist()
    [0.5, 0.5, 1.0]
    """
    w = weights_NM.double().numpy()
    squares = (w**2).sum(axis=1)
    shared = ((w @ w.T) ** 2).sum(axis=1)  # |W_i|^2 times the sum
    return np.where(squares > 1e-6, squares**2 / np.maximum(shared, 1e-30), 0.0)


def per_dimension(weights_NM: Tensor) -> float:
    """Features represented for each hidden dimension, |W|^2 / M; its inverse is D*, the dimensions that a feature has."""
    return float(weights_NM.square().sum()) / weights_NM.shape[1]


def on_line(values: Floats, line: float, *, near: float = 0.005, flank: float = 0.0125, fewest: int = 10) -> bool:
    """Whether features gather at a fraction: `fewest` or more within `near` of it, and at least twice as many as in either band of the same width `flank` away."""

    def count(middle: float) -> int:
        return int((np.abs(values - middle) <= near).sum())

    here = count(line)
    return here >= fewest and here >= 2 * max(count(line - flank), count(line + flank))


@dataclass(frozen=True, slots=True)
class Phases:
    """The loss of each way to put two features into one dimension, at one density and relative importance of the second: the first alone, the second alone,
    both opposite each other.
    """

    first: float
    second: float
    both: float

    @property
    def best(self) -> str:
        return min(("first", "second", "both"), key=lambda name: float(getattr(self, name)))


GRID, WEIGHT = np.polynomial.legendre.leggauss(48)
GRID, WEIGHT = (GRID + 1) / 2, WEIGHT / 2


def phases(density: float, importance: float) -> Phases:
    """By integration over the inputs: a feature alone is got exactly and the other by its mean; opposite ones by their best lengths and biases.

    Loss is the sum over both features, the first of importance 1.
    """
    variance = density / 3 - density**2 / 4

    def opposite(free: Floats) -> float:
        first, second, bias_first, bias_second = free
        total = 0.0
        x, y = np.meshgrid(GRID, GRID, indexing="ij")
        cases = (
            ((1 - density) ** 2, np.zeros(1), np.zeros(1), np.ones(1)),
            (density * (1 - density), GRID, np.zeros_like(GRID), WEIGHT),
            (density * (1 - density), np.zeros_like(GRID), GRID, WEIGHT),
            (density**2, x, y, np.outer(WEIGHT, WEIGHT)),
        )
        for share, one, two, weight in cases:
            hidden = first * one - second * two
            errors = (np.maximum(first * hidden + bias_first, 0) - one) ** 2 + importance * (np.maximum(-second * hidden + bias_second, 0) - two) ** 2
            total += share * float((weight * errors).sum())
        return total

    starts = ([1.0, 1.0, 0.0, 0.0], [1.0, 0.6, 0.0, density / 2], [0.6, 1.0, density / 2, 0.0])
    options = {"maxiter": 400, "xatol": 1e-4, "fatol": 1e-9}
    tries = [optimize.minimize(opposite, np.array(start), method="Nelder-Mead", options=options) for start in starts]
    losses = [float(own.fun) for own in tries if min(own.x[0], own.x[1]) > LEAST]  # with one length near 0 it is one feature alone
    return Phases(importance * variance, variance, min(losses, default=float("inf")))


LEAST = 0.25  # of a weight that counts as there


def phase_of(weights_21: Tensor) -> str:
    """What two features in one dimension came to be: first, second, both (opposite), alike (on one side), or neither."""
    first, second = (float(own) for own in weights_21.flatten())
    there = [abs(first) > LEAST, abs(second) > LEAST]
    if all(there):
        return "both" if first * second < 0 else "alike"
    return "first" if there[0] else "second" if there[1] else "neither"


def attacked(weights_NM: Tensor, bias_N: Tensor, x_BN: Tensor, *, radius: float, steps: int = 30) -> float:
    """The mean squared error of a model where every input is moved, by at most `radius`, to where it is worst; found by ascent from a random start."""
    if radius < 0:
        raise InputError(f"a radius is not below 0; found {radius:g}")

    def error(moved: Tensor) -> Tensor:
        made = torch.relu((x_BN + moved) @ weights_NM @ weights_NM.T + bias_N)
        return (made - x_BN).square().sum(dim=1)

    if radius == 0:
        return float(error(torch.zeros_like(x_BN)).mean())
    generator = torch.Generator().manual_seed(0)
    moved = torch.randn(x_BN.shape, generator=generator)
    moved = radius * moved / moved.norm(dim=1, keepdim=True)
    for _ in range(steps):
        with torch.enable_grad():
            own = moved.detach().requires_grad_()
            (slope,) = torch.autograd.grad(error(own).sum(), own)
        moved = moved + 0.5 * radius * slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-12)
        moved = moved * (radius / moved.norm(dim=1, keepdim=True).clamp(min=radius))
    return float(torch.maximum(error(moved), error(torch.zeros_like(moved))).mean())


def polytopes() -> dict[str, tuple[Tensor, float]]:
    """Shapes whose features' dimensionality is known: rows, and the fraction."""

    def ring(count: int) -> Tensor:
        angle = torch.arange(count, dtype=torch.float64) * (2 * torch.pi / count)
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    corners = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    square, turned = ring(4), ring(8)[1::2]
    lift = torch.full((4, 1), 0.5**0.5, dtype=torch.float64)  # so that rows spread alike in three directions
    antiprism = torch.cat([torch.cat([square, lift], dim=1), torch.cat([turned, -lift], dim=1)])
    return {
        "orthogonal": (torch.eye(3, dtype=torch.float64), 1.0),
        "digon": (torch.tensor([[1.0], [-1.0]], dtype=torch.float64), 1 / 2),
        "triangle": (ring(3), 2 / 3),
        "tetrahedron": (corners, 3 / 4),
        "pentagon": (ring(5), 2 / 5),
        "square antiprism": (antiprism, 3 / 8),
    }


def shares(values: Sequence[float]) -> float:
    """How much of a row of weights its largest has: max |w| / sum |w|. 1: one feature alone."""
    sizes = np.abs(np.array(values))
    return float(sizes.max() / max(float(sizes.sum()), 1e-12))
