"""Inputs and output gradients of linear layers, from which curvature and influence are computed.

Shapes: B rows, T tokens of a row (all of its sequences in order), C inputs, I inputs plus a constant 1 where
there is a bias, O outputs.
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
# bytes of rows' weight gradients that are computed at once, into one buffer
PRODUCTS = 16 * 2**20
FEWEST = 8  # rows at once, so that queries are not read again for every row
# output heads see the scored positions of all rows together
HEADS = ("unembed", "lm_head", "embed_out")


@dataclass(frozen=True, slots=True)
class LayerPass:
    """One layer in one batch: its inputs (B, T, C), and the gradient of each row's loss with respect to its
    outputs (B, T, O). A row's weight gradient is their product summed over tokens, with the bias gradient as
    its last column where there is a `bias`. Where both are bfloat16, products are rounded to it.
    """

    inputs_BTC: Tensor
    gradients_BTO: Tensor
    bias: bool = False

    @property
    def input_size(self) -> int:
        """I: the inputs, plus one where there is a bias."""
        return self.inputs_BTC.shape[-1] + self.bias

    def weight_gradients(self) -> Iterator[tuple[slice, Tensor]]:
        """(slice of rows, their weight gradients (B, O, I) in float32), as many rows at a time as take
        `PRODUCTS` bytes and at least `FEWEST`. All use one buffer: the next iteration overwrites the last.
        """
        rows, _, inputs = self.inputs_BTC.shape
        outputs = self.gradients_BTO.shape[-1]
        step = min(rows, max(FEWEST, PRODUCTS // (4 * outputs * self.input_size)))
        room_BOI = self.inputs_BTC.new_empty((step, outputs, self.input_size), dtype=torch.float32)
        for start in range(0, rows, step):
            part = slice(start, min(start + step, rows))
            found_BOI = room_BOI[: part.stop - start]
            by_output_BOT = self.gradients_BTO[part].transpose(1, 2)
            if self.inputs_BTC.dtype is torch.float32:
                torch.bmm(by_output_BOT, self.inputs_BTC[part], out=found_BOI[..., :inputs])
            else:
                found_BOI[..., :inputs] = torch.bmm(by_output_BOT, self.inputs_BTC[part])
            if self.bias:
                found_BOI[..., inputs] = by_output_BOT.sum(dim=-1, dtype=torch.float32)
            yield part, found_BOI

    def to(self, dtype: torch.dtype) -> LayerPass:
        """The same pass in another dtype."""
        return LayerPass(self.inputs_BTC.to(dtype), self.gradients_BTO.to(dtype), self.bias)

    def apply(self, weights_OI: Tensor) -> Tensor:
        """Other weights (O, I) applied to the inputs, (B, T, O)."""
        inputs = self.inputs_BTC.shape[-1]
        weights_OI = weights_OI.to(self.inputs_BTC.dtype)
        return F.linear(self.inputs_BTC, weights_OI[:, :inputs], weights_OI[:, inputs] if self.bias else None)

    def rotate(self, basis_II: Tensor, basis_OO: Tensor) -> LayerPass:
        """The pass in bases of inputs and outputs."""
        return LayerPass(self.apply(basis_II.T), self.gradients_BTO @ basis_OO.to(self.gradients_BTO.dtype))


def linear_layers(module: nn.Module, words: Sequence[str] = ()) -> dict[str, nn.Linear]:
    """The Linear layers whose names contain one of `words`, by name; without words all but output heads.

    Raises InputError where a word is in no name, and where there is no Linear layer, with a list of what
    there is.
    """
    known = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    if not known:
        kinds = sorted({type(submodule).__name__ for submodule in module.modules()})
        raise InputError(
            f"{type(module).__name__} has no Linear layer to attribute to; it is made of {', '.join(kinds)}"
        )
    for word in words:
        if not any(word in name for name in known):
            forms = dict.fromkeys(re.sub(r"\d+", "N", name) for name in known)
            raise InputError(
                f"no Linear layer's name holds {word!r}; there are {', '.join(forms)}, with numbers for N"
            )
    return {
        name: layer
        for name, layer in known.items()
        if (any(word in name for word in words) if words else not name.endswith(HEADS))
    }


@contextmanager
def frozen_parameters(module: nn.Module) -> Iterator[None]:
    """Within the block no parameter takes a gradient, so that a backward pass computes only those of
    activations.
    """
    before = [parameter.requires_grad for parameter in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, required in zip(module.parameters(), before, strict=True):
            parameter.requires_grad_(required)


def record_pass(
    layers: Layers, rows: int, losses: Callable[[], Tensor], *, dtype: torch.dtype = torch.float32
) -> dict[str, LayerPass]:
    """One forward and backward pass of the losses (B,) of `rows` rows, with frozen parameters, by autocast
    where `dtype` is bfloat16. A row may be several neighbouring sequences of the batch; the calls of a layer
    that is called more than once are concatenated.

    Raises InputError where a loss is not finite, a layer takes no part in the loss, or a layer does not see
    rows separately.
    """
    calls_of: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}

    def keep(name: str) -> Any:
        def hook(owner: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            output = output if output.requires_grad else output.detach().requires_grad_()
            calls_of[name].append((inputs[0].detach(), output))
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
    silent = [name for name, calls in calls_of.items() if not calls]
    if silent:
        raise InputError(f"the layer {silent[0]!r} takes no part in the loss")
    flat = [output for calls in calls_of.values() for _, output in calls]
    gradients = iter(torch.autograd.grad(found_B.sum(), flat, allow_unused=True, materialize_grads=True))
    passes = {}
    for name, calls in calls_of.items():
        if any(len(inputs) % rows or (inputs.ndim == 2 and len(inputs) != rows) for inputs, _ in calls):
            raise InputError(
                f"the layer {name!r} does not see rows apart (is it an output head?); leave it out"
            )
        inputs_BTC = _rows([inputs for inputs, _ in calls], rows, dtype)
        passes[name] = LayerPass(
            inputs_BTC, _rows([next(gradients) for _ in calls], rows, dtype), layers[name].bias is not None
        )
    return passes


def _rows(calls: Sequence[Tensor], rows: int, dtype: torch.dtype) -> Tensor:
    """Calls' tensors as one (B, T, width), concatenated over T."""
    flat = [call.reshape(rows, -1, call.shape[-1]).to(dtype) for call in calls]
    return flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)
