"""`solon run STUDY`: a study by its name in `solon studies`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from solon.errors import InputError
from solon.study.catalogue import PAPERS


def main(argv: Sequence[str]) -> int:
    runnable = {paper.study: paper.command for paper in PAPERS if paper.command}
    if not argv or argv[0] in ("-h", "--help"):
        print(
            f"usage: solon run STUDY [options]\n\nstudies that run: {', '.join(runnable)}\n`solon run "
            "STUDY --help` lists a study's options."
        )
        return 0
    if argv[0] not in runnable:
        known = {paper.study for paper in PAPERS}
        why = "is planned and does not run yet" if argv[0] in known else "is no study"
        raise InputError(f"{argv[0]!r} {why}; these run: {', '.join(runnable)}. `solon studies` lists all")
    return int(importlib.import_module(f"solon.studies.{runnable[argv[0]]}.inputs").main(argv[1:]))
