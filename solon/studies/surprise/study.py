"""Predictability and Surprise in Large Generative Models (Ganguli et al. 2022, arXiv:2202.07785), its core:
smooth loss, abrupt abilities.

Small transformers of several widths are trained here on k-digit addition, and the same checkpoints are
measured by their loss and by exact match; per-token accuracy to the power of the length says how much of the
surprise is in the metric.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from solon.errors import InputError
from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.base import derive
from solon.models.dialogue import WordDialogue
from solon.models.torch_model import TorchModel
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.surprise.ability import WORDS, Ability, Sum, ability, drawn
from solon.studies.surprise.report import Findings, report
from solon.training.fit import Example, fit, reply_cross_entropy
from solon.training.optimiser import Plan
from solon.training.steps import State, Step


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    """of the models, from narrow to wide; four heads each"""
    layers: int = 2
    digits: tuple[int, ...] = (1, 2, 3)
    """of each number; sums of all lengths are trained on together"""
    turned: bool = True
    """answers with the smallest place first, which is easier to learn; off: as people write them"""
    steps: int = 6000
    batch: int = 128
    learning_rate: float = 3e-3
    checkpoints: int = 16
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
            or not all(1 <= own <= 6 for own in self.digits)
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


def study(run: Run, settings: Settings) -> Report:
    """All of it; every stage is kept, and gone on from."""
    found = Findings()
    dialogue = WordDialogue(WORDS)
    held = {digits: held_out(digits, settings.sums, run.seed) for digits in settings.digits}
    marks = checkpoints(settings)
    for width in settings.widths:
        shape = Shape(
            dialogue.size, width=width, layers=settings.layers, heads=4, context=4 * max(settings.digits) + 8
        )
        start = TorchModel(
            f"width {width}", SmallTransformer(shape, seed=derive(run.seed, "start", width)), dialogue
        )
        found.parameters[width] = sum(parameter.numel() for parameter in start.module.parameters())
        trained(run, width, start, marks, settings)
        for step in marks:
            model = start.copy()
            model.load(run.folder / f"width_{width}-{step}.safetensors")
            for digits, sums in held.items():
                found.abilities[width, step, digits] = measured(
                    run, width, step, digits, model, sums, settings
                )
    return report(asdict(settings), found)


def held_out(digits: int, count: int, seed: int) -> list[Sum]:
    """Different held-out sums; all there are, where these are few."""
    if digits == 1:
        return [own for first in range(10) for second in range(10) if (own := Sum(first, second, 1)).held_out]
    rng, found = random.Random(derive(seed, "held out", digits)), dict[Sum, None]()
    while len(found) < min(count, 10 ** (2 * digits) // 20):
        found[drawn(rng, digits, held_out=True)] = None
    return list(found)


def checkpoints(settings: Settings) -> list[int]:
    """Steps evenly spaced in their logarithm, the last one among them."""
    last, first = settings.steps, max(1, settings.steps // 100)
    ratio = (last / first) ** (1 / (settings.checkpoints - 1))
    return sorted({round(first * ratio**place) for place in range(settings.checkpoints - 1)} | {last})


def example(dialogue: WordDialogue, own: Sum, settings: Settings) -> Example:
    talk = own.asked()
    return dialogue.prompt(talk), dialogue.reply(talk, own.answer(turned=settings.turned))


def trained(run: Run, width: int, start: TorchModel, marks: list[int], settings: Settings) -> None:
    """A model trained on sums that are not held out, kept as it was at each mark."""
    dialogue = WordDialogue(WORDS)

    def batch(number: int) -> list[list[Example]]:
        rng = random.Random(derive(run.seed, "batch", number))
        sums = (drawn(rng, rng.choice(settings.digits), held_out=False) for _ in range(settings.batch))
        return [[example(dialogue, own, settings) for own in sums]]

    def loop(model: TorchModel, state: State | None) -> Iterator[Step]:
        plan = Plan(settings.steps, settings.learning_rate, warmup=min(50, settings.steps), schedule="cosine")
        for step in fit(
            model.module, batch, reply_cross_entropy(model.module), plan=plan, state=state, world=run.world
        ):
            if step.number in marks:
                run.artefact(f"width_{width}-{step.number}.safetensors", model.save)
            yield step

    run.trained(f"width_{width}", start, loop, steps=settings.steps)


def measured(
    run: Run, width: int, step: int, digits: int, model: TorchModel, sums: list[Sum], settings: Settings
) -> Ability:
    dialogue = WordDialogue(WORDS)
    kept: Any = run.once(
        f"ability_{width}_{step}_{digits}",
        lambda: asdict(ability(model.module, [example(dialogue, own, settings) for own in sums])),
    )
    return Ability(tuple(kept["loss"]), tuple(kept["per_token"]), tuple(kept["exact"]), kept["length"])
