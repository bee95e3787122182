"""What finished runs left: finding a run's folder, its record, and the rows of its stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from solon.data.rows import comparison_from_row
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.words.comparison import Comparison

LABELS = ("labels_contrastive", "labels_reasoned", "labels_multiple_choice")


def find_run(root: Path, name: str) -> Path:
    """The run folder of that path, or the one under `root` whose name begins so. Raises InputError where
    there is none, or several.
    """
    if (Path(name) / "run.json").exists():
        return Path(name)
    matches = sorted(path.parent for path in root.glob(f"*/{name}*/run.json"))
    if len(matches) != 1:
        listed = ", ".join(path.name for path in matches) or "none"
        raise InputError(
            f"{name!r} names {len(matches)} runs under {root} ({listed}); `solon show` lists them, --runs "
            "names "
            "another folder"
        )
    return matches[0]


def finished_run(root: Path, name: str) -> Path:
    """The same, of a run that has its report. Raises InputError where it has not."""
    folder = find_run(root, name)
    if not (folder / "report.json").exists():
        raise InputError(f"{folder} is not finished; the command that began it goes on from what is there")
    return folder


def record(folder: Path) -> dict[str, Any]:
    """run.json: what was asked, the flags, the command, the versions."""
    value: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return value


def stage_rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of one stage."""
    return [row for _, row in read_rows(folder / f"{name}.jsonl")]


def label_rows(folder: Path) -> list[Comparison]:
    """The AI labels that a run of `solon align` learned its preference model from; none where it has none."""
    kept = [name for name in LABELS if (folder / f"{name}.jsonl").exists()]
    return [comparison_from_row(row) for row in stage_rows(folder, kept[0])] if kept else []
