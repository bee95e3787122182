"""`solon run STUDY`: a study by its name in `solon studies`."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence

from solon.errors import InputError
from solon.study.paper import papers, runs


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    name = argv[0]
    if name not in papers():
        near = difflib.get_close_matches(name, papers(), n=3)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise InputError(f"{name!r} is no study{hint}. `solon studies` lists all")
    if not runs(name):
        running = ", ".join(filter(runs, papers()))
        raise InputError(f"{name!r} is planned and does not run yet; these run: {running}")
    study = importlib.import_module(f"solon.studies.{name}.study")
    if not hasattr(study, "STUDY"):
        return int(importlib.import_module(f"solon.studies.{name}.inputs").main(argv[1:]))
    return int(importlib.import_module("solon.study.conduct").main(study.STUDY, argv[1:]))


def usage() -> str:
    """Every study that runs, its title, and what it does without a model."""
    width = max(len(name) for name in papers() if runs(name))
    listed = [f"  {name:<{width}}  {papers()[name].title}" for name in papers() if runs(name)]
    head = "usage: solon run STUDY [MODEL ...] [options]\n\nstudies that run:"
    return "\n".join([head, *listed, "\n`solon run STUDY --help` lists a study's options and what it needs."])
