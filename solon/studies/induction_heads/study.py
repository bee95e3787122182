"""In-context Learning and Induction Heads (Olsson et al. 2022, arXiv:2209.11895), top to bottom, on
transformers of one to three layers trained here.

The ability to use context comes at once, with the heads that look for what followed last time; models of one
layer, which cannot build them, do not get it, and those whose keys are smeared over two tokens do and sooner.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from solon.interpretability.induction import (
    Head,
    ablate_heads,
    head_scores,
    in_context_scores,
    path_expansion,
    repeated_sequences,
    token_losses,
)
from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.base import Tokens, derive
from solon.models.dialogue import WordDialogue
from solon.models.torch_model import TorchModel
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.induction_heads.repeats import rows
from solon.studies.induction_heads.report import report
from solon.studies.induction_heads.settings import KINDS, Findings, Settings, Silenced, Snapshot
from solon.study.stages import slug
from solon.training.fit import fit
from solon.training.losses import LossTotal
from solon.training.optimiser import Plan
from solon.training.steps import State, Step

INDUCER = 0.3  # prefix matching from which a head counts among the induction heads


def study(run: Run, settings: Settings) -> Report:
    """All of it; every stage is kept, and gone on from."""
    found = Findings()
    held = as_rows(
        rows(run.seed, -1, count=settings.held_out, length=settings.length, vocabulary=settings.vocabulary)
    )
    marks = [round(settings.steps * number / settings.snapshots) for number in range(settings.snapshots + 1)]
    for kind in settings.kinds:
        layers, wide, smeared = KINDS[kind]
        shape = Shape(
            settings.vocabulary,
            width=settings.width,
            layers=layers,
            heads=settings.heads,
            context=settings.length,
            attention_only=not wide,
            keyed_positions=True,
            smeared_keys=smeared,
        )
        start = TorchModel(
            kind, SmallTransformer(shape, seed=derive(run.seed, "start", kind)), WordDialogue(())
        )
        last = trained(run, kind, start, marks, settings)
        found.curves[kind] = [snapshot(run, kind, step, start, held, settings) for step in marks]
        looked_into(run, kind, last, held, settings, found)
    return report(asdict(settings), found)


def as_rows(tokens_BT: Tensor) -> list[Tokens]:
    return [tuple(row) for row in tokens_BT.tolist()]


def trained(run: Run, kind: str, start: TorchModel, marks: Sequence[int], settings: Settings) -> TorchModel:
    """A model trained on rows half of which repeat, kept as it was at each mark."""

    def batch(number: int) -> list[list[Tensor]]:
        made = rows(
            run.seed, number, count=settings.batch, length=settings.length, vocabulary=settings.vocabulary
        )
        return [list(made)]

    def loop(model: TorchModel, state: State | None) -> Iterator[Step]:
        body = model.module

        def loss(some: Sequence[Tensor]) -> LossTotal:
            tokens_BT = torch.stack(list(some)).to(body.device)
            logits_NV = body.logits(body.hidden(tokens_BT[:, :-1]).flatten(0, 1))
            return LossTotal(
                F.cross_entropy(logits_NV, tokens_BT[:, 1:].flatten(), reduction="sum"),
                float(tokens_BT[:, 1:].numel()),
            )

        plan = Plan(
            settings.steps,
            settings.learning_rate,
            warmup=min(50, settings.steps),
            betas=(0.9, 0.98),
            weight_decay=0.01,
        )
        if state is None:
            run.artefact(f"{slug(kind)}-0.safetensors", model.save)
        for step in fit(body, batch, loss, plan=plan, state=state, world=run.world):
            if step.number in marks:
                run.artefact(f"{slug(kind)}-{step.number}.safetensors", model.save)
            yield step

    return run.trained(slug(kind), start, loop, steps=settings.steps)


def snapshot(
    run: Run, kind: str, step: int, start: TorchModel, held: Sequence[Tokens], settings: Settings
) -> Snapshot:
    """Everything that is measured of a model at one step."""

    def make() -> dict[str, Any]:
        model = start.copy()
        model.load(run.folder / f"{slug(kind)}-{step}.safetensors")
        losses_BT = token_losses(model.module, held)
        asked = repeated_sequences(
            range(settings.vocabulary), seed=run.seed, block=settings.block, repeats=2, draws=4
        )
        found = head_scores(model.module, asked, held[-4:])
        rng = random.Random(derive(run.seed, "single"))
        # the same tokens at every step, of every model
        single = [float(row[rng.randrange(len(row))]) for row in losses_BT]
        return {
            "loss": float(losses_BT.mean()),
            "in_context": in_context_scores(losses_BT, early=settings.early, late=settings.late),
            "prefix": found.prefix_LH.max(axis=1).tolist(),
            "previous": found.previous_LH.max(axis=1).tolist(),
            "single": single,
        }

    kept = run.once(f"snapshot_{slug(kind)}_{step}", make)
    return Snapshot(
        step, kept["loss"], *(tuple(kept[name]) for name in ("in_context", "prefix", "previous", "single"))
    )


def looked_into(
    run: Run, kind: str, model: TorchModel, held: Sequence[Tokens], settings: Settings, found: Findings
) -> None:
    """The last model's heads: their scores, what is lost without them, and whether all it does is the sum of
    its paths.
    """

    def make() -> dict[str, Any]:
        asked = repeated_sequences(range(settings.vocabulary), seed=run.seed, block=settings.block, repeats=2)
        scores = head_scores(model.module, asked, held[-16:])
        return {
            "prefix": scores.prefix_LH.tolist(),
            "error": scores.prefix_error_LH.tolist(),
            "copying": scores.copying_LH.tolist(),
        }

    kept = run.once(f"heads_{slug(kind)}", make)
    found.prefix[kind], found.copying[kind] = (kept["prefix"], kept["error"]), kept["copying"]

    def silence() -> dict[str, Any]:
        prefix_LH = np.array(kept["prefix"])
        order: list[Head] = [
            (int(p) // prefix_LH.shape[1], int(p) % prefix_LH.shape[1])
            for p in np.argsort(-prefix_LH, axis=None)
        ]
        inducers = [head for head in order if prefix_LH[head] >= INDUCER] or order[:1]
        some = held[: len(held) // 2]  # rows that repeat
        groups = [order[:1], inducers, *([head] for head in order if head not in inducers)]
        losses = [ablate_heads(model.module, some, group) for group in groups]
        scores = [in_context_scores(after, early=settings.early, late=settings.late) for _, after in losses]
        clean = in_context_scores(losses[0][0], early=settings.early, late=settings.late)
        return {
            "clean": clean,
            "best": scores[0],
            "inducers": scores[1],
            "others": scores[2:],
            "best_head": order[0],
            "count": len(inducers),
        }

    raw = run.once(f"silenced_{slug(kind)}", silence)
    found.silenced[kind] = Silenced(
        tuple(raw["clean"]),
        tuple(raw["best"]),
        tuple(raw["inducers"]),
        tuple(map(tuple, raw["others"])),
        tuple(raw["best_head"]),
        raw["count"],
    )
    if not KINDS[kind][1]:
        logits, summed = path_expansion(model.module, held[0])
        found.linear_error[kind] = float((logits - summed).abs().max() / logits.abs().max())
