"""`solon studies`: every paper of the mission, what works and what does not yet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from solon.errors import InputError
from solon.study.catalogue import PAPERS


def main(argv: Sequence[str]) -> int:
    if set(argv) & {"-h", "--help"}:
        print(
            "usage: solon studies [--json]\n\nLists every paper of the mission: what works here and what "
            "does not yet."
        )
        return 0
    if set(argv) - {"--json"}:
        raise InputError(f"solon studies takes only --json; found {' '.join(argv)}")
    for paper in PAPERS:
        print(f"{paper.state:<8} {paper.study:<26} {paper.title} (arXiv:{paper.arxiv})")
        if paper.works:
            print(f"{'':<9}works: {paper.works}\n{'':<9}lacks: {paper.lacks}")
    counts = {
        state: sum(paper.state == state for paper in PAPERS) for state in ("works", "partly", "not yet")
    }
    print(f"\n{len(PAPERS)} papers: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    if "--json" in argv:
        print(json.dumps({"studies": [asdict(paper) | {"state": paper.state} for paper in PAPERS]}))
    return 0
