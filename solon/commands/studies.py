"""`solon studies [STUDY]`: every paper of the mission, what works and what does not yet, or one paper's
needs.
"""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from solon.errors import InputError
from solon.study.paper import papers, runs, state

USAGE = """usage: solon studies [--json | --markdown]

Lists every paper of the mission: what works here, what is missing, and which files its study needs."""


def main(argv: Sequence[str]) -> int:
    if set(argv) & {"-h", "--help"}:
        print(USAGE)
        return 0
    if set(argv) - {"--json", "--markdown"}:
        raise InputError(f"solon studies takes only --json or --markdown; found {' '.join(argv)}")
    if "--markdown" in argv:
        print(table())
        return 0
    for name in papers():
        print(described(name))
    counts = Counter(map(state, papers()))
    print(f"\n{len(papers())} papers: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    if "--json" in argv:
        rows = [{"study": name, "state": state(name), **asdict(paper)} for name, paper in papers().items()]
        print(json.dumps({"studies": rows}))
    return 0


def described(name: str) -> str:
    """A paper for a terminal: its state, and what works, is missing, and is needed."""
    paper = papers()[name]
    lines = [f"{state(name):<8} {name:<26} {paper.title} ({paper.source})"]
    parts = {"works": paper.works, "lacks": paper.lacks if paper.works else "", "offline": paper.offline}
    parts |= {"needs": "; ".join(map(str, paper.needs))}
    for label, text in parts.items():
        if text:
            head = f"{label:<8} "
            lines += textwrap.wrap(head + text, 100, initial_indent=" " * 9, subsequent_indent=" " * 18)
    return "\n".join(lines)


def table() -> str:
    """The table of the studies that run, for README.md and the docs.

    >>> "| [`few_shot`](solon" in table()
    True
    """
    rows = [
        f"| [`{name}`](solon/studies/{name}/README.md) | {papers()[name].title} ({papers()[name].source}) | "
        f"{papers()[name].works} |"
        for name in papers()
        if runs(name)
    ]
    planned = ", ".join(f"`{name}`" for name in papers() if not runs(name))
    head = ["| study | paper | what works |", "|---|---|---|"]
    return "\n".join([*head, *rows, "", f"Planned: {planned}."])
