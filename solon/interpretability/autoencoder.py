"""Sparse autoencoders, and the gradients of a training step by sparse products (Scaling Monosemanticity,
Templeton et al. 2024, "Sparse autoencoders").

    f = ReLU(W_enc s x + b_enc),  s x ~ f W_dec + b_dec,
    loss = |s x - reconstruction|^2 + l1_coefficient * sum_i f_i |W_dec,i|

A feature of value 0 contributes to neither the reconstruction nor a gradient. A dense product is needed only
to find the features above 0: it is computed in bfloat16 plus a bound on its error, so that none is missed,
and those that pass are computed again in float32.

Shapes: B activations, D channels of the model, F features, N pairs of an activation and a feature active
there.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solon.errors import InputError
from solon.models.backbones.backbone import fast_precision
from solon.models.weights import load_tensors, save_tensors

DENSE_SHARE = 0.15  # of all pairs; with more active, dense products are faster


class Autoencoder(nn.Module):
    """A sparse autoencoder of unscaled activations; `scale` is s above. Rows of both matrices are features.

    Two other kinds can be read, not trained: JumpReLU, where a feature is active above `threshold_F`, and
    TopK, where the `top_k` highest features are.
    """

    def __init__(
        self,
        width: int,
        features: int,
        *,
        seed: int,
        norm: float = 0.1,
        scale: float = 1.0,
        top_k: int | None = None,
    ) -> None:
        """Decoder rows are random directions of length `norm`, the encoder equals the decoder, and biases are
        0 (Anthropic's April 2024 update). Raises InputError on sizes, norms and scales that are not above 0.
        """
        super().__init__()
        if (
            min(width, features) < 1
            or norm <= 0
            or scale <= 0
            or (top_k is not None and not 1 <= top_k <= features)
        ):
            raise InputError(
                f"width {width}, features {features}, norm {norm:g} and scale {scale:g} have to be above "
                f"0, and at most {features} be kept"
            )
        directions_FD = torch.randn(features, width, generator=torch.Generator().manual_seed(seed))
        directions_FD *= norm / directions_FD.norm(dim=1, keepdim=True)
        self.encoder_FD = nn.Parameter(directions_FD.clone())
        self.encoder_bias_F = nn.Parameter(torch.zeros(features))
        self.decoder_FD = nn.Parameter(directions_FD)
        self.decoder_bias_D = nn.Parameter(torch.zeros(width))
        self.scale: Tensor
        self.threshold_F: Tensor
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("threshold_F", torch.zeros(features))
        self.top_k = top_k

    @property
    def width(self) -> int:
        """D."""
        return int(self.encoder_FD.shape[1])

    @property
    def features(self) -> int:
        """F."""
        return int(self.encoder_FD.shape[0])

    @property
    def norms_F(self) -> Tensor:
        """|W_dec,i|. A feature's activation is reported as f_i |W_dec,i|, its direction as W_dec,i /
        |W_dec,i|.
        """
        return torch.as_tensor(self.decoder_FD.detach().norm(dim=1))

    def encode(self, x_BD: Tensor) -> Tensor:
        """f (B, F)."""
        z_BF = F.linear(x_BD * self.scale, self.encoder_FD, self.encoder_bias_F)
        f_BF = torch.where(z_BF > self.threshold_F, z_BF, 0.0)
        if self.top_k is None:
            return f_BF
        top_BK = f_BF.topk(self.top_k, dim=1)
        return torch.zeros_like(f_BF).scatter(1, top_BK.indices, top_BK.values)

    def decode(self, f_BF: Tensor) -> Tensor:
        """Unscaled reconstructions (B, D)."""
        return (f_BF @ self.decoder_FD + self.decoder_bias_D) / self.scale

    def forward(self, x_BD: Tensor) -> Tensor:
        """Reconstructions (B, D) of activations (B, D), both unscaled."""
        return self.decode(self.encode(x_BD))

    def folded(self) -> Autoencoder:
        """The same function with a scale of 1, for other libraries."""
        twin = Autoencoder(self.width, self.features, seed=0, top_k=self.top_k)
        with torch.no_grad():
            twin.encoder_FD.copy_(self.encoder_FD * self.scale)
            twin.encoder_bias_F.copy_(self.encoder_bias_F)
            twin.decoder_FD.copy_(self.decoder_FD / self.scale)
            twin.decoder_bias_D.copy_(self.decoder_bias_D / self.scale)
            twin.threshold_F.copy_(self.threshold_F)
        return twin


class AutoencoderBank(nn.Module):
    """Autoencoders trained on one stream of activations, copied, saved and loaded together."""

    def __init__(self, members: list[Autoencoder]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def __iter__(self) -> Iterator[Autoencoder]:
        for member in self.members:
            if isinstance(member, Autoencoder):
                yield member

    def copy(self) -> AutoencoderBank:
        """A copy with weights of its own."""
        twins = [Autoencoder(member.width, member.features, seed=0, top_k=member.top_k) for member in self]
        twin = AutoencoderBank(twins)
        twin.load_state_dict(self.state_dict())
        return twin

    def save(self, path: Path) -> None:
        """Writes all weights (safetensors)."""
        save_tensors(self.state_dict(), path)

    def load(self, path: Path) -> None:
        """Reads what `save` wrote, in place."""
        self.load_state_dict(load_tensors(path))


@dataclass(frozen=True, slots=True)
class ActivePairs:
    """The active pairs, ordered by activation and then by feature, and their values f."""

    rows_N: Tensor
    features_N: Tensor
    values_N: Tensor


@dataclass(frozen=True, slots=True)
class Losses:
    """Batch means in scaled units: squared error, sum of f_i |W_dec,i|, and active features (L0)."""

    error: float
    sparsity: float
    active: float


def active_pairs(autoencoder: Autoencoder, x_BD: Tensor) -> ActivePairs:
    """All active pairs of scaled activations, with values in float32."""
    z_BF = (
        _screened(autoencoder, x_BD)
        if fast_precision() is torch.bfloat16
        else F.linear(x_BD, autoencoder.encoder_FD, autoencoder.encoder_bias_F)
    )
    flat_N = _above_zero(z_BF)
    rows_N, features_N = flat_N // autoencoder.features, flat_N % autoencoder.features
    if z_BF.dtype is torch.bfloat16:
        values_N = (
            _dots(x_BD, autoencoder.encoder_FD, rows_N, features_N) + autoencoder.encoder_bias_F[features_N]
        )
        kept_N = values_N > 0
        return ActivePairs(rows_N[kept_N], features_N[kept_N], values_N[kept_N])
    return ActivePairs(rows_N, features_N, z_BF.view(-1)[flat_N])


def _screened(autoencoder: Autoencoder, x_BD: Tensor) -> Tensor:
    """An upper bound of W_enc x + b_enc, (B, F), by one product in bfloat16: with x = x' + dx and w = w' +
    dw, where x' and w' are rounded, x.w <= x'.w' + |dx||w| + |x'||dw|. These two terms, and the bias in two
    parts, are four more channels. The two terms are raised by 2% for rounding in float32 sums.
    """
    slack = 1.02
    x_round, w_round = x_BD.bfloat16(), autoencoder.encoder_FD.bfloat16()
    x_error_B, w_error_F = (x_BD - x_round).norm(dim=1), (autoencoder.encoder_FD - w_round).norm(dim=1)
    bias_F = autoencoder.encoder_bias_F
    bias_high = bias_F.bfloat16()
    bias_low = bias_F - bias_high + bias_F.abs() * 2**-14
    room = -(autoencoder.width + 4) % 32  # padding of rows to a multiple of 32, which is faster
    one_B = torch.ones(len(x_BD), device=x_BD.device)
    more_x = torch.stack([one_B, one_B, slack * x_error_B, slack * x_round.float().norm(dim=1)], dim=1)
    more_w = torch.stack(
        [bias_high.float(), bias_low, slack * autoencoder.encoder_FD.norm(dim=1), slack * w_error_F], dim=1
    )
    x_wide = torch.cat([x_round, more_x.bfloat16(), x_round.new_zeros(len(x_round), room)], dim=1)
    w_wide = torch.cat([w_round, more_w.bfloat16(), w_round.new_zeros(len(w_round), room)], dim=1)
    return torch.mm(x_wide, w_wide.T)


def _above_zero(z_BF: Tensor) -> Tensor:
    """Flat indices of values above 0. On a CPU NumPy is three times as fast as torch; a positive bfloat16 is
    a positive int16.
    """
    if z_BF.device.type != "cpu":
        return (z_BF.view(-1) > 0).nonzero().view(-1)
    bits = z_BF.view(torch.int16) if z_BF.dtype is torch.bfloat16 else z_BF
    return torch.from_numpy(np.flatnonzero(bits.numpy() > 0))


def _dots(first_BD: Tensor, second_FD: Tensor, rows_N: Tensor, features_N: Tensor) -> Tensor:
    """The dot product first[row] . second[feature] of each pair."""
    starts = torch.searchsorted(rows_N, torch.arange(len(first_BD) + 1, device=rows_N.device))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse")  # "in beta state"
        zeros_N, size = torch.zeros(len(rows_N), device=rows_N.device), (len(first_BD), len(second_FD))
        mask = torch.sparse_csr_tensor(starts, features_N, zeros_N, size=size, check_invariants=False)
    return torch.as_tensor(torch.sparse.sampled_addmm(mask, first_BD, second_FD.T, beta=0.0).values())


def _mixed(table_KD: Tensor, picked_N: Tensor, groups_N: Tensor, weights_N: Tensor, groups: int) -> Tensor:
    """For each of `groups`, by which pairs are ordered, the weighted sum of picked rows of a table: (groups,
    D).
    """
    starts = torch.searchsorted(groups_N, torch.arange(groups, device=groups_N.device))
    return F.embedding_bag(picked_N, table_KD, starts, mode="sum", per_sample_weights=weights_N)


@torch.no_grad()
def gradients(autoencoder: Autoencoder, x_BD: Tensor, l1_coefficient: float, *, dense: bool) -> Losses:
    """The loss of a batch of unscaled activations; its gradients are written to the parameters' `.grad`. With
    `dense` or without, the result is the same up to rounding. Raises InputError on TopK and JumpReLU.
    """
    if autoencoder.top_k is not None or bool(autoencoder.threshold_F.any()):
        raise InputError("only autoencoders with a plain ReLU are trained here; TopK and JumpReLU are read")
    size, norms_F = len(x_BD), autoencoder.norms_F.clamp(min=1e-12)
    x_BD = x_BD * autoencoder.scale
    if dense:
        f_BF = F.relu(F.linear(x_BD, autoencoder.encoder_FD, autoencoder.encoder_bias_F))
        error_BD = torch.addmm(autoencoder.decoder_bias_D, f_BF, autoencoder.decoder_FD).sub_(x_BD)
        pull_BD = error_BD * (2 / size)
        g_BF = torch.addmm(norms_F * (l1_coefficient / size), pull_BD, autoencoder.decoder_FD.T).mul_(
            f_BF > 0
        )
        autoencoder.encoder_FD.grad, autoencoder.encoder_bias_F.grad = g_BF.T @ x_BD, g_BF.sum(dim=0)
        autoencoder.decoder_FD.grad, total_F, count = (
            f_BF.T @ pull_BD,
            f_BF.sum(dim=0),
            int(torch.count_nonzero(f_BF)),
        )
    else:
        on = active_pairs(autoencoder, x_BD)
        error_BD = (
            _mixed(autoencoder.decoder_FD, on.features_N, on.rows_N, on.values_N, size)
            .add_(autoencoder.decoder_bias_D)
            .sub_(x_BD)
        )
        pull_BD = error_BD * (2 / size)
        g_N = _dots(pull_BD, autoencoder.decoder_FD, on.rows_N, on.features_N).add_(
            norms_F[on.features_N], alpha=l1_coefficient / size
        )
        features_N, order_N = on.features_N.to(torch.int32).sort(stable=True)
        features_N, rows_N = features_N.long(), on.rows_N[order_N]
        autoencoder.encoder_FD.grad = _mixed(x_BD, rows_N, features_N, g_N[order_N], autoencoder.features)
        autoencoder.decoder_FD.grad = _mixed(
            pull_BD, rows_N, features_N, on.values_N[order_N], autoencoder.features
        )
        zeros_F = torch.zeros_like(norms_F)
        autoencoder.encoder_bias_F.grad = zeros_F.index_add(0, on.features_N, g_N)
        total_F, count = zeros_F.index_add(0, on.features_N, on.values_N), len(on.values_N)
    autoencoder.decoder_bias_D.grad = pull_BD.sum(dim=0)
    autoencoder.decoder_FD.grad += (total_F / norms_F * (l1_coefficient / size))[
        :, None
    ] * autoencoder.decoder_FD
    return Losses(float(error_BD.square().sum()) / size, float(total_F @ norms_F) / size, count / size)


def activation_scale(x_BD: Tensor, how: str = "mean_square") -> float:
    """The scale of activations: with `mean_square` (the paper's) their mean squared length becomes D, with
    `mean_norm` (the April 2024 update's and SAELens') their mean length becomes the root of D. Raises
    InputError on activations that are not finite or all 0, and on another `how`.
    """
    if how not in ("mean_square", "mean_norm"):
        raise InputError(f"no normalisation {how!r}; there are mean_square and mean_norm")
    lengths_B = x_BD.double().norm(dim=1)
    length = float(lengths_B.square().mean().sqrt() if how == "mean_square" else lengths_B.mean())
    if not np.isfinite(length) or length == 0:
        raise InputError(
            f"activations have a typical length of {length}; they cannot be brought to one scale"
        )
    return float(x_BD.shape[1] ** 0.5 / length)
