"""Activations made of directions that are known: what a dictionary should find.

Shapes: B activations, D channels, G planted directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from solon.errors import InputError
from solon.models.base import derive


@dataclass(frozen=True, slots=True)
class Planted:
    """Unit directions (G, D), and how often each is there (G,). Where it is, its strength is uniform on [1/2,
    3/2].
    """

    directions_GD: Tensor
    frequency_G: Tensor

    def batches(self, size: int, *, seed: int, start: int = 0) -> Iterator[Tensor]:
        """Batches (size, D) without end, each drawn by its own number."""
        while True:
            generator = torch.Generator().manual_seed(derive(seed, "planted", start))
            there_BG = torch.rand(size, len(self.frequency_G), generator=generator) < self.frequency_G
            strength_BG = there_BG * (0.5 + torch.rand(there_BG.shape, generator=generator))
            yield strength_BG @ self.directions_GD
            start += 1


def planted(width: int, count: int, *, seed: int, active: float, exponent: float = 0.0) -> Planted:
    """`count` random directions, of which `active` are there at a time; frequencies fall with rank to the
    power of -exponent (0: all alike, 1: Zipf).

    Raises InputError where a direction would be there more often than always.
    """
    directions_GD = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    ranks_G = torch.arange(1, count + 1, dtype=torch.float64) ** -exponent
    frequency_G = (ranks_G / ranks_G.sum() * active).float()
    if float(frequency_G.max()) > 1:
        raise InputError(
            f"{active:g} active of {count} with exponent {exponent:g} asks for a direction that is there "
            "more often than always"
        )
    return Planted(directions_GD / directions_GD.norm(dim=1, keepdim=True), frequency_G)
