"""What can be changed about the study of smooth loss and abrupt ability."""

from __future__ import annotations

from dataclasses import dataclass

from solon.errors import InputError
from solon.study.settings import unpublished


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed. The paper trains no model on addition, so all of them are ours."""

    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    """of the models, from narrow to wide; four heads each"""
    layers: int = unpublished(2)
    digits: tuple[int, ...] = (1, 2, 3)
    """of each number; sums of all lengths are trained on together"""
    reverse_answers: bool = unpublished(True)
    """answers with the smallest place first, which is easier to learn; off: as people write them"""
    steps: int = 6000
    batch: int = unpublished(128)
    learning_rate: float = unpublished(3e-3)
    checkpoints: int = unpublished(16)
    """evenly spaced in the logarithm of steps"""
    sums: int = 400
    """held-out sums of each length to measure with; with fewer in the world, all"""

    def __post_init__(self) -> None:
        if (
            not self.widths
            or list(self.widths) != sorted(set(self.widths))
            or any(width % 4 for width in self.widths)
        ):
            raise InputError(f"widths rise and are multiples of four; found {self.widths}")
        if (
            not self.digits
            or not all(1 <= digits <= 6 for digits in self.digits)
            or self.checkpoints < 3
            or self.steps < self.checkpoints
        ):
            raise InputError(
                "digits are 1 to 6; at least three checkpoints are needed, and no fewer steps than these"
            )


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(widths=(16, 32, 64), digits=(1, 2), steps=1200, batch=96, checkpoints=10, sums=200)


def full() -> Settings:
    """More widths, three digits."""
    return Settings()
