"""Influence functions of training rows on linear layers (Grosse et al. 2023, arXiv:2308.03296).

The influence of a training row z on a query q is grad L(q)^T (G + damping)^-1 grad L(z), with G from
`curvature`: the rate at which the query's log-likelihood (minus its loss L, nats) rises with the row's weight
in the mean training loss (equations 9 and 25). It is the sum over layers (equation 30) and over tokens
(equation 31).

Shapes: Q queries, B rows, T tokens, I inputs plus a constant 1 where there is a bias, O outputs, R rank,
L layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from solon.errors import InputError
from solon.interpretability.curvature import DAMPING, Factors, Method, Objective, Row, length_batches
from solon.interpretability.linear import LayerPass, Layers, frozen_parameters, record_pass


@dataclass(frozen=True, slots=True)
class LowRank:
    """Preconditioned query gradients as products of factors, (Q, O, R) and (Q, R, I)."""

    left_QOR: Tensor
    right_QRI: Tensor

    def full(self) -> Tensor:
        """The gradients (Q, O, I)."""
        return self.left_QOR @ self.right_QRI


Queries = Mapping[str, Tensor | LowRank]  # each layer's preconditioned query gradients, (Q, O, I)


def preconditioned_queries(
    objective: Objective[Row],
    layers: Layers,
    factors: Mapping[str, Factors],
    rows: Sequence[Row],
    *,
    method: Method = "ekfac",
    damping: float = DAMPING,
    rank: int = 0,
    tokens: int = 4096,
) -> dict[str, Tensor | LowRank]:
    """Each query's gradient times (G + damping)^-1, by layer. With `rank` it is approximated at that rank,
    with R (O + I) numbers instead of O I; the paper uses 32.

    Raises InputError without queries, on an empty query, on a rank above a layer's dimensions, and where the
    factors are of other layers.
    """
    if not rows or any(objective.row_tokens(row) == 0 for row in rows):
        raise InputError(f"influence needs at least one query, and none that is empty; found {len(rows)}")
    if set(factors) != set(layers):
        raise InputError(
            f"the factors are of {len(factors)} layers, the model's are {len(layers)}: fit them on the "
            "same layers"
        )
    small = min(layers, key=lambda name: min(layers[name].weight.shape))
    if rank < 0 or rank > min(layers[small].weight.shape):
        raise InputError(
            f"rank {rank} is above the dimension {min(layers[small].weight.shape)} of the layer {small!r}"
        )
    parts: dict[str, dict[int, Tensor]] = {name: {} for name in layers}
    with frozen_parameters(objective.module):
        for batch in length_batches(objective, rows, tokens=tokens):
            losses = partial(objective.losses, [rows[index] for index in batch])
            for name, layer in record_pass(layers, len(batch), losses).items():
                solved_BOI = factors[name].precondition(layer, method=method, damping=damping)
                parts[name] |= dict(zip(batch, solved_BOI, strict=True))
    stacked = {
        name: torch.stack([by_row[index] for index in range(len(rows))]) for name, by_row in parts.items()
    }
    return {
        name: low_rank_approximation(gradients, rank) if rank else gradients
        for name, gradients in stacked.items()
    }


def low_rank_approximation(gradients_QOI: Tensor, rank: int) -> LowRank:
    """The best approximation of each gradient at a rank, by its singular values."""
    left, values, right = torch.linalg.svd(gradients_QOI, full_matrices=False)
    return LowRank(left[..., :rank] * values[:, None, :rank], right[:, :rank])


def full_gradients(gradients: Tensor | LowRank) -> Tensor:
    """Gradients as one tensor (Q, O, I)."""
    return gradients.full() if isinstance(gradients, LowRank) else gradients


def influence_by_layer(
    objective: Objective[Row],
    layers: Layers,
    queries: Queries,
    rows: Sequence[Row],
    *,
    tokens: int = 4096,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[list[int], Tensor]]:
    """(indices of rows, their influence on each query by layer (L, Q, B)), a batch at a time. With `dtype`
    bfloat16, rows pass through the model by autocast, and gradients are multiplied in it
    (docs/performance.md).
    """
    gradients = {name: full_gradients(gradients_QOI) for name, gradients_QOI in queries.items()}
    with frozen_parameters(objective.module):
        for batch in length_batches(objective, rows, tokens=tokens):
            losses = partial(objective.losses, [rows[index] for index in batch])
            passes = record_pass(layers, len(batch), losses, dtype=dtype)
            yield batch, torch.stack([_scored(gradients[name], layer) for name, layer in passes.items()])


def _scored(query_QOI: Tensor, layer: LayerPass) -> Tensor:
    """One layer's influence of each row on each query, (Q, B)."""
    rows, length, outputs = layer.gradients_BTO.shape
    if len(query_QOI) == 1 and length * 2 < outputs:  # without computing weight gradients
        return (layer.apply(query_QOI[0]) * layer.gradients_BTO).sum(dim=(1, 2), dtype=torch.float32)[None]
    influence_QB = query_QOI.new_empty(len(query_QOI), rows)
    for part, part_BOI in layer.weight_gradients():
        influence_QB[:, part] = query_QOI.flatten(1) @ part_BOI.flatten(1).T
    return influence_QB


def influence(
    objective: Objective[Row],
    layers: Layers,
    queries: Queries,
    rows: Sequence[Row],
    *,
    tokens: int = 4096,
    dtype: torch.dtype = torch.float32,
) -> np.ndarray:
    """The influence of every row on every query, (Q, N), summed over layers."""
    influences = np.zeros((len(full_gradients(next(iter(queries.values())))), len(rows)), dtype=np.float32)
    for batch, by_layer_LQB in influence_by_layer(
        objective, layers, queries, rows, tokens=tokens, dtype=dtype
    ):
        influences[:, batch] = by_layer_LQB.sum(dim=0).cpu().numpy()
    return influences


def influence_by_token(objective: Objective[Row], layers: Layers, queries: Queries, row: Row) -> Tensor:
    """The contribution of each token of a row to its influence, (L, Q, T). A token's contribution is through
    the layer's computation at it: in a language model, the prediction of the next token.
    """
    with frozen_parameters(objective.module):
        passes = record_pass(layers, 1, partial(objective.losses, [row]))
    return torch.stack(
        [
            torch.stack(
                [
                    (layer.apply(query_OI) * layer.gradients_BTO)[0].sum(dim=-1)
                    for query_OI in full_gradients(queries[name])
                ]
            )
            for name, layer in passes.items()
        ]
    )
