"""What is kept of a dictionary: its files in two forms, and a page of what its features fire on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from solon.interpretability.dictionary_files import write_saelens, write_sparsify
from solon.interpretability.features import nearest_features, project_directions
from solon.models.activations import direct_logit_attribution
from solon.records.dashboard import dashboard
from solon.records.files import write_text
from solon.records.run import Run
from solon.studies.monosemanticity.results import FeatureLabel
from solon.studies.monosemanticity.subject import Subject

BEFORE, BEHIND = 14, 6  # tokens around the one that is shown
BARS = 24
Numbering = Callable[[int], int]  # of the words that are on the page, by token


def write_dictionary(
    run: Run, subject: Subject, shown: Sequence[int], labels: Sequence[FeatureLabel], *, model: str
) -> None:
    """The autoencoder in both forms that other libraries read, and its page."""
    site, autoencoder = subject.site, subject.autoencoder
    about = {
        "model_name": model,
        "hook_name": site.site,
        "context_size": len(subject.sample.rows[0]),
        "skipped_first_tokens": site.skip,
        "longest_activation": site.max_norm,
    }
    run.artefact("dictionary", lambda path: write_saelens(autoencoder, path, about))
    run.artefact("dictionary_sparsify", lambda path: write_sparsify(autoencoder, path, about))
    notes = (
        f"{autoencoder.features} features of {model} after layer {site.layer} of {site.backbone.depth}; "
        f"{len(shown)} are here, half of them the strongest of those that are active at no more than a "
        "twentieth of tokens, half drawn from the others that are active at all; "
        f"{subject.activations.tokens} held-out tokens.",
        "Activations are f |decoder row|, in scaled units. Logits are of the direction straight through "
        "the final norm and head, up to a factor, less the mean over the features shown.",
    )
    named = {label.feature: label.label for label in labels}
    run.artefact(
        "features.html",
        lambda path: write_text(path, page(f"Features of {model}", notes, subject, shown, named)),
    )


def page(
    title: str, notes: Sequence[str], subject: Subject, shown: Sequence[int], labels: Mapping[int, str]
) -> str:
    """The page of the features `shown`."""
    numbers = dict[int, int]()

    def word(token: int) -> int:
        return numbers.setdefault(token, len(numbers))

    autoencoder, chosen = subject.autoencoder, list(shown)
    directions_KD = autoencoder.decoder_FD.detach()[chosen] / autoencoder.norms_F[chosen][:, None]
    logits_KV = direct_logit_attribution(subject.site.backbone, directions_KD)
    logits_KV -= logits_KV.mean(dim=0)  # what the directions have in common says nothing of one of them
    points = np.array(project_directions(autoencoder, shown))
    low, high = points.min(axis=0), points.max(axis=0)
    points = 400 * (points - low) / np.maximum(high - low, 1e-12)
    features = [
        {
            **_feature(subject, feature, labels.get(feature, ""), logits_KV[number], word),
            "x": round(float(points[number, 0]), 1),
            "y": round(float(points[number, 1]), 1),
        }
        for number, feature in enumerate(shown)
    ]
    return dashboard(title, notes, [subject.spelled(token) for token in numbers], features)


def _feature(
    subject: Subject, feature: int, label: str, logits_V: torch.Tensor, word: Numbering
) -> dict[str, Any]:
    """One feature as the page has it."""
    positions, values = subject.activations.of_feature(feature)
    frequency, largest = len(positions) / subject.activations.tokens, float(values.max())
    levels = [
        {"title": name, "examples": [_example(subject, feature, position, word) for position in at]}
        for name, at in subject.examples(feature)
    ]
    return {
        "id": feature,
        "label": label,
        "note": "",
        "frequency": round(frequency, 7),
        "largest": round(largest, 4),
        "interest": round(largest if frequency <= 1 / 20 else -frequency, 4),
        "histogram": np.histogram(values, bins=BARS, range=(0, largest))[0].tolist(),
        "near": [[n, round(c, 3)] for n, c in nearest_features(subject.autoencoder, feature, 6)],
        "up": _logits(logits_V, word, largest=True),
        "down": _logits(logits_V, word, largest=False),
        "levels": levels,
    }


def _logits(logits_V: torch.Tensor, word: Numbering, *, largest: bool) -> list[list[float]]:
    top = logits_V.topk(min(10, len(logits_V)), largest=largest)
    return [
        [word(token), round(value, 3)]
        for token, value in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]


def _example(subject: Subject, feature: int, position: int, word: Numbering) -> dict[str, Any]:
    """The tokens around a position, and how strongly the feature fires on each; a row's first tokens, which
    are skipped, are not shown.
    """
    skip = subject.site.skip
    number, offset = divmod(position, subject.per_row)
    before = min(offset, BEFORE)
    start = skip + offset - before
    tokens = subject.sample.rows[number][start : skip + offset + BEHIND + 1]
    first = position - before
    positions, values = subject.activations.of_feature(feature)
    span = slice(np.searchsorted(positions, first), np.searchsorted(positions, first + len(tokens)))
    heights = dict(zip((positions[span] - first).tolist(), values[span].tolist(), strict=True))
    return {
        "words": [word(token) for token in tokens],
        "values": [round(heights.get(index, 0.0), 3) for index in range(len(tokens))],
        "hot": before,
    }
