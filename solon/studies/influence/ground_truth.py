"""What influence functions stand for, computed without their approximations, on models small enough: the
whole Gauss-Newton matrix, and the proximal Bregman response function that is their exact target (Bae et al.
2022; Grosse et al. 2023, arXiv:2308.03296, equations 7 to 9).

Shapes: N examples, C inputs, V classes, P parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import optimize
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from solon.errors import InputError

MOST = 20_000  # parameters of which a dense matrix is made


@dataclass(frozen=True, slots=True)
class Classifier:
    """A classifier's Linear layers as one vector of parameters in fp64, in the layers' order, each layer's
    weights (O, I) with the bias last.
    """

    module: nn.Module
    layers: tuple[str, ...]

    def start(self) -> Tensor:
        """The parameters as they are, (P,)."""
        return self.flatten(dict(self.module.named_parameters()))

    def flatten(self, named: Mapping[str, Tensor]) -> Tensor:
        """Named parameters as one vector, (P,)."""
        parts = []
        for name in self.layers:
            weight, bias = named[f"{name}.weight"], named.get(f"{name}.bias")
            parts.append(
                (weight if bias is None else torch.cat([weight, bias[:, None]], dim=1)).reshape(-1).double()
            )
        return torch.cat(parts)

    def sizes(self) -> list[tuple[int, int]]:
        """(O, I) of each layer, I with the bias."""
        named = dict(self.module.named_parameters())
        weights = [(named[f"{name}.weight"], f"{name}.bias" in named) for name in self.layers]
        return [(weight.shape[0], weight.shape[1] + has_bias) for weight, has_bias in weights]

    def logits(self, theta_P: Tensor, inputs_NC: Tensor) -> Tensor:
        """Logits at parameters, (N, V)."""
        named: dict[str, Tensor] = {}
        start = 0
        for name, (outputs, inputs) in zip(self.layers, self.sizes(), strict=True):
            matrix = theta_P[start : start + outputs * inputs].view(outputs, inputs)
            if self.module.get_submodule(name).bias is None:
                named[f"{name}.weight"] = matrix
            else:
                named |= {f"{name}.weight": matrix[:, :-1], f"{name}.bias": matrix[:, -1]}
            start += outputs * inputs
        return torch.as_tensor(functional_call(self.module, named, (inputs_NC,)))


def gauss_newton(model: Classifier, inputs_NC: Tensor) -> Tensor:
    """G = (1/N) sum J^T (diag(p) - p p^T) J over examples, (P, P), exact."""
    theta_P = model.start()
    if len(theta_P) > MOST:
        raise InputError(f"a dense matrix of {len(theta_P)} parameters is too large; at most {MOST}")
    inputs_NC = inputs_NC.double()
    jacobian_NVP = vmap(jacrev(lambda theta, row: model.logits(theta, row[None])[0]), in_dims=(None, 0))(
        theta_P, inputs_NC
    )
    p_NV = model.logits(theta_P, inputs_NC).softmax(dim=-1).detach()
    centred_NVP = jacobian_NVP - (p_NV[..., None] * jacobian_NVP).sum(dim=1, keepdim=True)
    scaled = (p_NV.sqrt()[..., None] * centred_NVP).flatten(0, 1)
    return torch.as_tensor(scaled.T @ scaled / len(inputs_NC)).detach()


def block_diagonal(matrix_PP: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """The same with nothing between layers."""
    kept, start = torch.zeros_like(matrix_PP), 0
    for outputs, inputs in sizes:
        span = slice(start, start + outputs * inputs)
        kept[span, span] = matrix_PP[span, span]
        start += outputs * inputs
    return kept


def gradients(model: Classifier, inputs_NC: Tensor, labels_N: Tensor) -> Tensor:
    """Each example's gradient of its loss, (N, P)."""

    def loss(theta: Tensor, row: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(model.logits(theta, row[None]), label[None])

    gradients_NP: Tensor = vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(
        model.start(), inputs_NC.double(), labels_N
    )
    return gradients_NP.detach()


def response(
    model: Classifier,
    inputs_NC: Tensor,
    example: tuple[Tensor, int],
    *,
    weight: float,
    damping_P: Tensor,
    diagonal_P: Tensor,
    steps: int = 500,
) -> Tensor:
    """The parameters (P,) that minimise  mean KL(p_start || p) + weight * loss(example) + 1/2 sum damping
    (theta - start)^2  (the proximal Bregman objective), by L-BFGS in coordinates scaled by 1 / sqrt(diagonal
    of G + damping). Raises InputError where it does not arrive.
    """
    start_P, inputs_NC = model.start().detach(), inputs_NC.double()
    before_NV = model.logits(start_P, inputs_NC).log_softmax(dim=-1).detach()
    scale_P = (diagonal_P + damping_P).rsqrt()
    input_1C, label = example[0].double()[None], torch.tensor([example[1]])

    def objective(shift: np.ndarray) -> tuple[float, np.ndarray]:
        z_P = torch.tensor(shift, requires_grad=True)
        theta_P = start_P + scale_P * z_P
        divergence = F.kl_div(
            model.logits(theta_P, inputs_NC).log_softmax(dim=-1),
            before_NV,
            log_target=True,
            reduction="batchmean",
        )
        value = (
            divergence
            + weight * F.cross_entropy(model.logits(theta_P, input_1C), label)
            + 0.5 * (damping_P * (scale_P * z_P) ** 2).sum()
        )
        (slope_P,) = torch.autograd.grad(value, z_P)
        return float(value.detach()), slope_P.numpy()

    found = optimize.minimize(
        objective,
        np.zeros(len(start_P)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": steps, "gtol": 1e-12, "ftol": 1e-18, "maxcor": 20},
    )
    if not np.isfinite(found.fun):
        raise InputError(f"the response to one example was not found: {found.message}")
    return start_P + scale_P * torch.tensor(found.x)
