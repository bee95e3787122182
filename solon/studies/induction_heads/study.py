"""In-context Learning and Induction Heads (Olsson et al. 2022, arXiv:2209.11895), top to bottom, on
transformers of one to three layers trained here.

The ability to use context comes at once, with the heads that look for what followed last time; models of one
layer, which cannot build them, do not get it, and those whose keys are smeared over two tokens do and sooner.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from solon.interpretability.induction import (
    HeadScores,
    ablate_heads,
    head_scores,
    heads_by_score,
    in_context_scores,
    path_expansion,
    repeated_sequences,
    token_losses,
)
from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.base import Tokens, derive
from solon.models.dialogue import WordDialogue
from solon.models.torch_model import TorchModel
from solon.records.codecs import fields_codec
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.induction_heads.given_study import study_given_model
from solon.studies.induction_heads.inputs import Inputs, Options, read
from solon.studies.induction_heads.repeats import training_rows
from solon.studies.induction_heads.report import report
from solon.studies.induction_heads.results import Ablation, Results, Snapshot, keep_scores
from solon.studies.induction_heads.settings import KINDS, Settings, full, quick
from solon.study.conduct import Study
from solon.study.stages import slug
from solon.training.fit import fit
from solon.training.losses import LossTotal
from solon.training.optimiser import Plan
from solon.training.steps import State, Step

INDUCTION = 0.3  # prefix matching from which a head counts among the induction heads


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """Models of every kind are trained, measured at every snapshot and taken apart at the end; or a given
    model is looked into. Each stage is kept.
    """
    if inputs.given is not None:
        return study_given_model(run, settings, inputs.given)
    results = Results()
    held_out = draw_rows(settings, run.seed, -1, settings.held_out)
    held_out_rows: list[Tokens] = [tuple(row) for row in held_out.tolist()]
    steps = [round(settings.steps * number / settings.snapshots) for number in range(settings.snapshots + 1)]
    for kind in settings.kinds:
        start = new_model(kind, settings, seed=derive(run.seed, "start", kind))
        final = train(run, kind, start, steps, settings)
        results.curves[kind] = [
            snapshot(run, kind, step, start, held_out_rows, settings=settings) for step in steps
        ]
        results.heads[kind] = score_heads(run, kind, final, held_out_rows, settings)
        results.ablations[kind] = ablate(
            run, kind, final, results.heads[kind], held_out_rows, settings=settings
        )
        if not KINDS[kind].mlps:
            logits, summed = path_expansion(final.module, held_out_rows[0])
            results.path_errors[kind] = float((logits - summed).abs().max() / logits.abs().max())
    return report(settings, results)


def draw_rows(settings: Settings, seed: int, number: int, count: int) -> Tensor:
    """Batch `number` of so many rows, (B, T); the first half of the rows repeat."""
    return training_rows(seed, number, count=count, length=settings.length, vocabulary=settings.vocabulary)


def new_model(kind: str, settings: Settings, *, seed: int) -> TorchModel:
    """An untrained transformer of a kind."""
    shape = Shape(
        settings.vocabulary,
        width=settings.width,
        layers=KINDS[kind].layers,
        heads=settings.heads,
        context=settings.length,
        attention_only=not KINDS[kind].mlps,
        keyed_positions=True,
        smeared_keys=KINDS[kind].smeared_keys,
    )
    return TorchModel(kind, SmallTransformer(shape, seed=seed), WordDialogue(()))


def train(run: Run, kind: str, start: TorchModel, steps: Sequence[int], settings: Settings) -> TorchModel:
    """A model trained on rows half of which repeat, kept as it was at each of the steps."""
    plan = Plan(
        settings.steps,
        settings.learning_rate,
        warmup=min(50, settings.steps),
        betas=(0.9, 0.98),
        weight_decay=0.01,
    )

    def batch(number: int) -> list[list[Tensor]]:
        return [list(draw_rows(settings, run.seed, number, settings.batch))]

    def loop(model: TorchModel, state: State | None) -> Iterator[Step]:
        backbone = model.module

        def loss(rows: Sequence[Tensor]) -> LossTotal:
            tokens_BT = torch.stack(list(rows)).to(backbone.device)
            logits_NV = backbone.logits(backbone.hidden(tokens_BT[:, :-1]).flatten(0, 1))
            target_N = tokens_BT[:, 1:].flatten()
            total = F.cross_entropy(logits_NV, target_N, reduction="sum")
            return LossTotal(total, float(target_N.numel()))

        if state is None:
            run.artefact(f"{slug(kind)}-0.safetensors", model.save)
        for step in fit(backbone, batch, loss, plan=plan, state=state, world=run.world):
            if step.number in steps:
                run.artefact(f"{slug(kind)}-{step.number}.safetensors", model.save)
            yield step

    return run.trained(slug(kind), start, loop, steps=settings.steps)


def snapshot(
    run: Run, kind: str, step: int, start: TorchModel, held_out: Sequence[Tokens], *, settings: Settings
) -> Snapshot:
    """Everything that is measured of a model at one step."""

    def make() -> Snapshot:
        model = start.copy()
        model.load(run.folder / f"{slug(kind)}-{step}.safetensors")
        losses_BT = token_losses(model.module, held_out)
        repeats = repeated_sequences(
            range(settings.vocabulary), seed=run.seed, block=settings.block, repeats=2, draws=4
        )
        scores = head_scores(model.module, repeats, held_out[-4:])
        rng = random.Random(derive(run.seed, "single"))
        # the same tokens at every step, of every model
        single = tuple(float(row[rng.randrange(len(row))]) for row in losses_BT)
        return Snapshot(
            step,
            loss=float(losses_BT.mean()),
            in_context=tuple(in_context_scores(losses_BT, early=settings.early, late=settings.late)),
            prefix=tuple(scores.prefix_LH.max(axis=1).tolist()),
            previous=tuple(scores.previous_LH.max(axis=1).tolist()),
            single=single,
        )

    return run.value(f"snapshot_{slug(kind)}_{step}", make, fields_codec(Snapshot))


def score_heads(
    run: Run, kind: str, model: TorchModel, held_out: Sequence[Tokens], settings: Settings
) -> HeadScores:
    """The scores of every head of a trained model."""
    repeats = repeated_sequences(range(settings.vocabulary), seed=run.seed, block=settings.block, repeats=2)
    return keep_scores(run, f"heads_{slug(kind)}", lambda: head_scores(model.module, repeats, held_out[-16:]))


def ablate(
    run: Run,
    kind: str,
    model: TorchModel,
    scores: HeadScores,
    held_out: Sequence[Tokens],
    *,
    settings: Settings,
) -> Ablation:
    """What a trained model loses without its best induction head, all of them, and each other head."""

    def in_context(losses_BT: Tensor) -> tuple[float, ...]:
        return tuple(in_context_scores(losses_BT, early=settings.early, late=settings.late))

    def make() -> Ablation:
        order = heads_by_score(scores.prefix_LH)
        inducers = [head for head in order if scores.prefix_LH[head] >= INDUCTION] or order[:1]
        repeating = held_out[: len(held_out) // 2]
        groups = [order[:1], inducers, *([head] for head in order if head not in inducers)]
        losses = [ablate_heads(model.module, repeating, group) for group in groups]
        clean = in_context(losses[0][0])
        best, together, *others = (in_context(ablated) for _, ablated in losses)
        mean = tuple(np.mean(others, axis=0).tolist()) if others else clean
        return Ablation(clean, best, together, mean, order[0], len(inducers))

    return run.value(f"silenced_{slug(kind)}", make, fields_codec(Ablation))


STUDY = Study(
    name="induction_heads",
    options=Options,
    quick=quick,
    full=full,
    inputs=read,
    study=study,
    subject=lambda inputs: inputs.given.model.name if inputs.given else "small transformers",
)
