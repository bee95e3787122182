"""The dashboard of a dictionary, made from what its features fire on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from solon.interpretability.autoencoder import Autoencoder
from solon.interpretability.features import (
    FeatureActivations,
    nearest_features,
    project_directions,
    sample_by_interval,
)
from solon.interpretability.steering import HookSite
from solon.models.activations import direct_logit_attribution
from solon.models.base import Tokens
from solon.records.dashboard import dashboard

BEFORE, BEHIND = 14, 6  # tokens around the one that is shown
INTERVALS, EACH, BARS = 4, 5, 24
FEWEST = 5  # firings of a feature that is shown


def chosen(found: FeatureActivations, count: int, seed: int) -> list[int]:
    """Features to look at: half of them the strongest that fire on no more than a twentieth of the tokens,
    half drawn from the rest that fire at all.
    """
    counts_F = np.diff(found.starts_F)
    alive = np.flatnonzero(counts_F >= FEWEST)
    heights = {int(own): float(found.of_feature(int(own))[1].max()) for own in alive}
    rare = [own for own in heights if counts_F[own] <= found.tokens / 20]
    strongest = sorted(rare, key=lambda own: -heights[own])[: (count + 1) // 2]
    others = [own for own in heights if own not in set(strongest)]
    drawn = np.random.default_rng(seed).permutation(np.array(others, dtype=int))[: count - len(strongest)]
    return [*strongest, *map(int, drawn)]


def around(rows: Sequence[Tokens], skip: int, place: int) -> tuple[list[int], int, int]:
    """(tokens around a place of the sample, which of them the place is, place of the first), the row's first
    tokens that are skipped left out.

    >>> around([(9, 1, 2), (9, 3, 4)], 1, 3)
    ([3, 4], 1, 2)
    """
    per_row = len(rows[0]) - skip
    number, offset = divmod(place, per_row)
    first = max(0, offset - BEFORE)
    return (
        list(rows[number][skip + first : skip + offset + BEHIND + 1]),
        offset - first,
        number * per_row + first,
    )


def levels(found: FeatureActivations, feature: int, seed: int) -> list[tuple[str, list[int]]]:
    """(title, places) of each interval of activation, highest first."""
    places, values = found.of_feature(feature)
    named = []
    for number, own in enumerate(sample_by_interval(values, intervals=INTERVALS, each=EACH, seed=seed)):
        high, low = 100 * (INTERVALS - number) // INTERVALS, 100 * (INTERVALS - number - 1) // INTERVALS
        title = f"{'Highest' if number == 0 else 'Drawn from'} {low} to {high}% of the largest activation"
        if own:
            named.append((title, [int(places[place]) for place in own]))
    return named


def page(
    title: str,
    notes: Sequence[str],
    place: HookSite,
    own: Autoencoder,
    found: FeatureActivations,
    rows: Sequence[Tokens],
    spelled: Callable[[int], str],
    shown: Sequence[int],
    labels: Mapping[int, str],
    seed: int,
) -> str:
    """The page of the features `shown`."""
    known = dict[int, int]()

    def word(token: int) -> int:
        return known.setdefault(token, len(known))

    logits_KV = direct_logit_attribution(
        place.backbone, own.decoder_FD.detach()[list(shown)] / own.norms_F[list(shown)][:, None]
    )
    logits_KV -= logits_KV.mean(dim=0)  # what the directions have in common says nothing of one of them
    top, bottom = (
        logits_KV.topk(min(10, logits_KV.shape[1])),
        logits_KV.topk(min(10, logits_KV.shape[1]), largest=False),
    )
    spots = np.array(project_directions(own, shown))
    low, high = spots.min(axis=0), spots.max(axis=0)
    spots = 400 * (spots - low) / np.maximum(high - low, 1e-12)
    features = []
    for number, feature in enumerate(shown):
        places, values = found.of_feature(feature)
        examples = [
            {
                "title": name,
                "examples": [
                    _example(found, feature, around(rows, place.skip, at), word) for at in chosen_places
                ],
            }
            for name, chosen_places in levels(found, feature, seed)
        ]
        largest = float(values.max())
        features.append(
            {
                "id": feature,
                "label": labels.get(feature, ""),
                "note": "",
                "frequency": round(len(places) / found.tokens, 7),
                "largest": round(largest, 4),
                "interest": round(
                    largest if len(places) <= found.tokens / 20 else -len(places) / found.tokens, 4
                ),
                "histogram": np.histogram(values, bins=BARS, range=(0, largest))[0].tolist(),
                "near": [[n, round(c, 3)] for n, c in nearest_features(own, feature, 6)],
                "up": _logits(top, number, word),
                "down": _logits(bottom, number, word),
                "x": round(float(spots[number, 0]), 1),
                "y": round(float(spots[number, 1]), 1),
                "levels": examples,
            }
        )
    return dashboard(title, notes, [spelled(token) for token in known], features)


def _logits(found: Any, number: int, word: Callable[[int], int]) -> list[list[float]]:
    values: torch.Tensor = found.values[number]
    return [
        [word(token), round(value, 3)]
        for token, value in zip(found.indices[number].tolist(), values.tolist(), strict=True)
    ]


def _example(
    found: FeatureActivations, feature: int, near: tuple[list[int], int, int], word: Callable[[int], int]
) -> dict[str, Any]:
    tokens, hot, first = near
    places, values = found.of_feature(feature)
    span = slice(np.searchsorted(places, first), np.searchsorted(places, first + len(tokens)))
    heights = dict(zip((places[span] - first).tolist(), values[span].tolist(), strict=True))
    return {
        "words": [word(token) for token in tokens],
        "values": [round(heights.get(at, 0.0), 3) for at in range(len(tokens))],
        "hot": hot,
    }
