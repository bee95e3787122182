"""What linear layers took in and what a loss says of what they gave out: all that curvature and influence
need.

Shapes: B rows, T tokens of a row (all of its sequences, one after another), C inputs, I inputs and one more
that is always 1 where there is a bias, O outputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solon.errors import InputError

Layers = Mapping[str, nn.Linear]
# bytes of rows' gradients by a layer's weights that exist at once: memory in use, not asked for anew
PRODUCTS = 16 * 2**20
FEWEST = 8  # rows of them, so that queries are not read again for every row
# they see only the positions that are scored, of all rows together
HEADS = ("unembed", "lm_head", "embed_out")


@dataclass(frozen=True, slots=True)
class LayerPass:
    """One layer in one batch: its inputs (B, T, C) and the gradient of each row's own loss by its outputs (B,
    T, O). The gradient of a row by the layer's weights is their product, summed over tokens; with `bias`,
    that by the bias is its last column. Where both are bfloat16, products are rounded to it.
    """

    inputs_BTC: Tensor
    gradients_BTO: Tensor
    bias: bool = False

    @property
    def input_size(self) -> int:
        """I."""
        return self.inputs_BTC.shape[-1] + self.bias

    def weight_gradients(self) -> Iterator[tuple[slice, Tensor]]:
        """(places of rows, their gradients (B, O, I) in float32), as many rows at a time as take `PRODUCTS`
        bytes and `FEWEST` at least, each time in the same memory: what was given is gone when the next is
        asked for.
        """
        rows, _, inputs = self.inputs_BTC.shape
        outputs = self.gradients_BTO.shape[-1]
        step = min(rows, max(FEWEST, PRODUCTS // (4 * outputs * self.input_size)))
        room_BOI = self.inputs_BTC.new_empty((step, outputs, self.input_size), dtype=torch.float32)
        for start in range(0, rows, step):
            own = slice(start, min(start + step, rows))
            found_BOI = room_BOI[: own.stop - start]
            by_output_BOT = self.gradients_BTO[own].transpose(1, 2)
            if self.inputs_BTC.dtype is torch.float32:
                torch.bmm(by_output_BOT, self.inputs_BTC[own], out=found_BOI[..., :inputs])
            else:
                found_BOI[..., :inputs] = torch.bmm(by_output_BOT, self.inputs_BTC[own])
            if self.bias:
                found_BOI[..., inputs] = by_output_BOT.sum(dim=-1, dtype=torch.float32)
            yield own, found_BOI

    def to(self, dtype: torch.dtype) -> LayerPass:
        return LayerPass(self.inputs_BTC.to(dtype), self.gradients_BTO.to(dtype), self.bias)

    def apply(self, weights_OI: Tensor) -> Tensor:
        """What other weights make of the inputs, (B, T, O)."""
        inputs = self.inputs_BTC.shape[-1]
        weights_OI = weights_OI.to(self.inputs_BTC.dtype)
        return F.linear(self.inputs_BTC, weights_OI[:, :inputs], weights_OI[:, inputs] if self.bias else None)

    def rotate(self, basis_II: Tensor, basis_OO: Tensor) -> LayerPass:
        """The same in bases of inputs and outputs."""
        return LayerPass(self.apply(basis_II.T), self.gradients_BTO @ basis_OO.to(self.gradients_BTO.dtype))


def linear_layers(module: nn.Module, wanted: Sequence[str] = ()) -> dict[str, nn.Linear]:
    """Every Linear layer whose name holds one of the words wanted (all but heads over a vocabulary where
    nothing is wanted), by name.

    Raises InputError where a word is in no name, and where there is no Linear layer; both list what there is.
    """
    known = {name: own for name, own in module.named_modules() if isinstance(own, nn.Linear)}
    if not known:
        kinds = sorted({type(own).__name__ for own in module.modules()})
        raise InputError(
            f"{type(module).__name__} has no Linear layer to attribute to; it is made of {', '.join(kinds)}"
        )
    for word in wanted:
        if not any(word in name for name in known):
            forms = dict.fromkeys(re.sub(r"\d+", "N", name) for name in known)
            raise InputError(
                f"no Linear layer's name holds {word!r}; there are {', '.join(forms)}, with numbers for N"
            )
    return {
        name: own
        for name, own in known.items()
        if (any(word in name for word in wanted) if wanted else not name.endswith(HEADS))
    }


@contextmanager
def frozen_parameters(module: nn.Module) -> Iterator[None]:
    """Within the block no parameter takes a gradient, so that a backward pass computes those of activations
    alone.
    """
    before = [parameter.requires_grad for parameter in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, own in zip(module.parameters(), before, strict=True):
            parameter.requires_grad_(own)


def record_pass(
    layers: Layers, rows: int, losses: Callable[[], Tensor], *, dtype: torch.dtype = torch.float32
) -> dict[str, LayerPass]:
    """One forward and one backward pass of the losses (B,) of `rows` rows, through frozen parameters,
    computed by autocast where `dtype` is bfloat16. A row may be several sequences, which then stand side by
    side in the batch; a layer that is called more than once has all its calls one after another.

    Raises InputError where a loss is not finite, and where a layer took no part.
    """
    kept: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}

    def keep(name: str) -> Any:
        def hook(owner: nn.Module, given: Any, output: Tensor) -> Tensor:
            output = output if output.requires_grad else output.detach().requires_grad_()
            kept[name].append((given[0].detach(), output))
            return output

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    try:
        kind = next(iter(layers.values())).weight.device.type
        with torch.enable_grad(), torch.autocast(kind, torch.bfloat16, enabled=dtype is torch.bfloat16):
            found_B = losses()
    finally:
        for handle in handles:
            handle.remove()
    if len(found_B) != rows or not torch.isfinite(found_B).all():
        raise InputError(f"{rows} rows need {rows} finite losses; found {found_B.tolist()!r:.200}")
    silent = [name for name, calls in kept.items() if not calls]
    if silent:
        raise InputError(f"the layer {silent[0]!r} takes no part in the loss")
    flat = [output for calls in kept.values() for _, output in calls]
    gradients = iter(torch.autograd.grad(found_B.sum(), flat, allow_unused=True, materialize_grads=True))
    found = {}
    for name, calls in kept.items():
        if any(len(given) % rows or (given.ndim == 2 and len(given) != rows) for given, _ in calls):
            raise InputError(
                f"the layer {name!r} does not see rows apart (is it an output head?); leave it out"
            )
        inputs_BTC = _rows([given for given, _ in calls], rows, dtype)
        found[name] = LayerPass(
            inputs_BTC, _rows([next(gradients) for _ in calls], rows, dtype), layers[name].bias is not None
        )
    return found


def _rows(calls: Sequence[Tensor], rows: int, dtype: torch.dtype) -> Tensor:
    """(B, T, width), of whatever stands before the width, calls one after another."""
    flat = [own.reshape(rows, -1, own.shape[-1]).to(dtype) for own in calls]
    return flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)
