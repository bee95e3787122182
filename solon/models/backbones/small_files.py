"""A small transformer as a folder: solon.json (its shape and vocabulary) and model.safetensors."""

from __future__ import annotations

import json
from pathlib import Path

from solon.errors import InputError
from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.dialogue import WordDialogue
from solon.models.torch_model import TorchModel
from solon.models.weights import load_tensors, save_tensors

CONFIG_FILE = "solon.json"


def save_small(model: TorchModel, folder: Path) -> None:
    """Write a small transformer with a word vocabulary. Raises InputError on any other model."""
    backbone, dialogue = model.merged().module, model.dialogue
    if not isinstance(backbone, SmallTransformer) or not isinstance(dialogue, WordDialogue):
        raise InputError(
            f"{model.name} is no small transformer with a word vocabulary; use huggingface.export"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(
        json.dumps({"shape": backbone.shape.as_dict(), "words": dialogue.words}) + "\n"
    )
    save_tensors(backbone.state_dict(), folder / "model.safetensors")


def load_small(folder: Path) -> TorchModel:
    """Read a folder that `save_small` wrote. Raises InputError where it is not one."""
    try:
        raw = json.loads((folder / CONFIG_FILE).read_text())
        backbone = SmallTransformer(Shape(**raw["shape"]), seed=0)
        backbone.load_state_dict(load_tensors(folder / "model.safetensors"))
        return TorchModel(folder.name, backbone, WordDialogue(tuple(raw["words"])), source=str(folder))
    except (KeyError, TypeError, json.JSONDecodeError, RuntimeError) as error:
        raise InputError(f"{folder} is not a small transformer's folder: {error}") from error
