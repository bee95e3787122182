"""Inspect's logs as Solon's evaluations: one log's report, or several paired sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from solon.errors import InputError
from solon.records.report import Report
from solon.records.run import Run
from solon.study.comparing import compared
from solon.study.conduct import Finished, conduct
from solon.study.fingerprint import content_hash
from solon.study.measurement import report
from solon.study.outcomes import Suite, counted
from solon.tools.measure import Options, inspect_extra

READ = ("paths", "scorer", "seed", "runs", "json", "precision")  # the flags that mean something for logs


def measure_logs(options: Options, *, argv: Sequence[str] = ()) -> Finished:
    """What Inspect's logs hold. Raises InputError on flags that mean nothing for logs."""
    if options != Options(**{name: getattr(options, name) for name in READ}):
        raise InputError(
            "Inspect logs are read as they are: of the flags only --scorer, --seed, --runs and --json mean "
            "anything"
        )
    logs = [inspect_extra().read_log(path, scorer=options.scorer) for path in options.paths]
    models = [log.model for log in logs]
    names = [
        log.model if models.count(log.model) == 1 else path.stem
        for log, path in zip(logs, options.paths, strict=True)
    ]

    def work(run: Run) -> Report:
        if len(logs) > 1:
            return pair_logs(names, logs, seed=options.seed)
        log = logs[0]
        counts = counted(log.evaluation, Suite((log.evaluation,)), log.rows)
        return report(names[0], [(log.evaluation, log.rows, counts)], {"log": str(options.paths[0])})

    inputs = {f"log {number}": content_hash(path) for number, path in enumerate(options.paths)}
    return conduct(
        "logs",
        options,
        work,
        settings={"scorer": options.scorer},
        inputs=inputs,
        subject=", ".join(names),
        argv=argv,
    )


def pair_logs(names: Sequence[str], logs: Sequence[Any], *, seed: int) -> Report:
    """Logs of one evaluation against the first, on the samples that all hold. Raises InputError where they
    share none, are of different things, or ask a sample in different words.
    """
    first = logs[0]
    shared = set.intersection(*({row.key for row in log.rows} for log in logs))
    if not shared or len(set(names)) < len(names):
        raise InputError(
            f"these logs cannot be paired: they share {len(shared)} samples, and are called "
            f"{', '.join(names)}"
        )
    if len({(log.evaluation.name, log.scorer) for log in logs}) > 1:
        listed = ", ".join(f"{log.evaluation.name} by {log.scorer}" for log in logs)
        raise InputError(f"these logs are of different things: {listed}")
    other = next((key for log in logs for key in asked_otherwise(first, log)), "")
    if other:
        raise InputError(
            f"the sample {other} is asked in other words in these logs; only the same samples can be paired"
        )
    kept = [index for index, row in enumerate(first.rows) if row.key in shared]
    problems = tuple(first.evaluation.problems[index] for index in kept)
    evaluation = replace(first.evaluation, reading=replace(first.evaluation.reading, rows=problems))
    order = [first.rows[index].key for index in kept]
    rows = {
        (name, evaluation.name): [{row.key: row for row in log.rows}[key] for key in order]
        for name, log in zip(names, logs, strict=True)
    }
    paired = compared(names, Suite((evaluation,)), rows, seed=seed)
    unshared = {
        f"{name}: samples that not every log holds": len(log.rows) - len(order)
        for name, log in zip(names, logs, strict=True)
    }
    return replace(
        paired, counts={**paired.counts, **{text: count for text, count in unshared.items() if count}}
    )


def asked_otherwise(first: Any, second: Any) -> list[str]:
    """The keys of samples that both logs hold in different words."""
    texts = {
        row.key: problem.text
        for row, problem in zip(second.rows, second.evaluation.problems, strict=True)
        if "unscored" not in row.tags
    }
    return [
        row.key
        for row, problem in zip(first.rows, first.evaluation.problems, strict=True)
        if "unscored" not in row.tags and texts.get(row.key, problem.text) != problem.text
    ]
