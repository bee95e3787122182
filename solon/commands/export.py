"""`solon export RUN TO`: what a run made, in the forms that other libraries read."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from solon.commands.common import answer, parse
from solon.commands.show import find
from solon.data.published import to_pair
from solon.data.rows import to_comparison
from solon.data.tables import read_rows, write_rows
from solon.errors import InputError
from solon.records.run import temporary

PARTS = ("model", "adapter", "preference_model", "report.html", "report.md", "report.json")


@dataclass(frozen=True)
class Options:
    """Copy a run's model (transformers), adapter (PEFT), preference model (sequence classification), rows (JSONL) and
    report; its AI comparisons also as chosen/rejected pairs, which TRL and others train on.
    """

    run: Annotated[str, tyro.conf.Positional]
    to: Annotated[Path, tyro.conf.Positional]
    runs: Path = Path("runs")
    json: bool = False


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="export")
    folder = find(options.runs, options.run)
    if not (folder / "report.json").exists():
        raise InputError(f"{folder} is not finished; the command that began it goes on from what is there")
    if options.to.exists():
        raise InputError(f"{options.to} exists; choose a new folder, so that nothing is overwritten")
    options.to.parent.mkdir(parents=True, exist_ok=True)
    with temporary(options.to) as partial:
        partial.mkdir()
        for name in PARTS:
            if (folder / name).is_dir():
                shutil.copytree(folder / name, partial / name)
            elif (folder / name).exists():
                shutil.copy(folder / name, partial / name)
        (partial / "rows").mkdir()
        for path in sorted(folder.glob("*.jsonl")):
            shutil.copy(path, partial / "rows" / path.name)
        ties = pairs(folder, partial / "pairs.jsonl")
    made = sorted(path.name for path in options.to.iterdir())
    words = f"{options.to}: {', '.join(made)}" + (f" ({ties} ties have no chosen side and are not among the pairs)" if ties else "")
    return answer({"to": str(options.to), "made": made, "ties_left_out": ties}, words, as_json=options.json)


def pairs(folder: Path, path: Path) -> int:
    """Write the labels the preference model learned from as pairs; returns how many ties were left out."""
    labelled = [p for p in (folder / f"labels_{way}.jsonl" for way in ("contrastive", "reasoned", "multiple_choice")) if p.exists()]
    comparisons = [to_comparison(row) for _, row in read_rows(labelled[0])] if labelled else []
    write_rows(path, [to_pair(c) for c in comparisons if c.p_first != 0.5])
    return sum(c.p_first == 0.5 for c in comparisons)
