"""EK-FAC: a factored Gauss-Newton matrix of linear layers (Studying Large Language Model Generalization with
Influence Functions, Grosse et al. 2023, arXiv:2308.03296, section 2.2 and appendix A; George et al. 2018).

A layer's G is approximated as (Q_S x Q_A) diag(L) (Q_S x Q_A)^T, with the eigenvectors of the covariances of
its inputs and of its pseudo-gradients, whose labels are sampled from the model, and eigenvalues corrected to
the mean squares of rows' pseudo-gradients in that basis (equation 20).

Shapes: B rows, T tokens, N tokens of all rows, C inputs, I inputs plus a constant 1 where there is a bias,
O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, Literal, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from solon.errors import InputError
from solon.interpretability.linear import LayerPass, Layers, frozen_parameters, record_pass
from solon.models.base import derive

Row = TypeVar("Row")
Method = Literal["ekfac", "kfac", "identity"]
DAMPING = 0.1  # times the mean eigenvalue of a layer (section 3 of the paper)
BLOCK = 256  # columns of a symmetric matrix that are computed at once
# bytes of inputs and gradients that are cached between the two passes
CACHE_BYTES = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Objective(Generic[Row]):
    """A module's training objective. `losses` gives each row's loss (nats, summed over its tokens), (B,),
    with gradients; `sampled_losses` the same with labels sampled from the model. `row_tokens` is a row's
    size.
    """

    module: nn.Module
    losses: Callable[[Sequence[Row]], Tensor]
    sampled_losses: Callable[[Sequence[Row], torch.Generator], Tensor]
    row_tokens: Callable[[Row], int]


@dataclass(frozen=True, slots=True)
class Factors:
    """One layer's curvature: EK-FAC's eigenvalues `values_OI`, and the eigenvalues `inputs_I` and `outputs_O`
    of the covariances (means over tokens). K-FAC's eigenvalues are their outer product times the mean
    `tokens` of a row.
    """

    basis_II: Tensor
    basis_OO: Tensor
    values_OI: Tensor
    inputs_I: Tensor
    outputs_O: Tensor
    tokens: float

    def eigenvalues(self, method: Method) -> Tensor:
        """The eigenvalues of G by a method, (O, I)."""
        if method == "identity":
            return torch.ones_like(self.values_OI)
        return (
            self.values_OI if method == "ekfac" else torch.outer(self.outputs_O, self.inputs_I) * self.tokens
        )

    def precondition(self, layer: LayerPass, *, method: Method = "ekfac", damping: float = DAMPING) -> Tensor:
        """(G + damping * mean eigenvalue)^-1 times each row's gradient of the layer's weights (equation 21),
        (B, O, I).
        """
        if method == "identity":
            return torch.cat([part_BOI.clone() for _, part_BOI in layer.weight_gradients()])
        values_OI = self.eigenvalues(method)
        divisor_OI = values_OI + damping * values_OI.mean()
        return torch.cat(
            [
                self.basis_OO @ (part_BOI / divisor_OI) @ self.basis_II.T
                for _, part_BOI in rotated_gradients(layer, self.basis_II, self.basis_OO)
            ]
        )


def length_batches(objective: Objective[Row], rows: Sequence[Row], *, tokens: int) -> Iterator[list[int]]:
    """Indices of rows in batches, longest first, of at most `tokens` tokens when padded to the longest
    row.
    """
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: -objective.row_tokens(rows[index])):
        if batch and (len(batch) + 1) * objective.row_tokens(rows[batch[0]]) > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def fit_factors(
    objective: Objective[Row],
    layers: Layers,
    rows: Sequence[Row],
    *,
    seed: int = 0,
    labels: Literal["sampled", "given"] = "sampled",
    tokens: int = 4096,
    dtype: torch.dtype = torch.float32,
    rotation_dtype: torch.dtype = torch.float32,
    cache_bytes: int = CACHE_BYTES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Factors]:
    """Each layer's curvature, in two passes over rows: covariances, whose eigenvectors are the basis, then
    eigenvalues in it.

    Labels are sampled from the model, as in the paper; with `labels` "given" they are the rows', which makes
    the empirical Fisher. Batches have at most `tokens` tokens. Rows pass through the model in `dtype`,
    bfloat16 by autocast, and tokens are rotated into the basis in `rotation_dtype`; bfloat16 blurs
    eigenvalues that are small beside the mean, which damping hides (docs/performance.md). Sums over rows are
    float32, and eigenvectors are computed in float64. Activations and gradients of the first pass are cached
    up to `cache_bytes` and recomputed beyond, with the same labels. `progress` is called with (batches done,
    total).

    Raises InputError without rows, and where a covariance is not finite.
    """
    if not rows:
        raise InputError("curvature needs at least one row")
    cache: dict[int, dict[str, LayerPass]] = {}
    cached = 0
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}
    batches = list(length_batches(objective, rows, tokens=tokens))
    narrower = min(dtype, rotation_dtype, key=lambda kind: kind.itemsize)

    def computed(number: int) -> dict[str, LayerPass]:
        batch = [rows[index] for index in batches[number]]
        generator = torch.Generator().manual_seed(derive(seed, "labels", number) % 2**63)
        losses = (
            partial(objective.losses, batch)
            if labels == "given"
            else partial(objective.sampled_losses, batch, generator)
        )
        return record_pass(layers, len(batch), losses, dtype=dtype)

    with frozen_parameters(objective.module):
        for number in range(len(batches)):
            passes = computed(number)
            for name, layer in passes.items():
                sums[name] = _added(sums.get(name), layer)
            narrow = {name: layer.to(narrower) for name, layer in passes.items()}
            size = sum(layer.inputs_BTC.nbytes + layer.gradients_BTO.nbytes for layer in narrow.values())
            if cached + size <= cache_bytes:
                cache[number] = narrow
                cached += size
            progress(number + 1, 2 * len(batches))
        factors = {name: _factors(name, sums.pop(name), len(rows)) for name in list(sums)}
        for number in range(len(batches)):
            for name, layer in (cache.pop(number, None) or computed(number)).items():
                basis_II, basis_OO = factors[name].basis_II, factors[name].basis_OO
                factors[name].values_OI.add_(rotated_squares(layer.to(rotation_dtype), basis_II, basis_OO))
            progress(len(batches) + number + 1, 2 * len(batches))
    for layer_factors in factors.values():
        layer_factors.values_OI.div_(len(rows))
    return factors


def _added(before: tuple[Tensor, Tensor, int] | None, layer: LayerPass) -> tuple[Tensor, Tensor, int]:
    """The sums of a a^T and s s^T over tokens with a gradient, on and above the diagonal, and the number of
    these tokens, with a pass added.
    """
    inputs_NC, gradients_NO = (
        layer.inputs_BTC.flatten(0, 1).float(),
        layer.gradients_BTO.flatten(0, 1).float(),
    )
    counted_N = torch.linalg.vector_norm(gradients_NO, ord=torch.inf, dim=-1) != 0
    if not counted_N.all():
        inputs_NC, gradients_NO = inputs_NC[counted_N], gradients_NO[counted_N]
    if before is None:
        outputs = gradients_NO.shape[-1]
        before = (
            gradients_NO.new_zeros(layer.input_size, layer.input_size),
            gradients_NO.new_zeros(outputs, outputs),
            0,
        )
    inputs_II, outputs_OO, tokens = before
    _add_products(inputs_II, inputs_NC)
    if layer.bias:
        inputs_II[:-1, -1] += inputs_NC.sum(dim=0)
        inputs_II[-1, -1] += len(inputs_NC)
    _add_products(outputs_OO, gradients_NO)
    return inputs_II, outputs_OO, tokens + len(inputs_NC)


def _add_products(total_II: Tensor, x_NI: Tensor) -> None:
    """Adds x^T x, except for blocks below the diagonal, which `eigh` does not read."""
    width = x_NI.shape[-1]
    for start in range(0, width, BLOCK):
        block = slice(start, min(start + BLOCK, width))
        total_II[block, start:width].addmm_(x_NI[:, block].T, x_NI[:, start:])


def _factors(name: str, sums: tuple[Tensor, Tensor, int], rows: int) -> Factors:
    """A layer's basis, with eigenvalues of 0 to add to."""
    inputs_II, outputs_OO, tokens = sums
    if not (torch.isfinite(inputs_II).all() and torch.isfinite(outputs_OO).all()):
        raise InputError(f"the layer {name!r} has activations or gradients that are not finite")
    values_I, basis_II = torch.linalg.eigh(inputs_II.double() / max(tokens, 1), UPLO="U")
    values_O, basis_OO = torch.linalg.eigh(outputs_OO.double() / max(tokens, 1), UPLO="U")
    return Factors(
        basis_II.float(),
        basis_OO.float(),
        inputs_II.new_zeros(len(outputs_OO), len(inputs_II)),
        values_I.clamp(min=0).float(),
        values_O.clamp(min=0).float(),
        tokens / rows,
    )


def rotated_gradients(layer: LayerPass, basis_II: Tensor, basis_OO: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """(slice of rows, their gradients in the basis (B, O, I)), a few rows at a time. Tokens are rotated
    before the product where that takes fewer operations; otherwise the product is.
    """
    tokens, outputs = layer.gradients_BTO.shape[1:]
    if tokens * (layer.input_size**2 + outputs**2) <= outputs * layer.input_size * (
        layer.input_size + outputs
    ):
        yield from layer.rotate(basis_II, basis_OO).weight_gradients()
    else:
        yield from ((rows, basis_OO.T @ part_BOI @ basis_II) for rows, part_BOI in layer.weight_gradients())


def rotated_squares(layer: LayerPass, basis_II: Tensor, basis_OO: Tensor) -> Tensor:
    """The sum over rows of their squared gradients in the basis, (O, I)."""
    total_OI = basis_OO.new_zeros(len(basis_OO), len(basis_II))
    for _, part_BOI in rotated_gradients(layer, basis_II, basis_OO):
        total_OI += part_BOI.square_().sum(dim=0)
    return total_OI


FIELDS = ("basis_II", "basis_OO", "values_OI", "inputs_I", "outputs_O")


def save_factors(factors: Mapping[str, Factors], path: Path) -> None:
    """Writes the factors of all layers to one safetensors file."""
    tensors = {
        f"{name}/{field}": getattr(factors_of, field).contiguous()
        for name, factors_of in factors.items()
        for field in FIELDS
    }
    save_file(
        tensors
        | {
            f"{name}/tokens": torch.tensor(factors_of.tokens, dtype=torch.float64)
            for name, factors_of in factors.items()
        },
        path,
    )


def load_factors(path: Path, device: torch.device | str = "cpu") -> dict[str, Factors]:
    """What `save_factors` wrote."""
    tensors = load_file(path, device=str(device))
    names = dict.fromkeys(key.rpartition("/")[0] for key in tensors)
    return {
        name: Factors(
            **{field: tensors[f"{name}/{field}"] for field in FIELDS}, tokens=float(tensors[f"{name}/tokens"])
        )
        for name in names
    }
