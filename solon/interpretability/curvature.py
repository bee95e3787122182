"""EK-FAC: the Gauss-Newton matrix of linear layers, factored (Studying Large Language Model Generalization
with Influence Functions, Grosse et al. 2023, arXiv:2308.03296, section 2.2 and appendix A; George et al.
2018).

Of each layer G is taken as (Q_S x Q_A) diag(L) (Q_S x Q_A)^T: eigenvectors of the covariances of its inputs
and of its pseudo-gradients, whose labels are drawn from the model itself, and eigenvalues corrected to the
mean square of whole rows' pseudo-gradients in that basis (equation 20).

Shapes: B rows, T tokens, N tokens of all rows, C inputs, I inputs and one more that is always 1 where there
is a bias, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
BLOCK = 256  # columns of a symmetric matrix that are made at once
# bytes of inputs and gradients that are kept between the two passes instead of computed again
KEPT = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Objective(Generic[Row]):
    """What a module is trained on. Each function takes rows and gives each row's loss (nats, summed over its
    tokens), (B,), gradients kept; `drawn` with labels drawn from the model's own distribution. `size` is what
    a row costs, in tokens.
    """

    module: nn.Module
    losses: Callable[[Sequence[Row]], Tensor]
    sampled_losses: Callable[[Sequence[Row], torch.Generator], Tensor]
    row_tokens: Callable[[Row], int]


@dataclass(frozen=True, slots=True)
class Factors:
    """One layer's curvature. `values_OI` are EK-FAC's eigenvalues, `inputs_I` and `outputs_O` those of the
    covariances, on which K-FAC rests (their outer product, of the mean over tokens, times `tokens` of a row).
    """

    basis_II: Tensor
    basis_OO: Tensor
    values_OI: Tensor
    inputs_I: Tensor
    outputs_O: Tensor
    tokens: float

    def eigenvalues(self, method: Method) -> Tensor:
        """Of G in the basis, (O, I)."""
        if method == "identity":
            return torch.ones_like(self.values_OI)
        return (
            self.values_OI if method == "ekfac" else torch.outer(self.outputs_O, self.inputs_I) * self.tokens
        )

    def precondition(self, own: LayerPass, *, method: Method = "ekfac", damping: float = DAMPING) -> Tensor:
        """(G + damping * mean eigenvalue)^-1 applied to each row's gradient by the layer's weights (equation
        21), (B, O, I).
        """
        if method == "identity":
            return torch.cat([part_BOI.clone() for _, part_BOI in own.weight_gradients()])
        values_OI = self.eigenvalues(method)
        divisor_OI = values_OI + damping * values_OI.mean()
        return torch.cat(
            [
                self.basis_OO @ (part_BOI / divisor_OI) @ self.basis_II.T
                for _, part_BOI in rotated_gradients(own, self.basis_II, self.basis_OO)
            ]
        )


def length_batches(objective: Objective[Row], rows: Sequence[Row], *, tokens: int) -> Iterator[list[int]]:
    """Places of rows whose sizes, each taken as that of the longest among them, are at most `tokens`
    together; longest first.
    """
    batch: list[int] = []
    for place in sorted(range(len(rows)), key=lambda place: -objective.row_tokens(rows[place])):
        if batch and (len(batch) + 1) * objective.row_tokens(rows[batch[0]]) > tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def fit_factors(
    objective: Objective[Row],
    layers: Layers,
    rows: Sequence[Row],
    *,
    seed: int = 0,
    labels: Literal["drawn", "given"] = "drawn",
    tokens: int = 4096,
    dtype: torch.dtype = torch.float32,
    turning: torch.dtype = torch.float32,
    kept: int = KEPT,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Factors]:
    """Two passes over rows: covariances, whose eigenvectors are the basis, then eigenvalues in it. What the
    first computed is kept for the second where it fits into `kept` bytes; it is computed again otherwise,
    with the same labels. `labels` given: those of the rows, which makes it the empirical Fisher instead and
    is not what the paper uses. Rows pass through the model in `dtype`, bfloat16 by autocast, and tokens are
    turned into the basis in `turning`: bfloat16 blurs eigenvalues that are small beside the mean one, which
    is where damping hides them (docs/performance.md has what either changes and saves). Sums over rows are
    float32 and eigenvectors float64 always.

    Raises InputError without rows, and where a covariance is not finite.
    """
    if not rows:
        raise InputError("curvature needs at least one row")
    store: dict[int, dict[str, LayerPass]] = {}
    held = 0
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}
    parts = list(length_batches(objective, rows, tokens=tokens))

    def computed(number: int) -> dict[str, LayerPass]:
        some = [rows[place] for place in parts[number]]
        generator = torch.Generator().manual_seed(derive(seed, "labels", number) % 2**63)
        return record_pass(
            layers,
            len(some),
            lambda: (
                objective.losses(some) if labels == "given" else objective.sampled_losses(some, generator)
            ),
            dtype=dtype,
        )

    with frozen_parameters(objective.module):
        for number in range(len(parts)):
            found = computed(number)
            for name, own in found.items():
                sums[name] = _added(sums.get(name), own)
            narrow = {
                name: own.to(min(dtype, turning, key=lambda own: own.itemsize)) for name, own in found.items()
            }
            size = sum(own.inputs_BTC.nbytes + own.gradients_BTO.nbytes for own in narrow.values())
            if held + size <= kept:
                store[number] = narrow
                held += size
            progress(number + 1, 2 * len(parts))
        bases = {name: _basis(name, sums.pop(name), len(rows)) for name in list(sums)}
        squares = {
            name: basis_OO.new_zeros(len(basis_OO), len(basis_II))
            for name, (basis_II, basis_OO, *_) in bases.items()
        }
        for number in range(len(parts)):
            for name, own in (store.pop(number, None) or computed(number)).items():
                squares[name] += rotated_squares(own.to(turning), bases[name][0], bases[name][1])
            progress(len(parts) + number + 1, 2 * len(parts))
    return {
        name: Factors(basis_II, basis_OO, squares[name] / len(rows), inputs_I, outputs_O, per_row)
        for name, (basis_II, basis_OO, inputs_I, outputs_O, per_row) in bases.items()
    }


def _added(before: tuple[Tensor, Tensor, int] | None, own: LayerPass) -> tuple[Tensor, Tensor, int]:
    """Sums of a a^T and s s^T over the tokens that a loss depends on, on and above the diagonal, and how many
    these are.
    """
    inputs_NC, gradients_NO = own.inputs_BTC.flatten(0, 1).float(), own.gradients_BTO.flatten(0, 1).float()
    counted_N = torch.linalg.vector_norm(gradients_NO, ord=torch.inf, dim=-1) != 0
    if not counted_N.all():
        inputs_NC, gradients_NO = inputs_NC[counted_N], gradients_NO[counted_N]
    if before is None:
        outputs = gradients_NO.shape[-1]
        before = (
            gradients_NO.new_zeros(own.input_size, own.input_size),
            gradients_NO.new_zeros(outputs, outputs),
            0,
        )
    inputs_II, outputs_OO, tokens = before
    _add_products(inputs_II, inputs_NC)
    if own.bias:
        inputs_II[:-1, -1] += inputs_NC.sum(dim=0)
        inputs_II[-1, -1] += len(inputs_NC)
    _add_products(outputs_OO, gradients_NO)
    return inputs_II, outputs_OO, tokens + len(inputs_NC)


def _add_products(total_II: Tensor, x_NI: Tensor) -> None:
    """Add x^T x, but for blocks below the diagonal, which `eigh` need not see."""
    width = x_NI.shape[-1]
    for start in range(0, width, BLOCK):
        own = slice(start, min(start + BLOCK, width))
        total_II[own, start:width].addmm_(x_NI[:, own].T, x_NI[:, start:])


def _basis(
    name: str, own: tuple[Tensor, Tensor, int], rows: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    inputs_II, outputs_OO, tokens = own
    if not (torch.isfinite(inputs_II).all() and torch.isfinite(outputs_OO).all()):
        raise InputError(f"the layer {name!r} has activations or gradients that are not finite")
    values_I, basis_II = torch.linalg.eigh(inputs_II.double() / max(tokens, 1), UPLO="U")
    values_O, basis_OO = torch.linalg.eigh(outputs_OO.double() / max(tokens, 1), UPLO="U")
    return (
        basis_II.float(),
        basis_OO.float(),
        values_I.clamp(min=0).float(),
        values_O.clamp(min=0).float(),
        tokens / rows,
    )


def rotated_gradients(own: LayerPass, basis_II: Tensor, basis_OO: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """(places of rows, their gradients in the basis (B, O, I)), a few rows at a time. Tokens are turned
    before they are multiplied where that takes fewer operations, else the products are.
    """
    tokens, outputs = own.gradients_BTO.shape[1:]
    if tokens * (own.input_size**2 + outputs**2) <= outputs * own.input_size * (own.input_size + outputs):
        yield from own.rotate(basis_II, basis_OO).weight_gradients()
    else:
        yield from ((places, basis_OO.T @ part_BOI @ basis_II) for places, part_BOI in own.weight_gradients())


def rotated_squares(own: LayerPass, basis_II: Tensor, basis_OO: Tensor) -> Tensor:
    """The sum over rows of the squares of their gradients in the basis, (O, I)."""
    total_OI = basis_OO.new_zeros(len(basis_OO), len(basis_II))
    for _, part_BOI in rotated_gradients(own, basis_II, basis_OO):
        total_OI += part_BOI.square_().sum(dim=0)
    return total_OI


FIELDS = ("basis_II", "basis_OO", "values_OI", "inputs_I", "outputs_O")


def save_factors(factors: Mapping[str, Factors], path: Path) -> None:
    """One safetensors file."""
    tensors = {
        f"{name}/{field}": getattr(own, field).contiguous()
        for name, own in factors.items()
        for field in FIELDS
    }
    save_file(
        tensors
        | {f"{name}/tokens": torch.tensor(own.tokens, dtype=torch.float64) for name, own in factors.items()},
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
