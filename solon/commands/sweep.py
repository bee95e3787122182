"""`solon sweep -- COMMAND ...`: one command under many settings and seeds, each a run of its own, on one
machine or many.
"""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import tyro

from solon.errors import InputError
from solon.pool.maps import parallel_map
from solon.pool.workers import pool_of
from solon.records.progress import spoken
from solon.statistics.intervals import mean
from solon.study.console import answer
from solon.study.options import parse

Point = tuple[tuple[str, str], ...]  # flag and value of everything that is varied


@dataclass(frozen=True)
class Options:
    """Run `solon COMMAND --json` once for every combination, and average every claim over the seeds.

    The command follows `--`: solon sweep --over seed=0,1,2 --over policy-steps=5,10 -- align smollm2. A
    command that keeps a run folder goes on from it, so that an interrupted sweep is just started again.
    """

    over: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """flag=value,value,... as often as there are flags to vary; seeds are averaged over"""
    workers: str = "here"
    """where the runs are made, one on each worker: here (one after the other), processes:N, ray, ray:N or
    ray:ADDRESS
    """
    json: bool = False


def main(argv: Sequence[str]) -> int:
    split = list(argv).index("--") if "--" in argv else len(argv)
    command = list(argv[split + 1 :])
    options = parse(Options, argv[:split], command="sweep")
    if not command:
        raise InputError(
            "give the command to run after --, such as: solon sweep --over seed=0,1,2 -- align smollm2"
        )
    if not options.over:
        raise InputError("say what to vary, such as --over seed=0,1,2")
    points = list(grid(options.over))
    given = {word.split("=", 1)[0] for word in command}
    taken = [flag for flag, _ in points[0] if f"--{flag}" in given]
    if taken:
        raise InputError(f"--{taken[0]} is both varied and among the command's own flags")
    meter, rows = spoken()("runs", len(points), 0), list[dict[str, Any]]()
    for row in parallel_map(partial(made, command), points, pool_of(options.workers), name=named):
        rows.append(row)
        meter(len(rows))
    claims = averaged(rows)
    return answer(
        {"command": shlex.join(command), "rows": rows, "claims": claims},
        table(rows, claims),
        as_json=options.json,
    )


def grid(over: Sequence[str]) -> Iterator[Point]:
    """Every combination, the last flag changing fastest.

    >>> list(grid(["seed=0,1", "rate=1e-3"]))
    [(('seed', '0'), ('rate', '1e-3')), (('seed', '1'), ('rate', '1e-3'))]
    """
    axes = []
    for words in over:
        flag, equals, values = words.partition("=")
        if not flag or not equals or not all(value.strip() for value in values.split(",")):
            raise InputError(f"--over takes flag=value,value,...; found {words!r}")
        axes.append([(flag.lstrip("-"), value.strip()) for value in values.split(",")])
    flags = [axis[0][0] for axis in axes]
    if len(set(flags)) < len(flags):
        raise InputError(f"each flag can be varied once; found {', '.join(flags)}")
    for axis in axes:
        if len(set(axis)) < len(axis):
            raise InputError(f"--{axis[0][0]} has a value twice: {', '.join(value for _, value in axis)}")
    return itertools.product(*axes)


def named(point: Point) -> str:
    return " ".join(f"--{flag} {value}" for flag, value in point)


def made(command: Sequence[str], point: Point) -> dict[str, Any]:
    """One run, in a process of its own: what was varied, and the object it printed. Raises InputError with
    its last words.
    """
    words = [*command, *(word for flag, value in point for word in (f"--{flag}", value)), "--json"]
    done = subprocess.run([sys.executable, "-m", "solon", *words], capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise InputError(f"solon {shlex.join(words)} ended with {done.returncode}: {last}")
    return {"over": dict(point), "found": json.loads(lines[-1])}


def averaged(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each claim under each setting: its mean over the seeds with a t interval, or the claim's own where one
    run has it; `missing` counts the runs of that setting that do not.
    """
    groups: dict[tuple[Point, str], list[dict[str, Any]]] = {}
    runs: dict[Point, int] = {}
    for row in rows:
        setting = tuple((flag, value) for flag, value in row["over"].items() if flag != "seed")
        runs[setting] = runs.get(setting, 0) + 1
        for claim in row["found"].get("claims", []):
            groups.setdefault((setting, claim["name"]), []).append(claim)
    found = []
    for (setting, name), claims in groups.items():
        made = [claim for claim in claims if claim["found"] is not None]
        row = {"over": dict(setting), "name": name, "seeds": len(made), "missing": runs[setting] - len(made)}
        if len(made) > 1:
            estimate = mean([claim["found"] for claim in made])
            row |= {
                "found": estimate.value,
                "low": estimate.low,
                "high": estimate.high,
                "interval": "t over seeds",
            }
        else:
            row |= {key: made[0][key] if made else None for key in ("found", "low", "high")} | {
                "interval": "of the one run"
            }
        found.append(row)
    return found


def table(rows: Sequence[Mapping[str, Any]], claims: Sequence[Mapping[str, Any]]) -> str:
    """For a person: a line for each claim under each setting."""
    lines = [f"{len(rows)} runs"]
    for claim in claims:
        value, low, high = (
            "?" if claim[key] is None else f"{claim[key]:.3f}" for key in ("found", "low", "high")
        )
        over = f"{named(tuple(claim['over'].items()))}  " if claim["over"] else ""
        missing = f", {claim['missing']} runs without it" if claim["missing"] else ""
        lines.append(
            f"{over}{claim['name']}: {value} [{low}, {high}], {claim['seeds']} seeds, "
            f"{claim['interval']}{missing}"
        )
    return "\n".join(lines)
