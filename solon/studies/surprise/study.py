"""Predictability and Surprise in Large Generative Models (Ganguli et al. 2022, arXiv:2202.07785), its core:
smooth loss, abrupt abilities.

Small transformers of several widths are trained here on k-digit addition, and the same checkpoints are
measured by their loss and by exact match; per-token accuracy to the power of the length says how much of the
surprise is in the metric.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial

from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.base import derive
from solon.models.dialogue import WordDialogue
from solon.models.torch_model import TorchModel
from solon.records.codecs import fields_codec
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.surprise.ability import (
    WORDS,
    Ability,
    Sum,
    draw_sum,
    held_out_sums,
    measure_ability,
)
from solon.studies.surprise.inputs import Options
from solon.studies.surprise.report import Results, report
from solon.studies.surprise.settings import Settings, full, quick
from solon.study.conduct import NoInputs, Study
from solon.training.fit import Example, fit, reply_cross_entropy
from solon.training.optimiser import Plan
from solon.training.steps import State, Step

DIALOGUE = WordDialogue(WORDS)


def study(run: Run, settings: Settings, inputs: NoInputs) -> Report:
    """Models of every width are trained, and measured at every checkpoint; each stage is kept."""
    results = Results()
    held_out = {digits: held_out_sums(digits, settings.sums, run.seed) for digits in settings.digits}
    steps = checkpoints(settings.steps, settings.checkpoints)
    for width in settings.widths:
        start = new_model(width, settings, seed=derive(run.seed, "start", width))
        results.parameters[width] = sum(parameter.numel() for parameter in start.module.parameters())
        train(run, width, start, steps, settings)
        for step in steps:
            model = start.copy()
            model.load(run.folder / f"width_{width}-{step}.safetensors")
            for digits, sums in held_out.items():
                rows = [example(drawn, reverse=settings.reverse_answers) for drawn in sums]
                results.abilities[width, step, digits] = run.value(
                    f"ability_{width}_{step}_{digits}",
                    partial(measure_ability, model.module, rows),
                    fields_codec(Ability),
                )
    return report(settings, results)


def checkpoints(steps: int, count: int) -> list[int]:
    """Steps evenly spaced in their logarithm, the last one among them."""
    first = max(1, steps // 100)
    ratio = (steps / first) ** (1 / (count - 1))
    return sorted({round(first * ratio**index) for index in range(count - 1)} | {steps})


def new_model(width: int, settings: Settings, *, seed: int) -> TorchModel:
    """An untrained transformer that reads the longest of the sums."""
    context = 4 * max(settings.digits) + 8
    shape = Shape(DIALOGUE.size, width=width, layers=settings.layers, heads=4, context=context)
    return TorchModel(f"width {width}", SmallTransformer(shape, seed=seed), DIALOGUE)


def example(drawn: Sum, *, reverse: bool) -> Example:
    """The tokens of a sum and of its answer."""
    question = drawn.question()
    return DIALOGUE.prompt(question), DIALOGUE.reply(question, drawn.answer(reverse=reverse))


def train(run: Run, width: int, start: TorchModel, steps: Sequence[int], settings: Settings) -> None:
    """A model trained on sums that are not held out, kept as it was at each of the steps."""

    def batch(number: int) -> list[list[Example]]:
        rng = random.Random(derive(run.seed, "batch", number))
        sums = (draw_sum(rng, rng.choice(settings.digits), held_out=False) for _ in range(settings.batch))
        return [[example(drawn, reverse=settings.reverse_answers) for drawn in sums]]

    def loop(model: TorchModel, state: State | None) -> Iterator[Step]:
        plan = Plan(settings.steps, settings.learning_rate, warmup=min(50, settings.steps), schedule="cosine")
        loss = reply_cross_entropy(model.module)
        for step in fit(model.module, batch, loss, plan=plan, state=state, world=run.world):
            if step.number in steps:
                run.artefact(f"width_{width}-{step.number}.safetensors", model.save)
            yield step

    run.trained(f"width_{width}", start, loop, steps=settings.steps)


STUDY = Study(
    name="surprise",
    options=Options,
    quick=quick,
    full=full,
    inputs=lambda options: NoInputs(),
    study=study,
    subject=lambda inputs: "small transformers",
)
