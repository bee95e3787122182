"""What can be changed about the study of toy models of superposition."""

from __future__ import annotations

from dataclasses import dataclass

from solon.errors import InputError
from solon.study.settings import no_number, paper, unpublished


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed. What is the paper's is what its authors' notebook has."""

    features: int = paper(200, "features of the models whose geometry is looked at")
    """of the models whose geometry is looked at"""
    hidden: int = paper(20, "hidden dimensions")
    levels: int = paper(20, "densities")
    """densities from 1 down to a twentieth, evenly spaced in their logarithm"""
    steps: int = paper(10_000, "training steps")
    batch: int = paper(1024, "inputs of a batch")
    cells: int = unpublished(12)
    """of each phase diagram, on each side"""
    restarts: int = unpublished(8)
    """of each of its cells, the best of which counts (twice as many where features are three); also of the
    models of the introduction
    """
    phase_steps: int = unpublished(4000)
    absolute_features: int = 20
    """of the models that compute absolute values, with as many neurons"""
    absolute_steps: int = unpublished(6000)
    radius: float = unpublished(0.1)
    """of an attack on inputs"""
    workers: int = no_number(2)
    """processes, of one thread each"""

    def __post_init__(self) -> None:
        if (
            self.features <= self.hidden
            or self.levels < 4
            or self.cells < 4
            or min(self.restarts, self.steps, self.phase_steps, self.absolute_steps, self.workers) < 1
        ):
            raise InputError(
                "there are more features than hidden dimensions, at least 4 levels and 4 cells, and "
                "restarts, steps and workers are at least 1"
            )
        if self.radius <= 0 or self.absolute_features < 4 or self.steps < 100:
            raise InputError(
                "an attack's radius is above 0, absolute values are of at least 4 features, and steps at "
                "least 100"
            )


def quick() -> Settings:
    """All sections in minutes on two cores."""
    return Settings(batch=512, phase_steps=3000, restarts=6, absolute_steps=3000)


def full() -> Settings:
    """The authors' notebook's numbers."""
    return Settings()
