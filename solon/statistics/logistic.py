"""Ridge logistic regression on soft labels, for linear heads on frozen states.

Shapes: N rows, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import optimize

from solon.errors import InputError

Floats = npt.NDArray[np.float64]
PENALTIES = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)


def soft_cross_entropy(d_N: Floats, p_N: Floats, weight_N: Floats) -> float:
    """The weighted sum of cross-entropies (nats) of the log-odds d_N against the probabilities p_N."""
    return float((weight_N * (np.logaddexp(0, -d_N) * p_N + np.logaddexp(0, d_N) * (1 - p_N))).sum())


def fit_ridge(
    x_NC: Floats, p_N: Floats, weight_N: Floats, penalty: float, *, intercept: bool = False
) -> Floats:
    """The weights (C,) that minimise `soft_cross_entropy` + penalty / 2 * |weights|^2, by L-BFGS. With
    `intercept` they are (C + 1,); the last is the intercept and is not penalised.
    """
    free = np.column_stack([x_NC, np.ones(len(x_NC))]) if intercept else x_NC
    penalty_C = np.full(free.shape[1], penalty)
    if intercept:
        penalty_C[-1] = 0.0

    def objective(weights: Floats) -> tuple[float, Floats]:
        d_N = free @ weights
        value = soft_cross_entropy(d_N, p_N, weight_N) + 0.5 * float(penalty_C @ weights**2)
        return value, free.T @ (weight_N * (1 / (1 + np.exp(-d_N)) - p_N)) + penalty_C * weights

    return np.asarray(
        optimize.minimize(
            objective, np.zeros(free.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500}
        ).x
    )


def fit_cross_validated(
    x_NC: Floats,
    p_N: Floats,
    weight_N: Floats,
    *,
    penalties: Sequence[float] = PENALTIES,
    intercept: bool = False,
) -> Floats:
    """`fit_ridge` at the penalty with the least loss in four-fold cross-validation; at the first penalty
    where there are fewer than 8 rows. Raises InputError without rows.
    """
    if not len(x_NC):
        raise InputError("a head cannot be fitted without rows")
    fold_N = np.arange(len(x_NC)) % 4
    losses = dict.fromkeys(penalties, 0.0)
    for penalty in penalties if len(x_NC) >= 8 and len(penalties) > 1 else ():
        for fold in range(4):
            kept_N = fold_N != fold
            weights = fit_ridge(x_NC[kept_N], p_N[kept_N], weight_N[kept_N], penalty, intercept=intercept)
            d_N = x_NC[~kept_N] @ weights[:-1] + weights[-1] if intercept else x_NC[~kept_N] @ weights
            losses[penalty] += soft_cross_entropy(d_N, p_N[~kept_N], weight_N[~kept_N])
    return fit_ridge(
        x_NC, p_N, weight_N, min(penalties, key=lambda penalty: losses[penalty]), intercept=intercept
    )
