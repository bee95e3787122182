"""What a model computed at named sites, read by hooks that never outlive the call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from solon.errors import InputError
from solon.models.base import Tokens
from solon.models.body import Body, pad


@contextmanager
def recorded(module: nn.Module, sites: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within the block, every forward pass puts each site's output (the first, where there are several) in the dict.

    Raises InputError on a site that does not exist, naming some that do.
    """
    known = dict(module.named_modules())
    unknown = [site for site in sites if site not in known]
    if unknown:
        raise InputError(f"no site {unknown[0]!r}; there are {len(known) - 1}, among them {', '.join(list(known)[1:6])}")
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


def activations(body: Body, rows: Sequence[Tokens], sites: Sequence[str]) -> dict[str, Tensor]:
    """Each site's output (B, T, width) on one batch of rows, padded on the right; no gradients."""
    with torch.inference_mode(), recorded(body, sites) as kept:
        body.hidden(pad(rows, body.device))
    return {site: kept[site] for site in sites}


def layers_of(body: Body) -> list[str]:
    """The sites of a body's layers, whose outputs are the residual stream after each."""
    names = {module: name for name, module in body.named_modules()}
    for module in body.modules():
        if isinstance(module, nn.ModuleList) and len(module) == body.depth:
            return [names[layer] for layer in module]
    raise InputError(f"no list of {body.depth} layers found in {type(body).__name__}")
