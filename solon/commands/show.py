"""`solon show [RUN]`: the runs there are, or one run's report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from solon.errors import InputError
from solon.records import index
from solon.study.legacy import answer, parse


@dataclass(frozen=True)
class Options:
    """Without RUN, list the runs; with it (a folder or the start of its name), print its report."""

    run: Annotated[str, tyro.conf.Positional] = ""
    runs: Path = Path("runs")
    json: bool = False


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="show")
    if not options.run:
        rows = index.runs(options.runs)
        lines = [
            f"{row['folder']:<40} {row['model']:<16} {row['preset']:<6} seed {row['seed']:<4} "
            + (
                f"{row['seconds']:.0f} s, {len(row['claims'])} claims"
                if row["claims"] is not None
                else "not finished"
            )
            for row in rows
        ]
        return answer(
            {"runs": rows}, "\n".join(lines) or f"no runs under {options.runs}", as_json=options.json
        )
    folder = find(options.runs, options.run)
    if not (folder / "report.json").exists():
        raise InputError(f"{folder} has no report yet; the command that began it goes on from what is there")
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return answer(
        {"run": str(folder), "report": report}, (folder / "report.md").read_text(), as_json=options.json
    )


def find(root: Path, name: str) -> Path:
    """The run folder of that path or name's beginning. Raises InputError where there is none, or several."""
    if (Path(name) / "run.json").exists():
        return Path(name)
    found = sorted(path.parent for path in root.glob(f"*/{name}*/run.json"))
    if len(found) != 1:
        listed = ", ".join(path.name for path in found) or "none"
        raise InputError(f"{name!r} names {len(found)} runs under {root} ({listed}); `solon show` lists them")
    return found[0]
