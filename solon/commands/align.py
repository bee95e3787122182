"""`solon align [MODEL]`: the main job, which is the study `constitutional_ai` under its own name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    return int(importlib.import_module("solon.studies.constitutional_ai.inputs").main(argv))
