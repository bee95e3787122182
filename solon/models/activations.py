"""What a model computed at named sites, read by hooks that never outlive the call."""

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
    """Within the block, every forward pass puts each site's output (the first, where there are several) in
    the dict.

    Raises InputError on a site that does not exist, naming some that do.
    """
    known = _known(module, sites)
    kept: dict[str, Tensor] = {}

    def keep(site: str) -> Any:
        def hook(owner: nn.Module, given: Any, output: Any) -> None:
            kept[site] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [known[site].register_forward_hook(keep(site)) for site in sites]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def edit_output(module: nn.Module, site: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within the block, every forward pass goes on from `change(output)` of a site instead of its output (the
    first, where there are several).

    Raises InputError on a site that does not exist.
    """

    def hook(owner: nn.Module, given: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    handle = _known(module, [site])[site].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _known(module: nn.Module, sites: Sequence[str]) -> dict[str, nn.Module]:
    known = dict(module.named_modules())
    unknown = [site for site in sites if site not in known]
    if unknown:
        raise InputError(
            f"no site {unknown[0]!r}; there are {len(known) - 1}, among them {', '.join(list(known)[1:6])}"
        )
    return known


def activations(body: Backbone, rows: Sequence[Tokens], sites: Sequence[str]) -> dict[str, Tensor]:
    """Each site's output (B, T, width) on one batch of rows, padded on the right; no gradients."""
    with torch.inference_mode(), record_outputs(body, sites) as kept:
        body.hidden(pad(rows, body.device))
    return {site: kept[site] for site in sites}


def layer_sites(body: Backbone) -> list[str]:
    """The sites of a body's layers, whose outputs are the residual stream after each."""
    names = {module: name for name, module in body.named_modules()}
    for module in body.modules():
        if isinstance(module, nn.ModuleList) and len(module) == body.depth:
            return [names[layer] for layer in module]
    raise InputError(f"no list of {body.depth} layers found in {type(body).__name__}")


# what architectures call the norm before the head
NORMS = ("final_norm", "norm", "ln_f", "final_layernorm", "final_layer_norm")


def direct_logit_attribution(body: Backbone, directions_ND: Tensor) -> Tensor:
    """What directions in the residual stream add to the logits straight through the final norm and the head,
    (N, V), up to one factor for each direction: the norm divides by a length that depends on the rest of the
    stream. Raises InputError where the norm is not found.
    """
    found = [
        own
        for part in (body, body.trunk)
        for name in NORMS
        if isinstance(own := getattr(part, name, None), nn.Module)
    ]
    if not found:
        raise InputError(f"no norm before the head of {type(body).__name__} among {', '.join(NORMS)}")
    with torch.inference_mode():
        rows = torch.cat([directions_ND, torch.zeros_like(directions_ND[:1])]).to(
            body.device, next(body.parameters()).dtype
        )
        logits = body.logits(found[0](rows)).float()
    return logits[:-1] - logits[-1]
