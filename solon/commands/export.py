"""`solon export RUN TO`: what a run made, in the forms that other libraries read."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from solon.data.published import to_hh_pair
from solon.data.rows import from_messages
from solon.data.tables import write_rows
from solon.data.trainer_formats import WRITERS, TrainingData
from solon.errors import InputError
from solon.records.codecs import to_drafts
from solon.records.files import temporary
from solon.study.console import answer
from solon.study.options import RunName, parse
from solon.study.runs import finished_run, label_rows, record, stage_rows

# what a run is, beside its rows: models, report, the command and flags, the constitution as it was read
MODELS = ("model", "adapter", "preference_model")
PARTS = (*MODELS, "report.html", "report.md", "report.json", "run.json", "constitution.txt")


@dataclass(frozen=True)
class Options:
    """Copy a run's model (transformers), adapter (PEFT), preference model (sequence classification), rows
    (JSONL) and report; its AI comparisons also as chosen/rejected pairs, which TRL and others train on.
    """

    run: RunName
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """a new folder"""
    to: Literal["", "trl", "openrlhf", "verl"] = ""
    """write the run's rows in this trainer's data form too, with a file that launches it"""
    runs: Path = Path("runs")
    json: bool = False


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="export")
    folder = finished_run(options.runs, options.run)
    if options.folder.exists():
        raise InputError(f"{options.folder} exists; choose a new folder, so that nothing is overwritten")
    options.folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary(options.folder) as partial:
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
        if options.to:
            (partial / options.to).mkdir()
            WRITERS[options.to](handed(folder), partial / options.to)
    made = sorted(path.name for path in options.folder.iterdir())
    words = f"{options.folder}: {', '.join(made)}" + (
        f" ({ties} ties have no chosen side and are not among the pairs)" if ties else ""
    )
    return answer(
        {"to": str(options.folder), "made": made, "ties_left_out": ties}, words, as_json=options.json
    )


def handed(folder: Path) -> TrainingData:
    """What another trainer would begin with: revisions to imitate, labels, and the prompts of both kinds."""
    drafts = [to_drafts(row) for row in stage_rows(folder, "drafts")]
    helpful = [from_messages(row["prompt"]) for row in stage_rows(folder, "helpful")]
    supervised = [
        d.prompt.assistant(turn.revision)
        for d in drafts
        for turn in d.rounds
        if turn.finished and turn.revision.strip()
    ]
    settings = record(folder)["settings"]
    decided = [comparison for comparison in label_rows(folder) if comparison.p_first != 0.5]
    return TrainingData(
        supervised,
        decided,
        [*(d.prompt for d in drafts), *helpful],
        settings["max_tokens"],
        settings["kl_coefficient"],
    )


def pairs(folder: Path, path: Path) -> int:
    """Write those labels as pairs; returns how many ties were left out."""
    comparisons = label_rows(folder)
    write_rows(path, [to_hh_pair(c) for c in comparisons if c.p_first != 0.5])
    return sum(c.p_first == 0.5 for c in comparisons)
