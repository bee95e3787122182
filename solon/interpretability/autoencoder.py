"""Sparse autoencoders, and one training step of them that is exactly sparse (Scaling Monosemanticity,
Templeton et al. 2024, "Sparse autoencoders").

    f = ReLU(W_enc s x + b_enc)        s x ~ f W_dec + b_dec        loss = |s x - reconstruction|^2 + penalty
    * sum_i f_i |W_dec,i|

A feature that is 0 has no part in the reconstruction, nor in any gradient. So only what is above 0 has to be
found by a dense product, and that product need only be good enough to leave nothing out: it is done in
bfloat16 with a bound on its error added, and what passes is computed again in float32.

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
    """Takes activations as the model has them; `scale` is s above. Rows of both matrices are features.

    Encoders of other kinds are read, not trained: with `threshold_F` a feature counts from there (JumpReLU),
    with `top_k` only that many of the highest do (TopK).
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
        """Decoder rows are random directions of length `norm`, the encoder is the decoder, biases are 0
        (April 2024 update).
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
        return int(self.encoder_FD.shape[1])

    @property
    def features(self) -> int:
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
        kept = f_BF.topk(self.top_k, dim=1)
        return torch.zeros_like(f_BF).scatter(1, kept.indices, kept.values)

    def decode(self, f_BF: Tensor) -> Tensor:
        """Reconstructions (B, D), as the model has them."""
        return (f_BF @ self.decoder_FD + self.decoder_bias_D) / self.scale

    def forward(self, x_BD: Tensor) -> Tensor:
        return self.decode(self.encode(x_BD))

    def folded(self) -> Autoencoder:
        """The same function with a scale of 1: what is written for other libraries."""
        twin = Autoencoder(self.width, self.features, seed=0, top_k=self.top_k)
        with torch.no_grad():
            twin.encoder_FD.copy_(self.encoder_FD * self.scale)
            twin.encoder_bias_F.copy_(self.encoder_bias_F)
            twin.decoder_FD.copy_(self.decoder_FD / self.scale)
            twin.decoder_bias_D.copy_(self.decoder_bias_D / self.scale)
            twin.threshold_F.copy_(self.threshold_F)
        return twin


class AutoencoderBank(nn.Module):
    """Autoencoders that learn from one stream. What a training stage copies, writes and reads."""

    def __init__(self, members: list[Autoencoder]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def __iter__(self) -> Iterator[Autoencoder]:
        for own in self.members:
            if isinstance(own, Autoencoder):
                yield own

    def copy(self) -> AutoencoderBank:
        twins = [Autoencoder(own.width, own.features, seed=0, top_k=own.top_k) for own in self]
        twin = AutoencoderBank(twins)
        twin.load_state_dict(self.state_dict())
        return twin

    def save(self, path: Path) -> None:
        save_tensors(self.state_dict(), path)

    def load(self, path: Path) -> None:
        self.load_state_dict(load_tensors(path))


@dataclass(frozen=True, slots=True)
class ActivePairs:
    """Which pairs are active, by activation and within one by feature, and their values f."""

    rows_N: Tensor
    features_N: Tensor
    values_N: Tensor


@dataclass(frozen=True, slots=True)
class Losses:
    """Means over the batch, in scaled units: squared error, sum of f_i |W_dec,i|, active features (L0)."""

    error: float
    sparsity: float
    active: float


def active_pairs(own: Autoencoder, x_BD: Tensor) -> ActivePairs:
    """The active pairs of scaled activations, each value in float32. Nothing that is active is left out."""
    z_BF = (
        _screened(own, x_BD)
        if fast_precision() is torch.bfloat16
        else F.linear(x_BD, own.encoder_FD, own.encoder_bias_F)
    )
    flat_N = _above_zero(z_BF)
    rows_N, features_N = flat_N // own.features, flat_N % own.features
    if z_BF.dtype is torch.bfloat16:
        values_N = _dots(x_BD, own.encoder_FD, rows_N, features_N) + own.encoder_bias_F[features_N]
        kept_N = values_N > 0
        return ActivePairs(rows_N[kept_N], features_N[kept_N], values_N[kept_N])
    return ActivePairs(rows_N, features_N, z_BF.view(-1)[flat_N])


def _screened(own: Autoencoder, x_BD: Tensor) -> Tensor:
    """W_enc x + b_enc in bfloat16 plus a bound on its error, (B, F), by one product: with x = x' + dx and w =
    w' + dw, where x' and w' are rounded, x.w <= x'.w' + |dx||w| + |x'||dw|. These two terms, and the bias in
    two parts, are four more channels. A fiftieth is added for what float32 sums lose.
    """
    slack = 1.02
    x_round, w_round = x_BD.bfloat16(), own.encoder_FD.bfloat16()
    x_error_B, w_error_F = (x_BD - x_round).norm(dim=1), (own.encoder_FD - w_round).norm(dim=1)
    bias_F = own.encoder_bias_F
    bias_high = bias_F.bfloat16()
    bias_low = bias_F - bias_high + bias_F.abs() * 2**-14
    room = -(own.width + 4) % 32  # so that rows are of a size that products like
    one_B = torch.ones(len(x_BD), device=x_BD.device)
    more_x = torch.stack([one_B, one_B, slack * x_error_B, slack * x_round.float().norm(dim=1)], dim=1)
    more_w = torch.stack(
        [bias_high.float(), bias_low, slack * own.encoder_FD.norm(dim=1), slack * w_error_F], dim=1
    )
    x_wide = torch.cat([x_round, more_x.bfloat16(), x_round.new_zeros(len(x_round), room)], dim=1)
    w_wide = torch.cat([w_round, more_w.bfloat16(), w_round.new_zeros(len(w_round), room)], dim=1)
    return torch.mm(x_wide, w_wide.T)


def _above_zero(z_BF: Tensor) -> Tensor:
    """Flat places of what is above 0. NumPy finds them three times faster than torch on a processor; a
    positive bfloat16 is a positive int16.
    """
    if z_BF.device.type != "cpu":
        return (z_BF.view(-1) > 0).nonzero().view(-1)
    bits = z_BF.view(torch.int16) if z_BF.dtype is torch.bfloat16 else z_BF
    return torch.from_numpy(np.flatnonzero(bits.numpy() > 0))


def _dots(first_BD: Tensor, second_FD: Tensor, rows_N: Tensor, features_N: Tensor) -> Tensor:
    """first[row] . second[feature] of each pair."""
    starts = torch.searchsorted(rows_N, torch.arange(len(first_BD) + 1, device=rows_N.device))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse")  # "in beta state"
        zeros_N, size = torch.zeros(len(rows_N), device=rows_N.device), (len(first_BD), len(second_FD))
        wanted = torch.sparse_csr_tensor(starts, features_N, zeros_N, size=size, check_invariants=False)
    return torch.as_tensor(torch.sparse.sampled_addmm(wanted, first_BD, second_FD.T, beta=0.0).values())


def _mixed(table_KD: Tensor, picked_N: Tensor, groups_N: Tensor, weights_N: Tensor, groups: int) -> Tensor:
    """For each of `groups`, in whose order the pairs stand, the weighted sum of rows of a table: (groups,
    D).
    """
    starts = torch.searchsorted(groups_N, torch.arange(groups, device=groups_N.device))
    return F.embedding_bag(picked_N, table_KD, starts, mode="sum", per_sample_weights=weights_N)


@torch.no_grad()
def gradients(own: Autoencoder, x_BD: Tensor, l1_coefficient: float, *, dense: bool) -> Losses:
    """The loss of one batch of activations, as the model has them; its gradients go to the parameters'
    `.grad`. Dense and sparse give the same.

    Raises InputError where an encoder is of a kind that is not trained.
    """
    if own.top_k is not None or bool(own.threshold_F.any()):
        raise InputError("only autoencoders with a plain ReLU are trained here; TopK and JumpReLU are read")
    size, norms_F = len(x_BD), own.norms_F.clamp(min=1e-12)
    x_BD = x_BD * own.scale
    if dense:
        f_BF = F.relu(F.linear(x_BD, own.encoder_FD, own.encoder_bias_F))
        error_BD = torch.addmm(own.decoder_bias_D, f_BF, own.decoder_FD).sub_(x_BD)
        pull_BD = error_BD * (2 / size)
        g_BF = torch.addmm(norms_F * (l1_coefficient / size), pull_BD, own.decoder_FD.T).mul_(f_BF > 0)
        own.encoder_FD.grad, own.encoder_bias_F.grad = g_BF.T @ x_BD, g_BF.sum(dim=0)
        own.decoder_FD.grad, total_F, count = (
            f_BF.T @ pull_BD,
            f_BF.sum(dim=0),
            int(torch.count_nonzero(f_BF)),
        )
    else:
        on = active_pairs(own, x_BD)
        error_BD = (
            _mixed(own.decoder_FD, on.features_N, on.rows_N, on.values_N, size)
            .add_(own.decoder_bias_D)
            .sub_(x_BD)
        )
        pull_BD = error_BD * (2 / size)
        g_N = _dots(pull_BD, own.decoder_FD, on.rows_N, on.features_N).add_(
            norms_F[on.features_N], alpha=l1_coefficient / size
        )
        features_N, order_N = on.features_N.to(torch.int32).sort(stable=True)
        features_N, rows_N = features_N.long(), on.rows_N[order_N]
        own.encoder_FD.grad = _mixed(x_BD, rows_N, features_N, g_N[order_N], own.features)
        own.decoder_FD.grad = _mixed(pull_BD, rows_N, features_N, on.values_N[order_N], own.features)
        zeros_F = torch.zeros_like(norms_F)
        own.encoder_bias_F.grad = zeros_F.index_add(0, on.features_N, g_N)
        total_F, count = zeros_F.index_add(0, on.features_N, on.values_N), len(on.values_N)
    own.decoder_bias_D.grad = pull_BD.sum(dim=0)
    own.decoder_FD.grad += (total_F / norms_F * (l1_coefficient / size))[:, None] * own.decoder_FD
    return Losses(float(error_BD.square().sum()) / size, float(total_F @ norms_F) / size, count / size)


def activation_scale(x_BD: Tensor, how: str = "mean_square") -> float:
    """What activations are multiplied by: with `mean_square` (the paper's) so that the mean of their squared
    lengths is D; with `mean_norm` (the April 2024 update's, and SAELens') so that the mean of their lengths
    is the root of D.

    Raises InputError on activations that are not finite, or all 0.
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
