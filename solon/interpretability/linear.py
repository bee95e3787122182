"""What linear layers took in and what a loss says of what they gave out: all that curvature and influence need.

Shapes: B rows, T tokens of a row (all of its sequences, one after another), I inputs (+ 1 that is always 1, where there is a bias), O outputs.
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
HEADS = ("unembed", "lm_head", "embed_out")  # they see only the positions that are scored, of all rows together


@dataclass(frozen=True, slots=True)
class Passed:
    """One layer in one batch: its inputs (B, T, I) and the gradient of each row's own loss by its outputs (B, T, O). The gradient of a row by
    the layer's weights is their product, summed over tokens.
    """

    inputs_BTI: Tensor
    gradients_BTO: Tensor

    @property
    def weight_gradients(self) -> Tensor:
        """(B, O, I)."""
        return torch.bmm(self.gradients_BTO.transpose(1, 2), self.inputs_BTI)


def linear_layers(module: nn.Module, wanted: Sequence[str] = ()) -> dict[str, nn.Linear]:
    """Every Linear layer whose name holds one of the words wanted (all but heads over a vocabulary where nothing is wanted), by name.

    Raises InputError where a word is in no name, and where there is no Linear layer; both list what there is.
    """
    known = {name: own for name, own in module.named_modules() if isinstance(own, nn.Linear)}
    if not known:
        kinds = sorted({type(own).__name__ for own in module.modules()})
        raise InputError(f"{type(module).__name__} has no Linear layer to attribute to; it is made of {', '.join(kinds)}")
    for word in wanted:
        if not any(word in name for name in known):
            forms = dict.fromkeys(re.sub(r"\d+", "N", name) for name in known)
            raise InputError(f"no Linear layer's name holds {word!r}; there are {', '.join(forms)}, with numbers for N")
    return {name: own for name, own in known.items() if (any(word in name for word in wanted) if wanted else not name.endswith(HEADS))}


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within the block no parameter takes a gradient, so that a backward pass computes those of activations alone."""
    before = [parameter.requires_grad for parameter in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, own in zip(module.parameters(), before, strict=True):
            parameter.requires_grad_(own)


def passed(layers: Layers, rows: int, losses: Callable[[], Tensor]) -> dict[str, Passed]:
    """One forward and one backward pass of the losses (B,) of `rows` rows, through frozen parameters. A row may be several sequences, which then
    stand side by side in the batch; a layer that is called more than once has all its calls one after another.

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
        with torch.enable_grad():
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
            raise InputError(f"the layer {name!r} does not see rows apart (is it an output head?); leave it out")
        inputs = torch.cat([_rows(given, rows) for given, _ in calls], dim=1)
        by_output = torch.cat([_rows(next(gradients), rows) for _ in calls], dim=1)
        if layers[name].bias is not None:
            inputs = F.pad(inputs, (0, 1), value=1.0)
        found[name] = Passed(inputs.float(), by_output.float())
    return found


def _rows(tensor: Tensor, rows: int) -> Tensor:
    """(B, T, width), of whatever stands before the width."""
    return tensor.reshape(rows, -1, tensor.shape[-1])
