"""`solon config RUN`: a run's flags as TOML, which `--config FILE` reads again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from solon.errors import InputError
from solon.study.options import parse
from solon.study.runs import find_run, record

UNWRITTEN = (
    "runs",
    "json",
    "config",
)  # where a run is kept and how it answers are of the call, not of the run


@dataclass(frozen=True)
class Options:
    """Print the flags of a run: solon config RUN > my.toml; solon run STUDY --config my.toml --seed 1."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    runs: Path = Path("runs")
    """where run folders are kept"""


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="config")
    folder = find_run(options.runs, options.run)
    kept = record(folder)
    if "options" not in kept:
        raise InputError(f"{folder} was made before runs kept their flags; its settings stand in run.json")
    command = f"# {kept['command']}\n" if kept.get("command") else ""
    print(command + to_toml(kept["options"]), end="")
    return 0


def to_toml(options: Mapping[str, Any]) -> str:
    """Flags as TOML, settings among them; what is empty is left out, since it is the default.

    >>> options = {"model": "smollm2", "tasks": ["a.csv"], "judge": None, "settings": {"rounds": 2}}
    >>> print(to_toml(options), end="")
    model = "smollm2"
    tasks = ["a.csv"]
    rounds = 2
    """
    flat = {name: value for name, value in options.items() if name not in (*UNWRITTEN, "settings")}
    flat |= options.get("settings") or {}
    return "".join(
        f"{name} = {json.dumps(value)}\n" for name, value in flat.items() if value is not None and value != []
    )
