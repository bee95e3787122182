"""Activations at named sites, recorded or changed by hooks that are removed at the end of the call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from solon.errors import InputError
from solon.models.backbones.backbone import Backbone, pad
from solon.models.base import Tokens


@contextmanager
def record_outputs(module: nn.Module, sites: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within the block, every forward pass stores each site's output (the first of several) in the yielded
    dict.

    Raises InputError on a site that does not exist; the message names some that do.
    """
    modules = _modules_at(module, sites)
    outputs: dict[str, Tensor] = {}

    def recorder(site: str) -> Any:
        def hook(owner: nn.Module, inputs: Any, output: Any) -> None:
            outputs[site] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [modules[site].register_forward_hook(recorder(site)) for site in sites]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def edit_output(module: nn.Module, site: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within the block, every forward pass continues with `change(output)` instead of a site's output (the
    first of several): ablation, steering, activation patching.

    Raises InputError on a site that does not exist.
    """

    def hook(owner: nn.Module, inputs: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    handle = _modules_at(module, [site])[site].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _modules_at(module: nn.Module, sites: Sequence[str]) -> dict[str, nn.Module]:
    known = dict(module.named_modules())
    unknown = [site for site in sites if site not in known]
    if unknown:
        raise InputError(
            f"no site {unknown[0]!r}; there are {len(known) - 1}, among them {', '.join(list(known)[1:6])}"
        )
    return known


def activations(backbone: Backbone, rows: Sequence[Tokens], sites: Sequence[str]) -> dict[str, Tensor]:
    """Each site's output (B, T, width) on one batch of rows, padded on the right, without gradients."""
    with torch.inference_mode(), record_outputs(backbone, sites) as outputs:
        backbone.hidden(pad(rows, backbone.device))
    return {site: outputs[site] for site in sites}


def layer_sites(backbone: Backbone) -> list[str]:
    """The sites of the layers, first to last; their outputs are the residual stream after each layer. Raises
    InputError where the backbone has no list of its layers.
    """
    names = {module: name for name, module in backbone.named_modules()}
    for module in backbone.modules():
        if isinstance(module, nn.ModuleList) and len(module) == backbone.depth:
            return [names[layer] for layer in module]
    raise InputError(f"no list of {backbone.depth} layers found in {type(backbone).__name__}")


# names of the norm before the head
NORMS = ("final_norm", "norm", "ln_f", "final_layernorm", "final_layer_norm")


def direct_logit_attribution(backbone: Backbone, directions_ND: Tensor) -> Tensor:
    """What directions (N, C) in the residual stream add to the logits (N, V) directly, through the final norm
    and the head.

    Correct up to one factor for each direction: the norm divides by a length that depends on the rest of the
    stream. Raises InputError where the norm has an unknown name.
    """
    norms = [
        norm
        for part in (backbone, backbone.trunk)
        for name in NORMS
        if isinstance(norm := getattr(part, name, None), nn.Module)
    ]
    if not norms:
        raise InputError(f"no norm before the head of {type(backbone).__name__} among {', '.join(NORMS)}")
    with torch.inference_mode():
        rows = torch.cat([directions_ND, torch.zeros_like(directions_ND[:1])]).to(
            backbone.device, next(backbone.parameters()).dtype
        )
        logits = backbone.logits(norms[0](rows)).float()
    return logits[:-1] - logits[-1]
