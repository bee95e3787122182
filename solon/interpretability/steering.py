"""Features put to work in the model they were found in: clamped, ablated, attributed (Scaling
Monosemanticity, "Influence on behavior" and "Attribution").

The stream is the reconstruction and an error, and only the reconstruction is changed: with feature i clamped
to c times its largest activation, x becomes x + (c max_i - f_i) W_dec,i / s. What an autoencoder does not
explain stays as it was.

Shapes: B rows, T tokens, D channels, F features, K features that are looked at, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from solon.errors import InputError
from solon.interpretability.autoencoder import Autoencoder
from solon.interpretability.induction import token_losses
from solon.models.activations import edit_output, layer_sites
from solon.models.backbones.backbone import Backbone, pad
from solon.models.base import Tokens


@dataclass(frozen=True, slots=True)
class HookSite:
    """Where an autoencoder stands: after a layer (from 1) of a body, at every token but the first `skip` of a
    row and those whose activation is longer than `limit`.
    """

    backbone: Backbone
    layer: int
    skip: int = 1
    max_norm: float = math.inf

    @property
    def site(self) -> str:
        sites = layer_sites(self.backbone)
        if not 1 <= self.layer <= len(sites):
            raise InputError(f"no layer {self.layer}; there are 1 to {len(sites)}: {', '.join(sites)}")
        return sites[self.layer - 1]

    def edited(self, change: Callable[[Tensor], Tensor]) -> AbstractContextManager[None]:
        """The stream (B, T, D) changed in float32 behind the first tokens. While a reply is sampled, single
        tokens come one by one: they are none of the first.
        """

        def behind(x_BTD: Tensor) -> Tensor:
            skip = self.skip if x_BTD.shape[1] > 1 else 0
            kept = x_BTD[:, skip:].float().cpu()  # where autoencoders are
            changed = change(kept)
            if self.max_norm < math.inf:
                changed = torch.where(kept.norm(dim=-1, keepdim=True) > self.max_norm, kept, changed)
            return torch.cat([x_BTD[:, :skip], changed.to(x_BTD.device, x_BTD.dtype)], dim=1)

        return edit_output(self.backbone, self.site, behind)


def clamp_features(own: Autoencoder, levels: Mapping[int, float]) -> Callable[[Tensor], Tensor]:
    """A change of the stream: each of some features has the activation f given, at every token. 0 ablates.

    Raises InputError on a feature that is not there.
    """
    unknown = [feature for feature in levels if not 0 <= feature < own.features]
    if unknown:
        raise InputError(f"no feature {unknown[0]}; there are 0 to {own.features - 1}")
    chosen = torch.tensor(list(levels), dtype=torch.long)
    level_K = torch.tensor(list(levels.values()))

    def change(x_BTD: Tensor) -> Tensor:
        f_NK = own.encode(x_BTD.flatten(0, 1))[:, chosen].detach()
        return x_BTD + ((level_K - f_NK) @ own.decoder_FD.detach()[chosen] / own.scale).view_as(x_BTD)

    return change


@dataclass(frozen=True, slots=True)
class LossRecovered:
    """Mean nats a token of a model: as it is, with the stream replaced by its reconstruction, by the mean
    activation, and by zero; each by row.
    """

    clean: tuple[float, ...]
    reconstructed: tuple[float, ...]
    mean: tuple[float, ...]
    zero: tuple[float, ...]

    @property
    def recovered(self) -> float:
        """The share of what ablating the stream to zero costs that the reconstruction keeps."""
        lost = sum(self.zero) - sum(self.clean)
        return (sum(self.zero) - sum(self.reconstructed)) / lost

    @property
    def recovered_over_mean(self) -> float:
        """The same over what the mean activation in place of each costs: harder."""
        lost = sum(self.mean) - sum(self.clean)
        return (sum(self.mean) - sum(self.reconstructed)) / lost


def loss_recovered(
    place: HookSite, own: Autoencoder, rows: Sequence[Tokens], mean_D: Tensor, *, at_once: int = 16
) -> LossRecovered:
    """What the model's loss becomes where an autoencoder's reconstruction takes the place of the stream."""
    changes: list[Callable[[Tensor], Tensor]] = [
        lambda x: x,
        lambda x: own(x.flatten(0, 1)).detach().view_as(x),
        lambda x: mean_D.expand_as(x),
        torch.zeros_like,
    ]
    found: list[tuple[float, ...]] = []
    for change in changes:
        with place.edited(change):
            found.append(tuple(token_losses(place.backbone, rows, at_once=at_once).mean(dim=1).tolist()))
    return LossRecovered(*found)


@dataclass(frozen=True, slots=True)
class Attribution:
    """Of the features active on one row: largest activation there (f |W_dec,i|), attribution, and how far the
    difference of logits falls where the feature is clamped to 0 at every token.
    """

    features: tuple[int, ...]
    activation: tuple[float, ...]
    attribution: tuple[float, ...]
    ablation: tuple[float, ...]


def attribute_features(
    place: HookSite,
    own: Autoencoder,
    row: Tokens,
    wanted: int,
    against: int,
    *,
    most: int = 64,
    at_once: int = 32,
) -> Attribution:
    """Attribution of logit(wanted) - logit(against) behind a row to its features: f_i (W_dec,i . gradient of
    the difference by the stream), summed over tokens; beside ablation, for the `most` features of highest
    activation.
    """
    body, skip = place.backbone, place.skip
    if len(row) <= skip:
        raise InputError(f"a row of {len(row)} tokens has none behind the first {skip}")
    streams: list[Tensor] = []

    def leaf(x_BTD: Tensor) -> Tensor:
        streams.append(x_BTD.detach().requires_grad_())
        return streams[-1]

    def difference(rows: int) -> Tensor:
        logits_BV = body.logits(body.hidden(pad([row] * rows, body.device))[:, -1]).float()
        return logits_BV[:, wanted] - logits_BV[:, against]

    with torch.enable_grad(), place.edited(leaf):
        before = difference(1)
        (gradient_1TD,) = torch.autograd.grad(before.sum(), streams)
    with torch.inference_mode():
        f_TF = own.encode(streams[0][0])
        f_TF *= (
            streams[0][0].norm(dim=1, keepdim=True) <= place.max_norm
        )  # those too long are left as they are
        effect_TF = f_TF * (gradient_1TD[0] @ own.decoder_FD.T) / own.scale
        height_F = f_TF.amax(dim=0) * own.norms_F
        chosen = height_F.topk(min(most, int((height_F > 0).sum()))).indices
        ablations = list[float]()
        for some in chosen.split(at_once) if len(chosen) else ():
            drop_KTD = f_TF.T[some][..., None] * own.decoder_FD[some][:, None] / own.scale
            with place.edited(lambda x, drop=drop_KTD: x - drop):  # type: ignore[misc]
                ablations += (before - difference(len(some))).cpu().tolist()
    return Attribution(
        tuple(chosen.tolist()),
        tuple(height_F[chosen].tolist()),
        tuple(effect_TF.sum(dim=0)[chosen].tolist()),
        tuple(ablations),
    )
