"""Load a model by name: an embedded one, a folder, a hub id, or the address of a server."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch

from solon.errors import InputError
from solon.models.backbones.small_files import CONFIG_FILE, load_small
from solon.models.base import Speaker
from solon.models.embedded import PACKAGES, home, load_embedded
from solon.models.huggingface import load_huggingface
from solon.models.remote import RemoteModel
from solon.models.torch_model import TorchModel

PRECISIONS = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


def load_open(
    name: str, *, precision: str = "auto", say: Callable[[str], None] = lambda words: None
) -> TorchModel:
    """A model with its weights in this process. `precision` is auto (the faster one), float32 or bfloat16;
    `say` is called before each slow step.

    Raises InputError where there is no such model.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}; found {precision!r}")
    if name in PACKAGES:
        return load_embedded(name, precision=PRECISIONS[precision], say=say)
    if name.startswith(("http://", "https://")):
        raise InputError(
            f"{name} is a server; its weights are needed. Give a folder, a hub id or one of "
            f"{', '.join(PACKAGES)}"
        )
    if (Path(name) / CONFIG_FILE).exists():
        return load_small(Path(name))
    near = difflib.get_close_matches(name, PACKAGES, n=1, cutoff=0.75)
    if near and not Path(name).exists():
        raise InputError(f"there is no model {name!r}; did you mean {near[0]}?")
    return load_huggingface(name, precision=PRECISIONS[precision])


def load_speaker(
    name: str, *, precision: str = "auto", say: Callable[[str], None] = lambda words: None
) -> Speaker:
    """Any model that replies: as `load_open`, or `http://host:port/v1#model` for an OpenAI-compatible server,
    or `vllm:FOLDER`.

    Raises InputError where there is no such model, or vLLM is not installed.
    """
    if name.startswith("vllm:"):
        if importlib.util.find_spec("vllm") is None:
            raise InputError(f"{name} needs vLLM: pip install 'solon[vllm]' on a machine with an accelerator")
        model: Speaker = importlib.import_module("solon.models.vllm").load_vllm(
            Path(name.removeprefix("vllm:"))
        )
        return model
    if name.startswith(("http://", "https://")):
        address, _, served = name.partition("#")
        if not served:
            raise InputError(f"name the model on that server after a #, as in {address}#model-name")
        return RemoteModel(address, served, cache=home() / "replies")
    return load_open(name, precision=precision, say=say)
