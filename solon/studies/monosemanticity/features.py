"""Features held against what is known of tokens, put to work by clamping, attributed, and labelled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from solon.interpretability.autoencoder import Autoencoder
from solon.interpretability.features import best_features, feature_fit
from solon.interpretability.labels import describe_features, mark_token, rate_labels
from solon.interpretability.steering import Attribution, HookSite, attribute_features, clamp_features
from solon.models.backbones.backbone import pad
from solon.models.base import LanguageModel, Tokens, derive
from solon.models.torch_model import TorchModel
from solon.records.codecs import fields_codec
from solon.records.run import Run
from solon.studies.monosemanticity.inputs import Predicate
from solon.studies.monosemanticity.results import FeatureLabel, PredicateMatch, Steering, WordMatch
from solon.studies.monosemanticity.subject import Subject

STRENGTHS = (-10.0, -5.0, -2.0, 0.0, 1.0, 2.0, 5.0, 10.0)
WORDS = 200  # concepts of the completeness curve, spread over their frequencies


def match_words(subject: Subject) -> list[WordMatch]:
    """Tokens of all frequencies, each with its best feature."""
    tokens_P = subject.tokens_P
    alive = int((np.diff(subject.activations.starts_F) > 0).sum())
    positions = {token: np.flatnonzero(tokens_P == token) for token in spread_tokens(tokens_P, WORDS)}
    matches = best_features(subject.activations, list(positions.values()))
    return [
        WordMatch(subject.spelled(token), math.log(len(at) / len(tokens_P) * alive), match.score)
        for (token, at), match in zip(positions.items(), matches, strict=True)
    ]


def spread_tokens(tokens_P: np.ndarray, count: int) -> list[int]:
    """Tokens that stand at ten places or more, spread evenly over the logarithm of how often."""
    tokens, counts = np.unique(tokens_P, return_counts=True)
    common = sorted((int(n), int(token)) for n, token in zip(counts, tokens, strict=True) if n >= 10)
    if len(common) <= count:
        return [token for _, token in common]
    logs = np.log([n for n, _ in common])
    marks = np.searchsorted(logs, np.linspace(logs[0], logs[-1], count))
    return list(dict.fromkeys(common[min(int(mark), len(common) - 1)][1] for mark in marks))


def match_predicates(
    subject: Subject, predicates: Mapping[str, Predicate]
) -> tuple[dict[str, PredicateMatch], dict[str, int]]:
    """The feature that goes best with each predicate, and of how many tokens those are true that are true of
    too few. Features are chosen on every other row, and measured on the rest.
    """
    tokens_P = subject.tokens_P
    first_P = np.arange(len(tokens_P)) // subject.per_row % 2 == 0
    choosing = subject.activations.at_positions(first_P)
    measuring = subject.activations.at_positions(~first_P)
    spelled = {int(token): subject.spelled(int(token)) for token in np.unique(tokens_P)}
    matches, counts = dict[str, PredicateMatch](), dict[str, int]()
    for name, predicate in predicates.items():
        true_P = np.isin(tokens_P, [token for token, text in spelled.items() if predicate(text)])
        if not (true_P & first_P).any() or not (true_P & ~first_P).any():
            counts[f"predicates true of too few held-out tokens: {name}"] = int(true_P.sum())
            continue
        feature = best_features(choosing, [np.flatnonzero(true_P & first_P)])[0].feature
        matches[name] = PredicateMatch(feature, feature_fit(measuring, feature, true_P & ~first_P))
    return matches, counts


def steer_features(
    run: Run,
    subject: Subject,
    predicates: Mapping[str, Predicate],
    matches: Mapping[str, PredicateMatch],
    raised: Mapping[str, frozenset[int]],
) -> dict[str, Steering]:
    """What clamping each predicate's feature does to the tokens that it should raise, behind rows that do not
    end on a token of the predicate.
    """
    steering = {}
    for name, tokens in raised.items():
        values = subject.activations.of_feature(matches[name].feature)[1] if name in matches else np.zeros(0)
        if not len(values):
            continue
        rows = [row for row in subject.sample.rows if not predicates[name](subject.spelled(row[-1]))][:64]
        feature = matches[name].feature
        height = float(values.max()) / float(subject.autoencoder.norms_F[feature])
        clamps = {strength: {feature: strength * height} for strength in STRENGTHS}
        make = partial(steer, subject.site, subject.autoencoder, rows, clamps, sorted(tokens))
        steering[name] = run.value(f"steering_{name}", make, fields_codec(Steering))
    return steering


@torch.inference_mode()
def steer(
    site: HookSite,
    autoencoder: Autoencoder,
    rows: Sequence[Tokens],
    clamps: Mapping[float, Mapping[int, float]],
    wanted: Sequence[int],
) -> Steering:
    """The probability of `wanted` next tokens behind each row, plain, and with features clamped as each
    strength says.
    """

    def probabilities() -> tuple[float, ...]:
        hidden_BC = site.backbone.hidden(pad(rows, site.backbone.device))[:, -1]
        p_BV = site.backbone.logits(hidden_BC).float().softmax(dim=-1)
        return tuple(float(p) for p in p_BV[:, list(wanted)].sum(dim=-1).clamp(min=1e-12))

    plain, levels = probabilities(), list[tuple[float, Sequence[float]]]()
    for strength, values in clamps.items():
        with site.edited(clamp_features(autoencoder, values)):
            levels.append((strength, probabilities()))
    return Steering(plain, tuple(levels))


@torch.inference_mode()
def error_moved(subject: Subject) -> float:
    """Clamping leaves what is not explained as it was: the largest move of x - reconstruction over the length
    of x, with feature 0 clamped to 1, on the first tokens of the sample.
    """
    autoencoder, x_BD = subject.autoencoder, next(subject.sample.parts())[:512]
    f_BF = autoencoder.encode(x_BD)
    error = x_BD - autoencoder.decode(f_BF)
    after = clamp_features(autoencoder, {0: 1.0})(x_BD[None])[0]
    f_BF[:, 0] = 1.0
    moved = (after - autoencoder.decode(f_BF)) - error
    return float((moved.norm(dim=1) / x_BD.norm(dim=1)).max())


def attribute_rows(run: Run, subject: Subject, model: TorchModel, count: int) -> list[Attribution]:
    """Of the first half of each of the first rows: what its features add to the likeliest next token over the
    second likeliest.
    """

    def make(rows: Sequence[Tokens]) -> list[Attribution]:
        # differences of logits are lost in bfloat16
        exact = replace(subject.site, backbone=model.unfrozen().module.requires_grad_(False))
        return [attribute_features(exact, subject.autoencoder, row, *two_best(exact, row)) for row in rows]

    skip = subject.site.skip
    halves = [row[: max(skip + 2, len(row) // 2)] for row in subject.sample.rows[:count]]
    return run.map("attribution", halves, make, fields_codec(Attribution), key=str, size=8)


@torch.inference_mode()
def two_best(site: HookSite, row: Tokens) -> tuple[int, int]:
    """The two likeliest next tokens."""
    hidden_1C = site.backbone.hidden(pad([row], site.backbone.device))[:, -1]
    first, second = site.backbone.logits(hidden_1C)[0].topk(2).indices.tolist()
    return first, second


def label_features(
    run: Run, subject: Subject, judge: LanguageModel, shown: Sequence[int], count: int
) -> list[FeatureLabel]:
    """Some of the features shown, drawn, described by a model from their strongest passages and rated at
    every level.
    """
    skip = subject.site.skip

    def passage(position: int) -> str:
        number, offset = divmod(position, subject.per_row)
        first = max(0, offset - 20)
        tokens = subject.sample.rows[number][skip + first : skip + offset + 6]
        return mark_token([subject.spelled(token) for token in tokens], offset - first)

    def make(features: Sequence[int]) -> list[FeatureLabel]:
        labels = []
        for feature in features:
            levels = [[passage(position) for position in at] for _, at in subject.examples(feature)]
            label = describe_features(judge, [levels[0]], seed=run.seed)[0]
            ratings = [rate_labels(judge, [label] * len(passages), passages) for passages in levels]
            means = tuple(float(np.mean(level)) for level in ratings)
            labels.append(FeatureLabel(feature, label, means))
        return labels

    drawn = sorted(shown, key=lambda feature: derive(run.seed, "label", feature))[:count]
    return run.map("labels", drawn, make, fields_codec(FeatureLabel), key=str, size=1)
