"""Reports and kept rows as pandas DataFrames. Only this file imports pandas (extra `solon[frames]`)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas

from solon.errors import InputError
from solon.records.files import lines
from solon.records.report import Report


def frame(report: Report, stage: str = "") -> pandas.DataFrame:
    """The claims of a report, a row each; or the rows that a stage of its run kept, such as "drafts".

    Raises InputError where the run has no such stage, naming those that it has.
    """
    if not stage:
        return pandas.DataFrame([asdict(claim) for claim in report.claims])
    folder = Path(report.folder)
    path = folder / f"{stage}.jsonl"
    if not report.folder or not path.exists():
        stages = ", ".join(sorted(kept.stem for kept in folder.glob("*.jsonl"))) if report.folder else "none"
        raise InputError(f"the run has no rows of {stage!r}; it has {stages}")
    return pandas.DataFrame([row for _, row in lines(path)])
