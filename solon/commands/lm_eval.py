"""`solon lm-eval ...`: lm-evaluation-harness's own command, to which `--model solon` is known."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence

from solon.errors import InputError

USAGE = """usage: solon lm-eval run --model solon --model_args model=MODEL --tasks TASKS [options]

lm-evaluation-harness on Solon's engine, with the harness's own tasks, options and numbers.
It needs an extra: pip install 'solon[lm-eval]'. With it, this lists the harness's own options."""


def main(argv: Sequence[str]) -> int:
    if importlib.util.find_spec("lm_eval") is None:
        if set(argv) & {"-h", "--help"}:
            print(USAGE)
            return 0
        raise InputError("solon lm-eval needs lm-evaluation-harness: pip install 'solon[lm-eval]'")
    importlib.import_module("solon.evaluation.lm_eval_model")  # registers the model
    sys.argv = ["lm-eval", *argv]
    importlib.import_module("lm_eval.__main__").cli_evaluate()
    return 0
