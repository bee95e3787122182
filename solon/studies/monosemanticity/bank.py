"""The bank of autoencoders: trained on one stream of activations, and measured on held-out rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from solon.interpretability.autoencoder import Autoencoder, AutoencoderBank, activation_scale
from solon.interpretability.dictionary import fit_autoencoders, measure_autoencoder, training_plan
from solon.interpretability.steering import HookSite, loss_recovered
from solon.interpretability.stream import activation_batches, harvester, within_norm
from solon.models.base import Tokens, derive
from solon.records.codecs import fields_codec
from solon.records.run import Run
from solon.studies.monosemanticity.results import AutoencoderWorth
from solon.studies.monosemanticity.settings import Settings
from solon.studies.monosemanticity.subject import Sample
from solon.training.steps import State, Step


@dataclass(frozen=True, slots=True)
class Scaling:
    """Activations longer than `limit` are left out, and the others multiplied by `scale`."""

    limit: float
    scale: float


def measure_scaling(run: Run, settings: Settings, site: HookSite, rows: Sequence[Tokens]) -> Scaling:
    """From the first rows: the longest activation that is learned from, and what typical length is."""

    def make() -> Scaling:
        harvest = harvester(site.backbone, rows, site.layer, skip=settings.skip)
        x_BD = harvest(range(min(len(rows), 256)))
        lengths_B = x_BD.norm(dim=1)
        if settings.farthest:
            limit = settings.farthest * float(lengths_B.median())
        else:
            limit = float(lengths_B.max()) * 1e6
        return Scaling(limit, activation_scale(x_BD[lengths_B <= limit], settings.normalisation))

    return run.value("scale", make, fields_codec(Scaling))


def train_bank(
    run: Run, settings: Settings, site: HookSite, rows: Sequence[Tokens], scaling: Scaling
) -> AutoencoderBank:
    """All autoencoders, trained on one stream."""
    harvest = harvester(site.backbone, rows, site.layer, skip=settings.skip)
    start = AutoencoderBank(
        [
            Autoencoder(
                site.backbone.width, features, seed=derive(run.seed, "start", features), scale=scaling.scale
            )
            for features in settings.widths
        ]
    )

    def stream(number: int) -> Iterator[Tensor]:
        batches = activation_batches(
            harvest, len(rows), chunk=settings.chunk, size=settings.batch, seed=run.seed, start=number
        )
        return within_norm(batches, scaling.limit)

    def loop(bank: AutoencoderBank, state: State | None) -> Iterator[Step]:
        plan = training_plan(settings.steps, settings.learning_rate)
        return fit_autoencoders(bank, stream, settings.penalties, plan=plan, state=state)

    return run.trained("dictionaries", start, loop, steps=settings.steps)


def measure_bank(
    run: Run, settings: Settings, site: HookSite, bank: AutoencoderBank, sample: Sample
) -> list[AutoencoderWorth]:
    """What each autoencoder is worth on held-out rows, to itself and to the model."""
    mean_D = torch.cat(list(sample.parts())).mean(dim=0)

    def worth(autoencoder: Autoencoder, penalty: float) -> AutoencoderWorth:
        quality = measure_autoencoder(autoencoder, sample.parts(), penalty)
        losses = loss_recovered(site, autoencoder, sample.rows[:128], mean_D)
        return AutoencoderWorth(
            features=autoencoder.features,
            l1_coefficient=penalty,
            explained=quality.explained,
            active=quality.active,
            dead=quality.dead,
            loss=quality.loss,
            recovered=losses.recovered,
            recovered_over_mean=losses.recovered_over_mean,
            clean=losses.clean,
            reconstructed=losses.reconstructed,
        )

    return [
        run.value(f"worth_{number}", partial(worth, autoencoder, penalty), fields_codec(AutoencoderWorth))
        for number, (autoencoder, penalty) in enumerate(zip(bank, settings.penalties, strict=True))
    ]
