"""Solon: one laboratory for aligning language models.

>>> import solon
>>> solon.Conversation().human("Hello").last
'Hello'

`load`, `evaluate`, `run` and `frame` are the short way in; the words and the loops below them are the rest of
the public face. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
FACE = {
    "load": "solon.api",
    "evaluate": "solon.api",
    "run": "solon.api",
    "frame": "solon.records.frames",
    "Comparison": "solon.words.comparison",
    "Constitution": "solon.words.constitution",
    "Conversation": "solon.words.conversation",
    "InputError": "solon.errors",
    "Principle": "solon.words.constitution",
    "Problem": "solon.words.question",
    "Question": "solon.words.question",
    "read_constitution": "solon.words.constitution",
    "PreferenceModel": "solon.alignment.preference",
    "Report": "solon.records.report",
    "Run": "solon.records.run",
    "ScriptedModel": "solon.models.scripted",
    "TorchModel": "solon.models.torch_model",
    "choose": "solon.models.choice",
    "Plan": "solon.training.optimiser",
    "RLConfig": "solon.training.improve",
    "fit": "solon.training.fit",
    "reply_cross_entropy": "solon.training.fit",
    "improve": "solon.training.improve",
}
__all__ = ["__version__", *FACE]


def __getattr__(name: str) -> Any:
    """A name of the public face, from its module, once it is asked for."""
    if name not in FACE:
        raise AttributeError(f"solon has no {name!r}; it has {', '.join(FACE)}")
    return getattr(importlib.import_module(FACE[name]), name)


def __dir__() -> list[str]:
    return __all__
