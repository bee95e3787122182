"""What `solon features` does: which features of a dictionary two models use differently on the same tokens,
such as before and after alignment.

The dictionary is that of the first model. A feature that moves tells where the second reads the same text
otherwise; what the dictionary cannot explain of the second is printed beside it, since a model that has moved
out of the dictionary would look quiet.

Shapes: C conversations, T tokens of one, D channels, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from solon.errors import InputError
from solon.interpretability.autoencoder import Autoencoder
from solon.models.activations import activations, direct_logit_attribution, layer_sites
from solon.models.base import Tokens, derive
from solon.models.torch_model import TorchModel
from solon.records.report import Claim, Exhibit, Figure, Heat, Line, Report, Table, number
from solon.records.run import Run
from solon.statistics.intervals import Estimate, mean
from solon.statistics.paired import holm
from solon.study.claims import interval, sign

FEWEST = 5  # conversations in which a feature has to fire to be compared


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    top: int = 15
    """features shown, of those that rose and of those that fell"""
    examples: int = 3
    """conversations shown of each of the first five of both"""

    def __post_init__(self) -> None:
        if self.top < 1 or self.examples < 0:
            raise InputError("top is at least 1, and examples at least 0")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Two models, a dictionary of the first after a layer, and conversations in tokens, each with a title and
    its prompt. As when the dictionary was learned, the first `skip` tokens are left out, and activations
    longer than `limit`.
    """

    before: TorchModel
    after: TorchModel
    dictionary: Autoencoder
    layer: int
    rows: tuple[Tokens, ...]
    titles: tuple[str, ...]
    prompts: tuple[str, ...]  # rows of one prompt are not independent
    spelled: Callable[[int], str]
    counts: Mapping[str, int] = field(default_factory=dict)
    skip: int = 1
    limit: float = math.inf


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """Mean activations of every conversation by both models are kept, and gone on from."""
    sites = layer_sites(inputs.before.module)
    if not 1 <= inputs.layer <= len(sites):
        raise InputError(f"no layer {inputs.layer}; there are 1 to {len(sites)}: {', '.join(sites)}")
    if (
        inputs.before.module.width != inputs.dictionary.width
        or inputs.after.module.width != inputs.dictionary.width
    ):
        raise InputError(
            f"the dictionary is of {inputs.dictionary.width} channels; the models have "
            f"{inputs.before.module.width} and {inputs.after.module.width}"
        )

    inputs = replace(
        inputs, before=shortened(inputs.before, inputs.layer), after=shortened(inputs.after, inputs.layer)
    )

    def make(places: Sequence[int]) -> list[dict[str, Any]]:
        return [compared(inputs, inputs.rows[place]) for place in places]

    rows = run.rows(
        "activations",
        range(len(inputs.rows)),
        lambda place: f"{place} {derive(0, *inputs.rows[place])}",
        make,
        size=8,
    )
    features = inputs.dictionary.features
    moved_CF = np.zeros((len(rows), features))
    level_CF = np.zeros((len(rows), features))
    for number_, row in enumerate(rows):
        moved_CF[number_, row["features"]] = np.array(row["after"]) - np.array(row["before"])
        level_CF[number_, row["features"]] = np.maximum(row["before"], row["after"])
    return report(settings, inputs, moved_CF, level_CF, rows)


def shortened(model: TorchModel, layer: int) -> TorchModel:
    """The same without the layers above, which change nothing that is looked at; its head is still there."""
    model.module.requires_grad_(False)
    return TorchModel(model.name, model.module.first_layers(layer), model.dialogue)


@torch.inference_mode()
def encoded(inputs: Inputs, model: TorchModel, row: Tokens) -> tuple[Tensor, float, Tensor]:
    """(f |decoder row| of every token (T, F), zeros where the activation is too long; squared error;
    activations that count) of one conversation.
    """
    site = layer_sites(model.module)[inputs.layer - 1]
    x_TD = activations(model.module, [row], [site])[site][0, inputs.skip :].float().cpu()
    if not bool(torch.isfinite(x_TD).all()):
        raise InputError(
            f"{model.name} has activations after layer {inputs.layer} that are not finite; try --precision "
            "float32"
        )
    kept_T = x_TD.norm(dim=1) <= inputs.limit
    f_TF = inputs.dictionary.encode(x_TD) * kept_T[:, None]
    error = float((inputs.dictionary.decode(f_TF) - x_TD)[kept_T].square().sum())
    return f_TF * inputs.dictionary.norms_F, error, x_TD[kept_T]


def compared(inputs: Inputs, row: Tokens) -> dict[str, Any]:
    """Mean activations over one conversation's tokens of every feature that either model uses there, and what
    is needed for the variance explained.
    """
    before_TF, error_before, kept_before = encoded(inputs, inputs.before, row)
    after_TF, error_after, kept_after = encoded(inputs, inputs.after, row)
    before_F, after_F = before_TF.mean(dim=0), after_TF.mean(dim=0)
    used = ((before_F > 0) | (after_F > 0)).nonzero()[:, 0]
    return {
        "features": used.tolist(),
        "before": before_F[used].tolist(),
        "after": after_F[used].tolist(),
        "fit_before": moments(error_before, kept_before),
        "fit_after": moments(error_after, kept_after),
    }


def moments(error: float, x_TD: Tensor) -> dict[str, Any]:
    """Squared error, number, sum of squares and sum of activations, to be pooled over conversations."""
    return {
        "error": error,
        "count": len(x_TD),
        "squares": float(x_TD.double().square().sum()),
        "sum": [round(own, 4) for own in x_TD.double().sum(dim=0).tolist()],
    }


def explained_of(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    """1 - squared error over variance about the mean of all tokens together."""
    parts = [row[f"fit_{name}"] for row in rows]
    count, total_D = sum(own["count"] for own in parts), np.sum([own["sum"] for own in parts], axis=0)
    variance = sum(own["squares"] for own in parts) - float(total_D @ total_D) / count
    return float(1 - sum(own["error"] for own in parts) / variance)


def report(
    settings: Settings,
    inputs: Inputs,
    moved_CF: np.ndarray,
    level_CF: np.ndarray,
    rows: Sequence[Mapping[str, Any]],
) -> Report:
    used = np.flatnonzero((level_CF > 0).sum(axis=0) >= FEWEST)
    if len(used) == 0 or len(moved_CF) < FEWEST:
        raise InputError(
            f"no feature is active in {FEWEST} conversations of {len(moved_CF)}: give more of them"
        )
    prompts = list(dict.fromkeys(inputs.prompts))
    if len(prompts) < 3:
        raise InputError(f"{len(prompts)} prompts are too few to tell a change from chance; give 3 or more")
    moved_PF = np.array(
        [
            moved_CF[[place for place, own in enumerate(inputs.prompts) if own == prompt]].mean(axis=0)
            for prompt in prompts
        ]
    )
    means, errors = (
        moved_PF[:, used].mean(axis=0),
        moved_PF[:, used].std(axis=0, ddof=1) / np.sqrt(len(prompts)),
    )
    p = 2 * stats.t.sf(np.abs(means) / np.maximum(errors, 1e-30), len(prompts) - 1)
    sure = holm(p.tolist())
    order = np.argsort(-means)
    rose, fell = (
        [int(place) for place in some if sign_ * means[place] > 0][: settings.top]
        for some, sign_ in ((order, 1), (order[::-1], -1))
    )
    estimates = {place: mean(moved_PF[:, used[place]].tolist()) for place in (*rose, *fell)}
    explained = {name: explained_of(rows, name) for name in ("before", "after")}
    claims = [_claim(int(used[place]), estimates[place], sure[place]) for place in (*rose[:5], *fell[:5])]
    for name, value in explained.items():
        text = f"Variance that the dictionary explains of the model {name}"
        claims.append(Claim(f"explained/{name}", text, value, value, value, len(rows), None, "counted"))
    spread = np.sort(np.abs(means))[::-1]
    figure = Figure(
        "How far features moved",
        "features, furthest first",
        "mean change of activation",
        (Line("features", tuple(map(float, range(len(spread)))), tuple(map(float, spread))),),
    )
    summary = (
        f"{inputs.dictionary.features} features after layer {inputs.layer}, learned from "
        f"{inputs.before.name}: their mean activation over the tokens of "
        f"{len(rows)} conversations of {len(prompts)} prompts in {inputs.after.name} less that in "
        f"{inputs.before.name}. {len(used)} are active in {FEWEST} conversations or more; "
        f"{sum(own < 0.05 for own in sure)} of these moved, by Holm's step-down at 0.05.",
    )
    tables = tuple(
        _table(
            title,
            inputs,
            [
                (int(used[place]), estimates[place], sure[place], float(level_CF[:, used[place]].mean()))
                for place in places
            ],
        )
        for title, places in (("Features that rose", rose), ("Features that fell", fell))
        if places
    )
    gallery = [
        own
        for places in (rose[:5], fell[:5])
        for place in places
        for own in _exhibits(
            settings, inputs, int(used[place]), moved_CF[:, used[place]] * (1 if means[place] > 0 else -1)
        )
    ]
    warnings = (
        ()
        if explained["after"] > explained["before"] - 0.1
        else (
            "the dictionary explains much less of the second model: features that it lacks may have moved "
            "more",
        )
    )
    counts = {
        **inputs.counts,
        f"features active in fewer than {FEWEST} conversations, not compared": inputs.dictionary.features
        - len(used),
    }
    title = f"What moved from {inputs.before.name} to {inputs.after.name}"
    settings_shown = {name: str(value) for name, value in asdict(settings).items()}
    return Report(
        title,
        summary,
        tuple(claims),
        warnings,
        tables,
        (figure,),
        tuple(gallery),
        counts,
        DEVIATIONS,
        settings_shown,
    )


DEVIATIONS = (
    "The paper looks at one model; comparing two by the first one's dictionary is ours.",
    "A feature's mean over tokens hides whether it fires more often or more strongly.",
)


def shown(p: float) -> str:
    """
    >>> shown(0.0123), shown(0.0)
    ('0.012', 'below 1e-12')
    """
    return "below 1e-12" if p < 1e-12 else f"{p:.2g}"


def _claim(feature: int, moved: Estimate, p: float) -> Claim:
    way = "rose" if moved.value > 0 else "fell"
    return Claim.of(
        f"moved/{feature}",
        f"Feature {feature} {way} (mean activation a token; p {shown(p)} by Holm)",
        moved,
        True if p < 0.05 and sign(moved) is not None else None,
    )


def _table(title: str, inputs: Inputs, found: Sequence[tuple[int, Estimate, float, float]]) -> Table:
    own = inputs.dictionary
    logits = direct_logit_attribution(
        inputs.before.module, own.decoder_FD.detach()[[feature for feature, *_ in found]]
    )
    common = direct_logit_attribution(
        inputs.before.module, own.decoder_FD.detach()[:: max(1, own.features // 200)]
    ).mean(dim=0)
    # what all directions raise says nothing of one
    logits = logits - common * (logits @ common)[:, None] / (common @ common)
    tops = [
        ", ".join(repr(inputs.spelled(token)) for token in row.topk(5).indices.tolist()) for row in logits
    ]
    rows = tuple(
        (str(feature), interval(moved), shown(p), number(level), top)
        for (feature, moved, p, level), top in zip(found, tops, strict=True)
    )
    return Table(
        title,
        ("feature", "change of mean activation", "p, Holm", "level", "raises most"),
        rows,
        "Level: the mean of the higher of both models' activations.",
    )


def _exhibits(settings: Settings, inputs: Inputs, feature: int, moved_C: np.ndarray) -> list[Exhibit]:
    """The conversations in which a feature moved most, each token with how far."""
    made = []
    for place in np.argsort(-moved_C)[: settings.examples]:
        if moved_C[place] <= 0:
            break
        row = inputs.rows[place]
        before_TF, after_TF = (
            encoded(inputs, model, row)[0][:, feature] for model in (inputs.before, inputs.after)
        )
        spelled = [inputs.spelled(token) for token in row]
        heights = [*[0.0] * inputs.skip, *(after_TF - before_TF).tolist()]
        heat = Heat(f"feature {feature}, after less before", tuple(zip(spelled, heights, strict=True)))
        made.append(
            Exhibit(
                f"Feature {feature}: {inputs.titles[place][:90]}",
                (),
                folded=True,
                blurred=True,
                heats=(heat,),
            )
        )
    return made
