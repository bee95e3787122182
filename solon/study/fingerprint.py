"""What names a run: one value for everything that decides its numbers, whatever the inputs are made of.

`fingerprint(inputs)` goes through a study's inputs field by field: models by their weights, tokenizer and
template, files by their bytes, words by their content. A function has no content that could be read, so one
that decides numbers is wrapped in `Keyed`, with a key that says what it is.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np
import torch

from solon import __version__
from solon.alignment.preference import PreferenceModel
from solon.errors import InputError
from solon.models.base import Speaker
from solon.models.torch_model import TorchModel
from solon.models.weights import Fingerprint
from solon.records.run import digest
from solon.words.conversation import Conversation

Given = ParamSpec("Given")
Returned = TypeVar("Returned")
PROBE = Conversation().system("Be brief.").human("What is 2 + 2?").assistant("4, naïvely.").human("Why?")


@dataclass(frozen=True, slots=True)
class Keyed(Generic[Given, Returned]):
    """A function with the key that names it in a run: two that may give other numbers need other keys."""

    key: str
    function: Callable[Given, Returned]

    def __call__(self, *args: Given.args, **kwargs: Given.kwargs) -> Returned:
        return self.function(*args, **kwargs)


def fingerprint(inputs: Any) -> dict[str, str]:
    """Field by field, 16 hexadecimal digits (or the plain text of a short string). Fields whose metadata has
    `fingerprint=False` decide no number and are left out.

    Raises InputError on a field that cannot be read, such as a function that is not `Keyed`.

    >>> @dataclass
    ... class Inputs:
    ...     prompts: tuple[Conversation, ...]
    ...     topic: str = "birds"
    >>> fingerprint(Inputs((Conversation().human("Hello"),)))["topic"]
    'birds'
    """
    return {
        field.name: _short(content(getattr(inputs, field.name), field.name))
        for field in fields(inputs)
        if field.metadata.get("fingerprint", True)
    }


def content(value: Any, name: str = "") -> Any:
    """A JSON value that is equal where, and only where, `value` is the same for a run."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case enum.Enum():
            return value.value
        case Keyed():
            return value.key
        case Path():
            return content_hash(value)
        case Conversation():
            return value.key
        case TorchModel():
            return model_key(value)
        case PreferenceModel():
            return [value.name, Fingerprint().of(value.scalar)]
        case torch.Tensor():
            return content(value.detach().cpu().float().numpy(), name)
        case np.ndarray():
            return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
        case Mapping():
            return sorted(([content(key), content(item, name)] for key, item in value.items()), key=repr)
        case Set():
            return sorted((content(item, name) for item in value), key=repr)
        case Sequence():
            return [content(item, name) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        kept = [field.name for field in fields(value) if field.metadata.get("fingerprint", True)]
        return [type(value).__name__, *(content(getattr(value, field), f"{name}.{field}") for field in kept)]
    if isinstance(value, Speaker):
        return f"{type(value).__name__} {value.name}, solon {__version__}"
    raise InputError(
        f"{name or 'a value'} is a {type(value).__name__}, which nothing can be read of to name a run: "
        "wrap a function in solon.study.fingerprint.Keyed with a key that says what it is"
    )


def model_key(model: Speaker) -> str:
    """What names a model in a run: its weights, and what its tokenizer, chat template and ends make of a
    probe; of a scripted model its name and Solon's version.
    """
    if not isinstance(model, TorchModel):
        return f"script {model.name}, solon {__version__}"
    form = model.dialogue
    template = getattr(getattr(form, "tokenizer", None), "chat_template", None)
    try:
        probe: object = form.prompt(PROBE), form.reply(PROBE, "Two pairs."), form.end
    except InputError as error:  # a template without a system turn, a vocabulary without these words
        probe = str(error)
    return f"{model.fingerprint} {digest(repr(template), repr(probe))[:8]}"


def content_hash(path: Path) -> str:
    """16 hexadecimal digits over a file's bytes, or those of all files in a folder. Raises InputError where
    there is none.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist")
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            whole.update(hashlib.file_digest(opened, "sha256").digest())
    return whole.hexdigest()[:16]


def _short(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= 64 else digest(value)
