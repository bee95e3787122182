"""The induction heads of a model that is given: every head's exact scores, and what repeated text costs
without the best of them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from solon.interpretability.induction import (
    BLOCK,
    DRAWS,
    REPEATS,
    Head,
    HeadScores,
    ablate_heads,
    head_scores,
    heads_by_score,
    repeated_sequences,
)
from solon.models.base import derive
from solon.records.codecs import fields_codec
from solon.records.report import Claim, Figure, Line, Report, Section, Table, number
from solon.records.run import Run
from solon.statistics.intervals import mean, paired_difference
from solon.studies.induction_heads.inputs import GivenModel
from solon.studies.induction_heads.results import keep_scores, prefix_estimate
from solon.studies.induction_heads.settings import Settings
from solon.study.claims import interval

DEVIATIONS = (
    "Random tokens are drawn from those of middle rank in the vocabulary; the paper leaves out the most "
    "and the least common.",
    "A head's copying is of what it writes straight through the final norm and the head of the model, up "
    "to a factor for each token.",
    "The in-context score over 512 tokens of natural text is not computed for a given model.",
)


@dataclass(frozen=True, slots=True)
class HeadGroup:
    """Heads that are silenced together: of the best, or drawn from the others."""

    best: bool
    heads: tuple[Head, ...]

    @property
    def key(self) -> str:
        return f"{'best' if self.best else 'others'} {self.heads}"


@dataclass(frozen=True, slots=True)
class RepeatLosses:
    """Nats a token of each row: on repeats as the model is and without a group of heads, and on the first
    block.
    """

    clean: tuple[float, ...]
    ablated: tuple[float, ...]
    first_block: tuple[float, ...]


def study_given_model(run: Run, settings: Settings, given: GivenModel) -> Report:
    """Scores of every head, then the best induction heads silenced together, beside as many others; every
    stage is kept.
    """
    backbone, start = given.model.module, len(given.start)
    repeats = repeated_sequences(given.tokens, seed=run.seed, start=given.start)
    scores = keep_scores(run, "scores", lambda: head_scores(backbone, repeats, given.text, start=start))
    groups = head_groups(heads_by_score(scores.prefix_LH), settings, seed=run.seed)

    def silence(batch: Sequence[HeadGroup]) -> list[RepeatLosses]:
        first = start + BLOCK  # losses begin at the second token
        rows = []
        for group in batch:
            clean_BT, ablated_BT = ablate_heads(backbone, repeats, group.heads, at_once=2)
            parts = (clean_BT[:, first:], ablated_BT[:, first:], clean_BT[:, : first - 1])
            rows.append(RepeatLosses(*(tuple(part.mean(dim=1).tolist()) for part in parts)))
        return rows

    losses = run.map("silenced", groups, silence, fields_codec(RepeatLosses), size=1)
    strong = int((scores.prefix_LH >= 0.3).sum())
    return Report.of(
        f"Induction heads of {given.model.name}",
        [
            f"{given.model.name}: {scores.prefix_LH.size} heads in {len(scores.prefix_LH)} layers, on "
            f"{DRAWS} draws of {BLOCK} random tokens {REPEATS} times over; {strong} heads have a prefix "
            f"matching of 0.3 or more. Previous-token scores are of {len(given.text)} rows of text."
        ],
        [
            Section(claims=(repeats_claim(losses[0]),), counts=given.counts),
            heads_section(scores, settings.top),
            ablation_section(scores, list(zip(groups, losses, strict=True)), settings.top),
        ],
        deviations=DEVIATIONS,
    )


def head_groups(order: Sequence[Head], settings: Settings, *, seed: int) -> list[HeadGroup]:
    """The first one, two, five and `top` heads in order, and as many drawn from those far behind."""
    counts = sorted({1, 2, 5, settings.top} & set(range(1, settings.top + 1)))
    best = [HeadGroup(True, tuple(order[:count])) for count in counts]
    rng, others = random.Random(derive(seed, "others")), order[settings.top * 2 :]
    size = min(settings.top, len(others))
    drawn = [HeadGroup(False, tuple(rng.sample(others, size))) for _ in range(settings.random_draws)]
    return best + drawn


def repeats_claim(losses: RepeatLosses) -> Claim:
    """Whether the model is helped by what it has read before."""
    text = f"Loss on repeated random tokens less that on their first {BLOCK} (nats)"
    return Claim.below("repeats", text, paired_difference(losses.clean, losses.first_block))


def heads_section(scores: HeadScores, top: int) -> Section:
    """The best induction heads and previous-token heads, and the best head of each layer."""
    prefix, previous = scores.prefix_LH, scores.previous_LH
    order = heads_by_score(prefix)
    layer, head = order[0]
    induction = tuple(
        (
            f"{layer}.{head}",
            f"{number(prefix[layer, head])} ({number(scores.prefix_error_LH[layer, head])})",
            number(scores.copying_LH[layer, head]),
            number(previous[layer, head]),
        )
        for layer, head in order[:top]
    )
    before = tuple(
        (f"{layer}.{head}", number(previous[layer, head]), number(prefix[layer, head]))
        for layer, head in heads_by_score(previous)[:5]
    )
    columns = ("layer.head, from 0", "prefix matching (error)", "copying", "previous token")
    layers = tuple(map(float, range(len(prefix))))
    lines = (
        Line("prefix matching", layers, tuple(map(float, prefix.max(axis=1)))),
        Line("previous token", layers, tuple(map(float, previous.max(axis=1)))),
    )
    text = f"Prefix matching of the best head, {layer}.{head} (above 0.5 asked for)"
    return Section(
        claims=(Claim.above("prefix", text, prefix_estimate(scores, order[0]), 0.5),),
        tables=(
            Table("Induction heads", columns, induction, "Highest prefix matching first."),
            Table(
                "Previous-token heads",
                ("layer.head, from 0", "previous token, on text", "prefix matching"),
                before,
            ),
        ),
        figures=(Figure("Best head of each layer", "layer, from 0", "attention", lines),),
    )


def ablation_section(
    scores: HeadScores, losses: Sequence[tuple[HeadGroup, RepeatLosses]], top: int
) -> Section:
    """What the best heads are worth on repeats, beside heads that are drawn from the others."""
    costs = {
        len(group.heads): paired_difference(measured.ablated, measured.clean)
        for group, measured in losses
        if group.best
    }
    claims = [
        Claim.above(
            f"silenced/{count}",
            f"Loss on repeats without the {count} best induction heads, patterns held, less that with them "
            "(nats)",
            cost,
        )
        for count, cost in costs.items()
    ]
    others = [
        float(np.mean(measured.ablated)) - float(np.mean(measured.clean))
        for group, measured in losses
        if not group.best
    ]
    if len(others) > 1 and scores.prefix_LH.size >= 3 * top:
        text = f"The same without {top} heads drawn from those behind the best {2 * top}, over draws"
        claims.append(Claim.of("silenced/others", text, mean(others), None))
    rows = tuple((str(count), interval(cost)) for count, cost in costs.items())
    columns = ("heads silenced", "nats added on repeats")
    return Section(claims=tuple(claims), tables=(Table("Without the best", columns, rows),))
