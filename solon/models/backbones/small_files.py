"""A small transformer as a folder: solon.json (its shape and words) beside model.safetensors."""

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
    """Write a small transformer that speaks a word vocabulary. Raises InputError on any other model."""
    body, dialogue = model.merged().module, model.dialogue
    if not isinstance(body, SmallTransformer) or not isinstance(dialogue, WordDialogue):
        raise InputError(
            f"{model.name} is no small transformer with a word vocabulary; use huggingface.export"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(
        json.dumps({"shape": body.shape.as_dict(), "words": dialogue.words}) + "\n"
    )
    save_tensors(body.state_dict(), folder / "model.safetensors")


def load_small(folder: Path) -> TorchModel:
    try:
        raw = json.loads((folder / CONFIG_FILE).read_text())
        body = SmallTransformer(Shape(**raw["shape"]), seed=0)
        body.load_state_dict(load_tensors(folder / "model.safetensors"))
        return TorchModel(folder.name, body, WordDialogue(tuple(raw["words"])), source=str(folder))
    except (KeyError, TypeError, json.JSONDecodeError, RuntimeError) as error:
        raise InputError(f"{folder} is not a small transformer's folder: {error}") from error
