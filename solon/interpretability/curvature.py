"""EK-FAC: the Gauss-Newton matrix of linear layers, factored (Studying Large Language Model Generalization with Influence Functions, Grosse et al.
2023, arXiv:2308.03296, section 2.2 and appendix A; George et al. 2018).

Of each layer G is taken as (Q_S x Q_A) diag(L) (Q_S x Q_A)^T: eigenvectors of the covariances of its inputs and of its pseudo-gradients, whose labels are
drawn from the model itself, and eigenvalues corrected to the mean square of whole rows' pseudo-gradients in that basis (equation 20).

Shapes: B rows, T tokens, I inputs, O outputs, V gradients of a layer at once.
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
from solon.interpretability.linear import Layers, Passed, frozen, passed
from solon.models.base import derive

Row = TypeVar("Row")
Method = Literal["ekfac", "kfac", "identity"]
DAMPING = 0.1  # times the mean eigenvalue of a layer (section 3 of the paper)
KEPT = 2 * 2**30  # bytes of inputs and gradients that are kept between the two passes instead of computed again


@dataclass(frozen=True, slots=True)
class Objective(Generic[Row]):
    """What a module is trained on. Each function takes rows and gives each row's loss (nats, summed over its tokens), (B,), gradients kept; `drawn`
    with labels drawn from the model's own distribution. `size` is what a row costs, in tokens.
    """

    module: nn.Module
    losses: Callable[[Sequence[Row]], Tensor]
    drawn: Callable[[Sequence[Row], torch.Generator], Tensor]
    size: Callable[[Row], int]


@dataclass(frozen=True, slots=True)
class Factors:
    """One layer's curvature. `values_OI` are EK-FAC's eigenvalues, `inputs_I` and `outputs_O` those of the covariances, on which K-FAC rests
    (their outer product, of the mean over tokens, times `tokens` of a row).
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
        return self.values_OI if method == "ekfac" else torch.outer(self.outputs_O, self.inputs_I) * self.tokens

    def solved(self, gradients_VOI: Tensor, *, method: Method = "ekfac", damping: float = DAMPING) -> Tensor:
        """(G + damping * mean eigenvalue)^-1 applied to gradients by the layer's weights (equation 21)."""
        values_OI = self.eigenvalues(method)
        if method == "identity":
            return gradients_VOI
        turned_VOI = self.basis_OO.T @ gradients_VOI @ self.basis_II
        return self.basis_OO @ (turned_VOI / (values_OI + damping * values_OI.mean())) @ self.basis_II.T


def batched(objective: Objective[Row], rows: Sequence[Row], *, tokens: int) -> Iterator[list[int]]:
    """Places of rows whose sizes, each taken as that of the longest among them, are at most `tokens` together; longest first."""
    batch: list[int] = []
    for place in sorted(range(len(rows)), key=lambda place: -objective.size(rows[place])):
        if batch and (len(batch) + 1) * objective.size(rows[batch[0]]) > tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def fit(
    objective: Objective[Row],
    layers: Layers,
    rows: Sequence[Row],
    *,
    seed: int = 0,
    labels: Literal["drawn", "given"] = "drawn",
    tokens: int = 4096,
    kept: int = KEPT,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Factors]:
    """Two passes over rows: covariances, whose eigenvectors are the basis, then eigenvalues in it. What the first computed is kept for the second
    where it takes no more than `kept` bytes; it is computed again otherwise, with the same labels. `labels` given: those of the rows, which makes it
    the empirical Fisher instead and is not what the paper uses.

    Raises InputError without rows, and where a covariance is not finite.
    """
    if not rows:
        raise InputError("curvature needs at least one row")
    store: dict[int, dict[str, Passed]] = {}
    held = 0
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}
    parts = list(batched(objective, rows, tokens=tokens))
    with frozen(objective.module):
        for number, batch in enumerate(parts):
            found = _pseudo(objective, layers, [rows[place] for place in batch], labels, derive(seed, "labels", number))
            for name, own in found.items():
                sums[name] = _added(sums.get(name), own)
            held += sum(own.inputs_BTI.nbytes + own.gradients_BTO.nbytes for own in found.values())
            if held <= kept:
                store[number] = found
            progress(number + 1, 2 * len(parts))
        bases = {name: _basis(name, own, len(rows)) for name, own in sums.items()}
        squares: dict[str, Tensor] = {name: torch.zeros(len(own[1]), len(own[0])) for name, own in bases.items()}
        for number, batch in enumerate(parts):
            found = store.get(number) or _pseudo(objective, layers, [rows[place] for place in batch], labels, derive(seed, "labels", number))
            for name, own in found.items():
                squares[name] += turned_squares(own, bases[name][0], bases[name][1])
            progress(len(parts) + number + 1, 2 * len(parts))
    return {
        name: Factors(basis_II, basis_OO, squares[name] / len(rows), inputs_I, outputs_O, per_row)
        for name, (basis_II, basis_OO, inputs_I, outputs_O, per_row) in bases.items()
    }


def _pseudo(objective: Objective[Row], layers: Layers, some: Sequence[Row], labels: str, seed: int) -> dict[str, Passed]:
    if labels == "given":
        return passed(layers, len(some), lambda: objective.losses(some))
    return passed(layers, len(some), lambda: objective.drawn(some, torch.Generator().manual_seed(seed % 2**63)))


def _added(before: tuple[Tensor, Tensor, int] | None, own: Passed) -> tuple[Tensor, Tensor, int]:
    """Sums of a a^T and s s^T over the tokens that a loss depends on, and how many these are."""
    inputs_NI, gradients_NO = own.inputs_BTI.flatten(0, 1), own.gradients_BTO.flatten(0, 1)
    counted_N = (gradients_NO != 0).any(dim=-1)
    if not counted_N.all():
        inputs_NI, gradients_NO = inputs_NI[counted_N], gradients_NO[counted_N]
    if before is None:
        return inputs_NI.T @ inputs_NI, gradients_NO.T @ gradients_NO, len(inputs_NI)
    return before[0].addmm_(inputs_NI.T, inputs_NI), before[1].addmm_(gradients_NO.T, gradients_NO), before[2] + len(inputs_NI)


def _basis(name: str, own: tuple[Tensor, Tensor, int], rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    inputs_II, outputs_OO, tokens = own
    if not (torch.isfinite(inputs_II).all() and torch.isfinite(outputs_OO).all()):
        raise InputError(f"the layer {name!r} has activations or gradients that are not finite")
    values_I, basis_II = torch.linalg.eigh(inputs_II.double() / max(tokens, 1))
    values_O, basis_OO = torch.linalg.eigh(outputs_OO.double() / max(tokens, 1))
    return basis_II.float(), basis_OO.float(), values_I.clamp(min=0).float(), values_O.clamp(min=0).float(), tokens / rows


def turned_squares(own: Passed, basis_II: Tensor, basis_OO: Tensor) -> Tensor:
    """The sum over rows of the squares of their gradients in the basis, (O, I). Tokens are turned before they are multiplied where that takes fewer
    operations, else the products are.
    """
    _, tokens, inputs = own.inputs_BTI.shape
    outputs = own.gradients_BTO.shape[-1]
    first = tokens * (inputs**2 + outputs**2)
    if first <= outputs * inputs * (inputs + outputs):
        turned_BOI = Passed(own.inputs_BTI @ basis_II, own.gradients_BTO @ basis_OO).weight_gradients
    else:
        turned_BOI = basis_OO.T @ own.weight_gradients @ basis_II
    return turned_BOI.square_().sum(dim=0)


FIELDS = ("basis_II", "basis_OO", "values_OI", "inputs_I", "outputs_O")


def save(factors: Mapping[str, Factors], path: Path) -> None:
    """One safetensors file."""
    tensors = {f"{name}/{field}": getattr(own, field).contiguous() for name, own in factors.items() for field in FIELDS}
    save_file(tensors | {f"{name}/tokens": torch.tensor(own.tokens, dtype=torch.float64) for name, own in factors.items()}, path)


def load(path: Path) -> dict[str, Factors]:
    """What `save` wrote."""
    tensors = load_file(path)
    names = dict.fromkeys(key.rpartition("/")[0] for key in tensors)
    return {name: Factors(**{field: tensors[f"{name}/{field}"] for field in FIELDS}, tokens=float(tensors[f"{name}/tokens"])) for name in names}
