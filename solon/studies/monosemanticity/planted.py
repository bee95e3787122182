"""Sparse autoencoders on activations whose directions are known: what is recovered, what features and steps
buy, and which directions get a feature.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from torch import Tensor

from solon.interpretability.autoencoder import Autoencoder, AutoencoderBank, activation_scale
from solon.interpretability.dictionary import (
    L1_COEFFICIENT,
    fit_autoencoders,
    measure_autoencoder,
    recovered_directions,
    training_plan,
)
from solon.models.base import derive
from solon.records.run import Run
from solon.scaling.frontier import TrainingRun
from solon.studies.monosemanticity.directions import Planted, planted
from solon.studies.monosemanticity.results import PlantedResults
from solon.studies.monosemanticity.settings import Settings
from solon.training.steps import State, Step

RATE = 1e-3
ALIKE = 0.9  # cosine from which a direction counts as found
BATCH = 512


def study_planted(run: Run, settings: Settings) -> PlantedResults:
    """Three parts: 256 alike directions in 64 channels under 512 features; a sweep of widths and steps where
    frequencies follow Zipf's law; and of the longest trainings of its three widest, which directions have a
    feature.
    """
    alike = planted(64, 256, seed=derive(run.seed, "world"), active=5.0)
    (autoencoder,) = train(run, "planted", alike, (512,), settings.planted_steps, batch=1024)
    zipf = planted(48, 192, seed=derive(run.seed, "zipf"), active=4.0, exponent=0.75)
    sample = list(itertools.islice(zipf.batches(BATCH, seed=derive(run.seed, "sample")), 16))
    trainings, completeness = list[TrainingRun](), dict[int, list[tuple[float, bool]]]()
    for steps in settings.sweep_steps:
        for swept in train(run, f"sweep_{steps}", zipf, settings.sweep_features, steps, batch=BATCH):
            quality = measure_autoencoder(swept, sample)
            # five dense products of two operations a number
            compute = 10.0 * BATCH * swept.width * swept.features * steps
            trainings.append(TrainingRun(swept.features, steps, compute, quality.loss))
            if steps == max(settings.sweep_steps) and swept.features in sorted(settings.sweep_features)[-3:]:
                alive = int((quality.frequency_F > 0).sum())
                cosines = recovered_directions(zipf.directions_GD, swept).tolist()
                completeness[swept.features] = [
                    (math.log(max(frequency * alive, 1e-9)), cosine >= ALIKE)
                    for frequency, cosine in zip(zipf.frequency_G.tolist(), cosines, strict=True)
                ]
    recovered = recovered_directions(alike.directions_GD, autoencoder).tolist()
    return PlantedResults(recovered, trainings, completeness)


def train(
    run: Run, name: str, world: Planted, features: tuple[int, ...], steps: int, *, batch: int
) -> AutoencoderBank:
    """Autoencoders of several widths on one stream of a planted world."""
    scale = activation_scale(next(world.batches(4096, seed=derive(run.seed, name, "scale"))))
    width = world.directions_GD.shape[1]
    start = AutoencoderBank(
        [Autoencoder(width, count, seed=derive(run.seed, name, count), scale=scale) for count in features]
    )

    def stream(number: int) -> Iterator[Tensor]:
        return world.batches(batch, seed=derive(run.seed, name), start=number)

    def loop(bank: AutoencoderBank, state: State | None) -> Iterator[Step]:
        return fit_autoencoders(
            bank, stream, [L1_COEFFICIENT] * len(features), plan=training_plan(steps, RATE), state=state
        )

    return run.trained(name, start, loop, steps=steps)
