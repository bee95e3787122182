"""`solon show [RUN]`: the runs there are, or one run's report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import tyro

from solon.records import index
from solon.records.report import from_dict, terminal
from solon.study.console import answer
from solon.study.options import parse
from solon.study.runs import finished_run


@dataclass(frozen=True)
class Options:
    """Without RUN, list the runs; with it (a folder, or the beginning of its name), print its report."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = ""
    runs: Path = Path("runs")
    """where run folders are kept"""
    json: bool = False
    """end with one JSON object on standard output"""


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="show")
    if not options.run:
        rows = index.runs(options.runs)
        listed = "\n".join(map(line, rows)) or f"no runs under {options.runs}; --runs names another folder"
        return answer({"runs": rows}, listed, as_json=options.json)
    folder = finished_run(options.runs, options.run)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    human = f"{terminal(from_dict(report))}\n\nreport  {folder / 'report.html'}"
    return answer({"run": str(folder), "report": report}, human, as_json=options.json)


def line(row: Mapping[str, Any]) -> str:
    """A run in one line: folder, date, model, preset, seed, and its outcome."""
    date = datetime.fromtimestamp(row["started"]).strftime("%Y-%m-%d %H:%M")
    head = f"{row['folder']:<40} {date}  {row['model'][:24]:<24} {row['preset']:<6} seed {row['seed']:<4}"
    return f"{head} {outcome(row)}"


def outcome(row: Mapping[str, Any]) -> str:
    """How a run ended: its verdicts counted, or that it has not ended.

    >>> outcome({"claims": [{"holds": True}, {"holds": None}], "seconds": 71.2})
    '71 s, 1 of 2 claims hold, 1 without a verdict'
    """
    if row["claims"] is None:
        return "not finished: the command that began it goes on"
    verdicts = [claim["holds"] for claim in row["claims"]]
    rest = [(verdicts.count(False), "do not"), (verdicts.count(None), "without a verdict")]
    words = [f"{verdicts.count(True)} of {len(verdicts)} claims hold"]
    return ", ".join(
        [f"{row['seconds']:.0f} s", *words, *(f"{count} {text}" for count, text in rest if count)]
    )
