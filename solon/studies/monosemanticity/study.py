"""Scaling Monosemanticity: Extracting Interpretable Features from Claude 3 Sonnet (Templeton et al. 2024),
top to bottom, on any model whose weights are in hand.

Directions that are planted, where asked; then a model's residual stream is taken apart into features, which
are measured, held against what is known of tokens, put to work by clamping, attributed, labelled, and shown
on one page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from solon.errors import InputError
from solon.interpretability.features import feature_activations
from solon.interpretability.steering import HookSite
from solon.interpretability.stream import harvester
from solon.models.backbones.backbone import Backbone
from solon.models.base import Tokens, derive
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.monosemanticity.bank import measure_bank, measure_scaling, train_bank
from solon.studies.monosemanticity.features import (
    attribute_rows,
    error_moved,
    label_features,
    match_predicates,
    match_words,
    steer_features,
)
from solon.studies.monosemanticity.inputs import Inputs, Options, read
from solon.studies.monosemanticity.page import write_dictionary
from solon.studies.monosemanticity.planted import study_planted
from solon.studies.monosemanticity.report import report
from solon.studies.monosemanticity.results import Results
from solon.studies.monosemanticity.settings import Settings, full, quick, toy
from solon.studies.monosemanticity.subject import Sample, Subject, select_features
from solon.study.conduct import Study


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """All of it; every stage is kept, and gone on from."""
    planted = study_planted(run, settings) if settings.planted else None
    site = hook_site(inputs.model.module, settings)
    held_out, rows = split_rows(inputs.rows, settings, seed=run.seed)
    scaling = measure_scaling(run, settings, site, rows)
    bank = train_bank(run, settings, site, rows, scaling)

    site = replace(site, max_norm=scaling.limit)
    harvest = harvester(site.backbone, held_out, site.layer, skip=settings.skip)
    sample = Sample(tuple(held_out), harvest(range(len(held_out))), scaling.limit)
    autoencoders = measure_bank(run, settings, site, bank, sample)
    main = list(bank)[settings.main]
    activations = feature_activations(main, sample.activations.split(4096), max_norm=scaling.limit)
    shown = select_features(activations, settings.shown, run.seed)
    if not shown:
        raise InputError(
            "no feature fires five times on the held-out text: lower --l1-coefficients, or train for longer"
        )

    subject = Subject(site, main, sample, activations, inputs.spelled, run.seed)
    matches, too_few = match_predicates(subject, inputs.predicates)
    steering = steer_features(run, subject, inputs.predicates, matches, inputs.steered)
    attributions = attribute_rows(run, subject, inputs.model, settings.prompts)
    judge = inputs.labeller
    labels = label_features(run, subject, judge, shown, settings.labelled) if judge is not None else []
    write_dictionary(run, subject, shown, labels, model=inputs.model.name)
    per_row = settings.length - settings.skip
    results = Results(
        model=inputs.model.name,
        layer=site.layer,
        depth=site.backbone.depth,
        scale=scaling.scale,
        counts={
            **inputs.counts,
            "tokens learned from": settings.steps * settings.batch,
            "tokens of text to learn from": len(rows) * per_row,
            "tokens held out": len(held_out) * per_row,
            "held-out tokens with activations too long, left out": sample.left_out,
            **too_few,
        },
        planted=planted,
        autoencoders=autoencoders,
        words=match_words(subject),
        predicates=matches,
        steering=steering,
        error_moved=error_moved(subject),
        attributions=attributions,
        labels=labels,
    )
    return report(settings, results)


def hook_site(backbone: Backbone, settings: Settings) -> HookSite:
    """Where autoencoders stand: after the layer that is asked for, or the middle one. Raises InputError where
    there is no such layer, or rows are over the context.
    """
    site = HookSite(backbone, settings.layer or (backbone.depth + 1) // 2, settings.skip)
    if not site.site or settings.length > backbone.context:
        raise InputError(
            f"rows of {settings.length} tokens are over the model's context of {backbone.context}; lower "
            "--length"
        )
    return site


def split_rows(rows: Sequence[Tokens], settings: Settings, *, seed: int) -> tuple[list[Tokens], list[Tokens]]:
    """(held-out rows, rows to learn from), by content. Raises InputError where these do not fill a chunk."""
    order = sorted(range(len(rows)), key=lambda index: derive(seed, "row", rows[index]))
    held_out, learned = (
        [rows[index] for index in part] for part in (order[: settings.held_out], order[settings.held_out :])
    )
    if len(learned) < settings.chunk:
        raise InputError(
            f"{len(rows)} rows of text leave {len(learned)} beside {len(held_out)} held out; a chunk has "
            f"{settings.chunk}: give more text"
        )
    return held_out, learned


STUDY = Study(
    name="monosemanticity",
    options=Options,
    quick=quick,
    full=full,
    toy=toy,
    inputs=read,
    study=study,
    subject=lambda inputs: inputs.model.name,
)
