"""Which training rows made something likelier: influence functions on linear layers (Grosse et al. 2023,
arXiv:2308.03296).

The influence of a training row z on a query q is  grad L(q)^T (G + damping)^-1 grad L(z),  with G from
`curvature`: how fast the query's log-likelihood (minus its loss L, nats) rises as the row's weight in the
mean training loss rises (equations 9 and 25). Positive: adding the row makes the query likelier. Layers add
up to the whole (equation 30), and so do tokens (equation 31).

Shapes: Q queries, B rows, T tokens, I inputs and one more that is always 1 where there is a bias, O outputs,
R rank, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
        return self.left_QOR @ self.right_QRI


Queries = Mapping[str, Tensor | LowRank]  # of each layer, (Q, O, I)


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
    """Each query's gradient through (G + damping)^-1, layer by layer, in the order given. With `rank`, its
    best approximation of that rank, which takes R (O + I) numbers instead of O I (the paper uses 32).

    Raises InputError without queries, on a rank above a layer's dimensions, and where factors are of other
    layers.
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
            some = [rows[place] for place in batch]
            for name, own in record_pass(layers, len(some), lambda some=some: objective.losses(some)).items():  # type: ignore[misc]
                solved_BOI = factors[name].precondition(own, method=method, damping=damping)
                parts[name] |= dict(zip(batch, solved_BOI, strict=True))
    stacked = {name: torch.stack([own[place] for place in range(len(rows))]) for name, own in parts.items()}
    return {name: low_rank_approximation(own, rank) if rank else own for name, own in stacked.items()}


def low_rank_approximation(gradients_QOI: Tensor, rank: int) -> LowRank:
    """The best approximation of each, by its singular values."""
    left, values, right = torch.linalg.svd(gradients_QOI, full_matrices=False)
    return LowRank(left[..., :rank] * values[:, None, :rank], right[:, :rank])


def full_gradients(own: Tensor | LowRank) -> Tensor:
    return own.full() if isinstance(own, LowRank) else own


def influence_by_layer(
    objective: Objective[Row],
    layers: Layers,
    asked: Queries,
    rows: Sequence[Row],
    *,
    tokens: int = 4096,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[list[int], Tensor]]:
    """(places of rows, their influence on each query by layer (L, Q, B), layers in their order), a batch at a
    time: sum over L for the whole. In the `dtype` bfloat16 rows pass through the model by autocast and their
    gradients are multiplied in it (docs/performance.md has what that changes).
    """
    known = {name: full_gradients(own) for name, own in asked.items()}
    with frozen_parameters(objective.module):
        for batch in length_batches(objective, rows, tokens=tokens):
            some = [rows[place] for place in batch]
            found = record_pass(layers, len(some), lambda some=some: objective.losses(some), dtype=dtype)  # type: ignore[misc]
            yield batch, torch.stack([_scored(known[name], own) for name, own in found.items()])


def _scored(asked_QOI: Tensor, own: LayerPass) -> Tensor:
    """(Q, B)"""
    rows, length, outputs = own.gradients_BTO.shape
    if len(asked_QOI) == 1 and length * 2 < outputs:  # the gradients by weights are never made
        return (own.apply(asked_QOI[0]) * own.gradients_BTO).sum(dim=(1, 2), dtype=torch.float32)[None]
    found_QB = asked_QOI.new_empty(len(asked_QOI), rows)
    for places, part_BOI in own.weight_gradients():
        found_QB[:, places] = asked_QOI.flatten(1) @ part_BOI.flatten(1).T
    return found_QB


def influence(
    objective: Objective[Row],
    layers: Layers,
    asked: Queries,
    rows: Sequence[Row],
    *,
    tokens: int = 4096,
    dtype: torch.dtype = torch.float32,
) -> np.ndarray:
    """The influence of every row on every query, (Q, N), all layers together."""
    found = np.zeros((len(full_gradients(next(iter(asked.values())))), len(rows)), dtype=np.float32)
    for batch, by_layer_LQB in influence_by_layer(objective, layers, asked, rows, tokens=tokens, dtype=dtype):
        found[:, batch] = by_layer_LQB.sum(dim=0).cpu().numpy()
    return found


def influence_by_token(objective: Objective[Row], layers: Layers, asked: Queries, row: Row) -> Tensor:
    """What each token of a row adds to its influence, (L, Q, T). A token's part is of what was computed at
    it: of a language model, the prediction of the token after it.
    """
    with frozen_parameters(objective.module):
        found = record_pass(layers, 1, lambda: objective.losses([row]))
    return torch.stack(
        [
            torch.stack(
                [
                    (own.apply(asked_OI) * own.gradients_BTO)[0].sum(dim=-1)
                    for asked_OI in full_gradients(asked[name])
                ]
            )
            for name, own in found.items()
        ]
    )
