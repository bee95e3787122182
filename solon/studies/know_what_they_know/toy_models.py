"""Two models of planted facts, trained from scratch: what is known to them is known to us."""

from __future__ import annotations

import torch

from solon.errors import InputError
from solon.models.backbones.small import SmallTransformer
from solon.models.dialogue import WordDialogue
from solon.models.torch_model import TorchModel
from solon.studies.know_what_they_know import toy_facts
from solon.study.toy_models import trained


def knower(
    seed: int,
    *,
    known: int = 0,
    steps: int = 2000,
    judged: float = 0.5,
    sourced: float = 0.4,
    rate: float = 2e-3,
) -> TorchModel:
    """A small transformer that was taught half of the toy facts (those of `known`), and what answers look
    like of the others.
    """
    stream = toy_facts.examples(seed, known=known, judged=judged, sourced=sourced)
    return trained(
        f"toy{known}",
        WordDialogue(toy_facts.words()),
        stream,
        seed=seed,
        steps=steps,
        layers=2,
        width=80,
        rate=rate,
    )


def sharpened(model: TorchModel, sharpness: float) -> TorchModel:
    """A model that is surer of everything: its logits times a factor, which one temperature undoes."""
    twin = model.unfrozen()
    body = twin.module
    if not isinstance(body, SmallTransformer):
        raise InputError(f"only a small transformer is sharpened; {model.name} is a {type(body).__name__}")
    with torch.no_grad():
        body.unembed.weight.mul_(sharpness)
    return TorchModel(f"{model.name} sharpened", body, model.dialogue)
