"""Clamping, ablating and attributing to features in a model (Scaling Monosemanticity, "Influence on behavior"
and "Attribution").

The residual stream is the reconstruction plus an error, and only the reconstruction is changed: with feature
i clamped to c times its largest activation, x becomes x + (c max_i - f_i) W_dec,i / s.

Shapes: B rows, T tokens, D channels, F features, K chosen features, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

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
    """Where an autoencoder reads the residual stream: after a layer (from 1) of a backbone, at every token
    but the first `skip` of a row and those whose norm exceeds `max_norm`.
    """

    backbone: Backbone
    layer: int
    skip: int = 1
    max_norm: float = math.inf

    @property
    def site(self) -> str:
        """The layer's name. Raises InputError on a layer that does not exist."""
        sites = layer_sites(self.backbone)
        if not 1 <= self.layer <= len(sites):
            raise InputError(f"no layer {self.layer}; there are 1 to {len(sites)}: {', '.join(sites)}")
        return sites[self.layer - 1]

    def edited(self, change: Callable[[Tensor], Tensor]) -> AbstractContextManager[None]:
        """Within the block the stream (B, T, D) after the first tokens is `change(stream)`, in float32.
        Single tokens, as in sampling, are not first tokens.
        """

        def behind(x_BTD: Tensor) -> Tensor:
            skip = self.skip if x_BTD.shape[1] > 1 else 0
            stream = x_BTD[:, skip:].float().cpu()  # where autoencoders are
            changed = change(stream)
            if self.max_norm < math.inf:
                changed = torch.where(stream.norm(dim=-1, keepdim=True) > self.max_norm, stream, changed)
            return torch.cat([x_BTD[:, :skip], changed.to(x_BTD.device, x_BTD.dtype)], dim=1)

        return edit_output(self.backbone, self.site, behind)


def clamp_features(autoencoder: Autoencoder, levels: Mapping[int, float]) -> Callable[[Tensor], Tensor]:
    """A change of the stream that sets features to the given values f at every token; 0 ablates. Raises
    InputError on a feature that does not exist.
    """
    unknown = [feature for feature in levels if not 0 <= feature < autoencoder.features]
    if unknown:
        raise InputError(f"no feature {unknown[0]}; there are 0 to {autoencoder.features - 1}")
    chosen = torch.tensor(list(levels), dtype=torch.long)
    level_K = torch.tensor(list(levels.values()))

    def change(x_BTD: Tensor) -> Tensor:
        f_NK = autoencoder.encode(x_BTD.flatten(0, 1))[:, chosen].detach()
        return x_BTD + (
            (level_K - f_NK) @ autoencoder.decoder_FD.detach()[chosen] / autoencoder.scale
        ).view_as(x_BTD)

    return change


@dataclass(frozen=True, slots=True)
class LossRecovered:
    """A model's mean loss (nats a token) on each row: intact, and with the stream replaced by its
    reconstruction, by the mean activation, and by zero.
    """

    clean: tuple[float, ...]
    reconstructed: tuple[float, ...]
    mean: tuple[float, ...]
    zero: tuple[float, ...]

    @property
    def recovered(self) -> float:
        """The share of the loss of zero ablation that the reconstruction recovers."""
        lost = sum(self.zero) - sum(self.clean)
        return (sum(self.zero) - sum(self.reconstructed)) / lost

    @property
    def recovered_over_mean(self) -> float:
        """The share of the loss of mean ablation that the reconstruction recovers."""
        lost = sum(self.mean) - sum(self.clean)
        return (sum(self.mean) - sum(self.reconstructed)) / lost


def loss_recovered(
    site: HookSite, autoencoder: Autoencoder, rows: Sequence[Tokens], mean_D: Tensor, *, at_once: int = 16
) -> LossRecovered:
    """The model's losses on rows of one length with the stream replaced at a site; `mean_D` is the mean
    activation.
    """
    changes: list[Callable[[Tensor], Tensor]] = [
        lambda x: x,
        lambda x: autoencoder(x.flatten(0, 1)).detach().view_as(x),
        lambda x: mean_D.expand_as(x),
        torch.zeros_like,
    ]
    losses: list[tuple[float, ...]] = []
    for change in changes:
        with site.edited(change):
            losses.append(tuple(token_losses(site.backbone, rows, at_once=at_once).mean(dim=1).tolist()))
    return LossRecovered(*losses)


@dataclass(frozen=True, slots=True)
class Attribution:
    """Features active on one row: their largest activation there (f |W_dec,i|), their attribution, and the
    fall of the logit difference where the feature is ablated at every token.
    """

    features: tuple[int, ...]
    activation: tuple[float, ...]
    attribution: tuple[float, ...]
    ablation: tuple[float, ...]


def attribute_features(
    site: HookSite,
    autoencoder: Autoencoder,
    row: Tokens,
    target: int,
    against: int,
    *,
    most: int = 64,
    at_once: int = 32,
) -> Attribution:
    """The attribution of logit(target) - logit(against) after a row to its features: f_i times the dot
    product of W_dec,i and the gradient of the difference in the stream, summed over tokens. Attribution and
    ablation are given for the `most` features of highest activation. Raises InputError on a row of only
    skipped tokens.
    """
    backbone, skip = site.backbone, site.skip
    if len(row) <= skip:
        raise InputError(f"a row of {len(row)} tokens has none behind the first {skip}")
    streams: list[Tensor] = []

    def leaf(x_BTD: Tensor) -> Tensor:
        streams.append(x_BTD.detach().requires_grad_())
        return streams[-1]

    def difference(rows: int) -> Tensor:
        logits_BV = backbone.logits(backbone.hidden(pad([row] * rows, backbone.device))[:, -1]).float()
        return logits_BV[:, target] - logits_BV[:, against]

    with torch.enable_grad(), site.edited(leaf):
        before = difference(1)
        (gradient_1TD,) = torch.autograd.grad(before.sum(), streams)
    with torch.inference_mode():
        f_TF = autoencoder.encode(streams[0][0])
        f_TF *= (
            streams[0][0].norm(dim=1, keepdim=True) <= site.max_norm
        )  # those too long are left as they are
        effect_TF = f_TF * (gradient_1TD[0] @ autoencoder.decoder_FD.T) / autoencoder.scale
        height_F = f_TF.amax(dim=0) * autoencoder.norms_F
        chosen = height_F.topk(min(most, int((height_F > 0).sum()))).indices
        ablations = list[float]()
        for part in chosen.split(at_once) if len(chosen) else ():
            drop_KTD = f_TF.T[part][..., None] * autoencoder.decoder_FD[part][:, None] / autoencoder.scale
            with site.edited(partial(torch.sub, other=drop_KTD)):
                ablations += (before - difference(len(part))).cpu().tolist()
    return Attribution(
        tuple(chosen.tolist()),
        tuple(height_F[chosen].tolist()),
        tuple(effect_TF.sum(dim=0)[chosen].tolist()),
        tuple(ablations),
    )
