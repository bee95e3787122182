"""Scaling Monosemanticity: Extracting Interpretable Features from Claude 3 Sonnet (Templeton et al. 2024),
top to bottom, on any model whose weights are in hand.

Directions that are planted, where asked; then a model's residual stream is taken apart into features, which
are measured, held against what is known of tokens, put to work by clamping, attributed, labelled, and shown
on one page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solon.errors import InputError
from solon.interpretability.autoencoder import Autoencoder, AutoencoderBank, activation_scale
from solon.interpretability.dictionary import fit_autoencoders, measure_autoencoder, training_plan
from solon.interpretability.dictionary_files import write_saelens, write_sparsify
from solon.interpretability.features import (
    ConceptMatch,
    FeatureActivations,
    best_features,
    feature_activations,
    feature_fit,
)
from solon.interpretability.labels import describe_features, mark_token, rate_labels
from solon.interpretability.steering import (
    Attribution,
    HookSite,
    attribute_features,
    clamp_features,
    loss_recovered,
)
from solon.interpretability.stream import activation_batches, harvester, within_norm
from solon.models.backbones.backbone import pad
from solon.models.base import Tokens, derive
from solon.records.files import write_text
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.monosemanticity.page import chosen, levels, page
from solon.studies.monosemanticity.planted import study_planted
from solon.studies.monosemanticity.report import report
from solon.studies.monosemanticity.settings import Findings, Inputs, Member, Settings, Steered, main_member
from solon.training.steps import State, Step

STRENGTHS = (-10.0, -5.0, -2.0, 0.0, 1.0, 2.0, 5.0, 10.0)
WORDS = 200  # concepts of the completeness curve, spread over their frequencies


@dataclass(frozen=True, slots=True)
class Sample:
    """Held-out rows and their activations (tokens, D), in the order of rows."""

    rows: tuple[Tokens, ...]
    activations: Tensor
    limit: float = math.inf

    def parts(self) -> Iterator[Tensor]:
        """Those that are not too long, a few at a time."""
        return within_norm(iter(self.activations.split(4096)), self.limit)


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """All of it; every stage is kept, and gone on from."""
    found = Findings(counts=dict(inputs.counts))
    if settings.planted:
        study_planted(run, settings, found)
    body = inputs.model.module
    found.main = main_member(settings)
    found.depth, found.layer = body.depth, settings.layer or (body.depth + 1) // 2
    place = HookSite(body, found.layer, settings.skip)
    if not place.site or settings.length > body.context:
        raise InputError(
            f"rows of {settings.length} tokens are over the model's context of {body.context}; lower --length"
        )
    order = sorted(range(len(inputs.rows)), key=lambda row: derive(run.seed, "row", inputs.rows[row]))
    held, train = (
        [inputs.rows[row] for row in some]
        for some in (order[: settings.held_out], order[settings.held_out :])
    )
    if len(train) < settings.chunk:
        raise InputError(
            f"{len(inputs.rows)} rows of text leave {len(train)} beside {len(held)} held out; a chunk has "
            f"{settings.chunk}: give more text"
        )
    found.counts["tokens learned from"] = settings.steps * settings.batch
    found.counts["tokens of text to learn from"] = len(train) * (settings.length - settings.skip)
    found.counts["tokens held out"] = len(held) * (settings.length - settings.skip)

    bank = learned(run, settings, place, train, found)
    place = replace(place, max_norm=found.limit)
    sample = Sample(
        tuple(held), harvester(body, held, found.layer, skip=settings.skip)(range(len(held))), found.limit
    )
    found.counts["held-out tokens with activations too long, left out"] = len(sample.activations) - sum(
        map(len, sample.parts())
    )
    measured(run, settings, place, bank, sample, found)
    own = list(bank)[found.main]
    fired = feature_activations(own, sample.activations.split(4096), limit=found.limit)
    if not chosen(fired, 1, run.seed):
        raise InputError(
            "no feature fires five times on the held-out text: lower --l1-coefficients, or train for longer"
        )
    known(run, settings, place, own, fired, sample, inputs, found)
    shown = chosen(fired, settings.shown, run.seed)
    if inputs.labeller is not None:
        labelled(run, settings, fired, shown, sample, inputs, found)
    kept(run, place, own, fired, shown, sample, inputs, found)
    return report(asdict(settings), found, inputs)


def l1_coefficients(settings: Settings) -> list[float]:
    """Of each member of the bank: every penalty with every width."""
    return [l1_coefficient for _ in settings.features for l1_coefficient in settings.l1_coefficients]


def learned(
    run: Run, settings: Settings, place: HookSite, rows: Sequence[Tokens], found: Findings
) -> AutoencoderBank:
    """The bank, trained on one stream."""
    harvest = harvester(place.backbone, rows, place.layer, skip=settings.skip)

    def first_look() -> dict[str, float]:
        x_BD = harvest(range(min(len(rows), 256)))
        lengths_B = x_BD.norm(dim=1)
        limit = (
            settings.farthest * float(lengths_B.median())
            if settings.farthest
            else float(lengths_B.max()) * 1e6
        )
        return {"limit": limit, "scale": activation_scale(x_BD[lengths_B <= limit], settings.normalisation)}

    looked = run.once("scale", first_look)
    found.scale, found.limit = looked["scale"], looked["limit"]
    widths = [features for features in settings.features for _ in settings.l1_coefficients]
    start = AutoencoderBank(
        [
            Autoencoder(place.backbone.width, own, seed=derive(run.seed, "start", own), scale=found.scale)
            for own in widths
        ]
    )

    def stream(number: int) -> Iterator[Tensor]:
        return within_norm(
            activation_batches(
                harvest, len(rows), chunk=settings.chunk, size=settings.batch, seed=run.seed, start=number
            ),
            found.limit,
        )

    def loop(bank: AutoencoderBank, state: State | None) -> Iterator[Step]:
        return fit_autoencoders(
            bank,
            stream,
            l1_coefficients(settings),
            plan=training_plan(settings.steps, settings.learning_rate),
            state=state,
        )

    return run.trained("dictionaries", start, loop, steps=settings.steps)


def measured(
    run: Run, settings: Settings, place: HookSite, bank: AutoencoderBank, sample: Sample, found: Findings
) -> None:
    """What each autoencoder is worth on held-out rows, to itself and to the model."""
    mean_D = torch.cat(list(sample.parts())).mean(dim=0)
    for number, (own, l1_coefficient) in enumerate(zip(bank, l1_coefficients(settings), strict=True)):

        def make(own: Autoencoder = own, l1_coefficient: float = l1_coefficient) -> dict[str, Any]:
            value, losses = (
                measure_autoencoder(own, sample.parts(), l1_coefficient),
                loss_recovered(place, own, sample.rows[:128], mean_D),
            )
            return {
                "features": own.features,
                "l1_coefficient": l1_coefficient,
                "explained": value.explained,
                "active": value.active,
                "dead": value.dead,
                "loss": value.loss,
                "recovered": losses.recovered,
                "recovered_over_mean": losses.recovered_over_mean,
                "clean": losses.clean,
                "reconstructed": losses.reconstructed,
            }

        row = run.once(f"worth_{number}", make)
        found.members.append(
            Member(**{**row, "clean": tuple(row["clean"]), "reconstructed": tuple(row["reconstructed"])})
        )


def known(
    run: Run,
    settings: Settings,
    place: HookSite,
    own: Autoencoder,
    fired: FeatureActivations,
    sample: Sample,
    inputs: Inputs,
    found: Findings,
) -> None:
    """Features held against what is known of tokens, then clamped and attributed."""
    tokens_P = np.array([token for row in sample.rows for token in row[settings.skip :]])
    first_P = (
        np.arange(len(tokens_P)) // (settings.length - settings.skip) % 2 == 0
    )  # features are chosen on every other row, and measured on the rest
    choosing, measuring = fired.at_positions(first_P), fired.at_positions(~first_P)
    alive = int((np.diff(fired.starts_F) > 0).sum())
    places = {int(token): np.flatnonzero(tokens_P == token) for token in spread(tokens_P, WORDS)}
    concepts: list[ConceptMatch] = best_features(fired, list(places.values()))
    for (token, own_places), concept in zip(places.items(), concepts, strict=True):
        found.words.append(
            (inputs.spelled(token), math.log(len(own_places) / len(tokens_P) * alive), concept.score)
        )

    spelled = {int(token): inputs.spelled(int(token)) for token in np.unique(tokens_P)}
    for name, predicate in inputs.predicates.items():
        true_P = np.isin(tokens_P, [token for token, text in spelled.items() if predicate(text)])
        if not (true_P & first_P).any() or not (true_P & ~first_P).any():
            found.counts[f"predicates true of too few held-out tokens: {name}"] = int(true_P.sum())
            continue
        feature = best_features(choosing, [np.flatnonzero(true_P & first_P)])[0].feature
        found.fits[name] = (feature, feature_fit(measuring, feature, true_P & ~first_P))
        if not len(fired.of_feature(feature)[1]):
            continue
        if name in inputs.steered:
            rows = [row for row in sample.rows if not predicate(inputs.spelled(row[-1]))][:64]
            height = float(fired.of_feature(feature)[1].max()) / float(own.norms_F[feature])
            wanted = sorted(inputs.steered[name])
            kept = run.once(f"steering_{name}", partial(steered, place, own, rows, feature, height, wanted))
            found.steering[name] = Steered(kept["plain"], kept["levels"])
    found.untouched = error_moved(own, next(sample.parts())[:512])

    def explain(rows: Sequence[Tokens]) -> list[dict[str, Any]]:
        # differences of logits are lost in bfloat16
        exact = replace(place, backbone=inputs.model.unfrozen().module.requires_grad_(False))
        return [asdict(attribute_features(exact, own, row, *two_best(exact, row))) for row in rows]

    asked = [row[: max(settings.skip + 2, len(row) // 2)] for row in sample.rows[: settings.prompts]]
    for row in run.rows("attribution", asked, str, explain, size=8):
        found.attributions.append(
            Attribution(*(tuple(row[name]) for name in ("features", "activation", "attribution", "ablation")))
        )


def spread(tokens_P: np.ndarray, count: int) -> list[int]:
    """Tokens that stand at ten places or more, spread evenly over the logarithm of how often."""
    tokens, counts = np.unique(tokens_P, return_counts=True)
    common = [(int(n), int(token)) for n, token in zip(counts, tokens, strict=True) if n >= 10]
    if len(common) <= count:
        return [token for _, token in sorted(common)]
    common.sort()
    logs = np.log([n for n, _ in common])
    marks = np.searchsorted(logs, np.linspace(logs[0], logs[-1], count))
    return list(dict.fromkeys(common[min(int(mark), len(common) - 1)][1] for mark in marks))


@torch.inference_mode()
def steered(
    place: HookSite,
    own: Autoencoder,
    rows: Sequence[Tokens],
    feature: int,
    height: float,
    wanted: Sequence[int],
) -> dict[str, Any]:
    """The probability of `wanted` next tokens behind each row, plain, and with a feature clamped to each
    strength times its largest activation.
    """

    def probabilities() -> list[float]:
        logits_BV = place.backbone.logits(
            place.backbone.hidden(pad(rows, place.backbone.device))[:, -1]
        ).float()
        return [float(p) for p in logits_BV.softmax(dim=-1)[:, list(wanted)].sum(dim=-1).clamp(min=1e-12)]

    plain, levels_ = probabilities(), list[tuple[float, list[float]]]()
    for strength in STRENGTHS:
        with place.edited(clamp_features(own, {feature: strength * height})):
            levels_.append((strength, probabilities()))
    return {"plain": plain, "levels": levels_}


@torch.inference_mode()
def error_moved(own: Autoencoder, x_BD: Tensor) -> float:
    """Clamping leaves what is not explained as it was: the largest move of x - reconstruction over the length
    of x, with feature 0 clamped to 1.
    """
    f_BF = own.encode(x_BD)
    error = x_BD - own.decode(f_BF)
    after = clamp_features(own, {0: 1.0})(x_BD[None])[0]
    f_BF[:, 0] = 1.0
    moved = (after - own.decode(f_BF)) - error
    return float((moved.norm(dim=1) / x_BD.norm(dim=1)).max())


def two_best(place: HookSite, row: Tokens) -> tuple[int, int]:
    """The two likeliest next tokens."""
    with torch.inference_mode():
        best = (
            place.backbone.logits(place.backbone.hidden(pad([row], place.backbone.device))[:, -1])[0]
            .topk(2)
            .indices.tolist()
        )
    return best[0], best[1]


def labelled(
    run: Run,
    settings: Settings,
    fired: FeatureActivations,
    shown: Sequence[int],
    sample: Sample,
    inputs: Inputs,
    found: Findings,
) -> None:
    """Some of the features shown, drawn, described by a model from their strongest passages and rated at
    every level.
    """
    judge = inputs.labeller
    assert judge is not None
    some = sorted(shown, key=lambda own: derive(run.seed, "label", own))[: settings.labelled]
    per_row = settings.length - settings.skip

    def passage(at: int) -> str:
        number, offset = divmod(at, per_row)
        first = max(0, offset - 20)
        words = [
            inputs.spelled(token)
            for token in sample.rows[number][settings.skip + first : settings.skip + offset + 6]
        ]
        return mark_token(words, offset - first)

    def make(features: Sequence[int]) -> list[dict[str, Any]]:
        made = []
        for feature in features:
            own = levels(fired, feature, run.seed)
            label = describe_features(judge, [[passage(at) for at in own[0][1]]], seed=run.seed)[0]
            ratings = [
                rate_labels(judge, [label] * len(places), [passage(at) for at in places]) for _, places in own
            ]
            made.append({"label": label, "ratings": [float(np.mean(level)) for level in ratings]})
        return made

    for feature, row in zip(some, run.rows("labels", some, str, make, size=1), strict=True):
        found.labels.append((feature, row["label"], row["ratings"]))


def kept(
    run: Run,
    place: HookSite,
    own: Autoencoder,
    fired: FeatureActivations,
    shown: Sequence[int],
    sample: Sample,
    inputs: Inputs,
    found: Findings,
) -> None:
    """The autoencoder in both forms that other libraries read, and its page."""
    about = {
        "model_name": inputs.model.name,
        "hook_name": place.site,
        "context_size": len(sample.rows[0]),
        "skipped_first_tokens": place.skip,
        "longest_activation": place.max_norm,
    }
    run.artefact("dictionary", lambda path: write_saelens(own, path, about))
    run.artefact("dictionary_sparsify", lambda path: write_sparsify(own, path, about))
    labels = {feature: label for feature, label, _ in found.labels}
    notes = (
        f"{own.features} features of {inputs.model.name} after layer {place.layer} of {found.depth}; "
        f"{len(shown)} are here, half of them the strongest of those "
        "that are active at no more than a twentieth of tokens, half drawn from the others that are "
        f"active at all; {fired.tokens} held-out tokens.",
        "Activations are f |decoder row|, in scaled units. Logits are of the direction straight through "
        "the final norm and head, up to a factor, less the mean over the features shown.",
    )
    title = f"Features of {inputs.model.name}"
    run.artefact(
        "features.html",
        lambda path: write_text(
            path, page(title, notes, place, own, fired, sample.rows, inputs.spelled, shown, labels, run.seed)
        ),
    )
