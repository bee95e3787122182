"""`solon measure PATH... --model M [--against N]`: what a model knows and how it behaves, on published
evaluations and your own.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from solon.data.evaluations import read_evaluations
from solon.errors import InputError
from solon.records.report import Report
from solon.records.run import Run, digest
from solon.study.comparing import compared
from solon.study.legacy import StudyOptions, content_hash, open_models, parse, run_study, say
from solon.study.measurement import report
from solon.study.outcomes import Form, Suite, counted, form_of, measured


@dataclass(frozen=True)
class Measuring:
    """How models are asked; `solon measure` and `solon compare --on` take the same."""

    shots: int = 0
    """worked examples before each problem, drawn from the same file and then not asked"""
    limit: int = 0
    """problems of each evaluation, drawn by seed; 0 takes all"""
    form: Form = "auto"
    """dialogue: the model's chat template, or Human and Assistant; text: plain text; auto: text only for
    models without a template
    """
    truncate: bool = False
    """cut prompts that do not fit the context on the left, counted, instead of refusing them"""
    inspect_logs: Path | None = None
    """a folder, to write an Inspect log of every evaluation and model into (pip install 'solon[inspect]')"""


@dataclass(frozen=True)
class Options(StudyOptions, Measuring):
    """Recognise published evaluation formats, measure a model on them, and keep raw outcomes that can be
    scored again without it.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """files or folders of evaluations; or Inspect logs (.eval), which need no model, several of them being
    paired sample by sample
    """
    model: str = ""
    """smollm2, gemma3-270m, a model folder, or a hub id"""
    against: str = ""
    """another model, to be compared item by item"""
    scorer: str = ""
    """of Inspect logs that have several"""
    preset: Annotated[Literal["quick", "full"], tyro.conf.Suppress] = "quick"


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="measure")
    if options.paths and all(path.suffix == ".eval" for path in options.paths):
        return logs(options)
    if not options.paths or not options.model:
        raise InputError(
            "solon measure needs files or folders, and --model; `solon measure --help` lists the options"
        )
    names = [options.model, options.against] if options.against else [options.model]
    return measure(options, options, names, options.paths)


def measure(options: StudyOptions, how: Measuring, names: Sequence[str], paths: Sequence[Path]) -> int:
    """One model's report, or the comparison of several, the first being the one that the others are held
    against.
    """
    wanted = Suite(tuple(read_evaluations(paths)), how.shots, how.limit, options.seed)
    write = None if how.inspect_logs is None else inspect_extra().write_log
    models = open_models(names, options.precision)
    settings = {"shots": how.shots, "limit": how.limit, "form": how.form, "truncate": how.truncate}
    inputs = {
        "suite": digest([(own.name, own.digest) for own in wanted.evaluations]),
        **{f"model {n}": m.fingerprint for n, m in enumerate(models)},
    }

    def work(run: Run) -> Report:
        rows = {
            (model.name, own.name): measured(
                options.runs,
                model,
                own,
                wanted,
                form=how.form,
                truncate=how.truncate,
                progress=run.progress,
                stop=run.stop,
                say=say,
            )
            for own in wanted.evaluations
            for model in models
        }
        if write is not None and how.inspect_logs is not None:
            for model in models:
                for own in wanted.evaluations:
                    examples, problems = wanted.drawn(own)
                    path = (
                        how.inspect_logs
                        / f"{'_'.join(f'{model.name} {own.name}'.replace('/', ' ').split())}.eval"
                    )
                    about = {
                        **settings,
                        "form": form_of(model, own, how.form),
                        "fingerprint": model.fingerprint,
                    }
                    write(
                        path,
                        own,
                        problems,
                        rows[model.name, own.name],
                        model=model.name,
                        examples=examples,
                        about=about,
                    )
                    say(f"wrote {path}")
        if len(models) > 1:
            return compared([model.name for model in models], wanted, rows, seed=options.seed)
        model = models[0]
        spoken = {own.name: form_of(model, own, how.form) for own in wanted.evaluations}
        told = {f"form of {name}": words for name, words in spoken.items()} | {
            "worked examples": str(how.shots)
        }
        parts = [
            (own, rows[model.name, own.name], counted(own, wanted, rows[model.name, own.name]))
            for own in wanted.evaluations
        ]
        return report(model.name, parts, told, seed=options.seed)

    study = "measure" if len(models) == 1 else "compare"
    return run_study(
        replace(options), study, settings, inputs, ", ".join(model.name for model in models), work
    )


def inspect_extra() -> Any:
    """Raises InputError where Inspect is not installed."""
    if importlib.util.find_spec("inspect_ai") is None:
        raise InputError("Inspect's logs need inspect_ai: pip install 'solon[inspect]'")
    return importlib.import_module("solon.evaluation.inspect_logs")


def logs(options: Options) -> int:
    """What Inspect's logs hold: one log's report, or several held against the first, paired by sample and
    epoch.
    """
    plain = Options(
        paths=options.paths,
        scorer=options.scorer,
        seed=options.seed,
        runs=options.runs,
        json=options.json,
        precision=options.precision,
    )
    if options != plain:
        raise InputError(
            "Inspect logs are read as they are: of the flags only --scorer, --seed, --runs and --json mean "
            "anything"
        )
    found = [inspect_extra().read_log(path, scorer=options.scorer) for path in options.paths]
    names = [
        own.model if [other.model for other in found].count(own.model) == 1 else path.stem
        for own, path in zip(found, options.paths, strict=True)
    ]
    inputs = {f"log {number}": content_hash(path) for number, path in enumerate(options.paths)}

    def work(run: Run) -> Report:
        first = found[0]
        if len(found) == 1:
            suite_of = Suite((first.evaluation,))
            return report(
                names[0],
                [(first.evaluation, first.rows, counted(first.evaluation, suite_of, first.rows))],
                {"log": str(options.paths[0])},
            )
        shared = set.intersection(*({row.key for row in own.rows} for own in found))
        if not shared or len(set(names)) < len(names):
            raise InputError(
                f"these logs cannot be paired: they share {len(shared)} samples, and are called "
                f"{', '.join(names)}"
            )
        if len({(own.evaluation.name, own.scorer) for own in found}) > 1:
            raise InputError(
                "these logs are of different things: "
                f"{', '.join(f'{own.evaluation.name} by {own.scorer}' for own in found)}"
            )
        other = next((key for own in found for key in asked_otherwise(first, own)), "")
        if other:
            raise InputError(
                f"the sample {other} is asked in other words in these logs; only the same samples can be "
                "paired"
            )
        kept = [place for place, row in enumerate(first.rows) if row.key in shared]
        problems = tuple(first.evaluation.problems[place] for place in kept)
        evaluation = replace(first.evaluation, reading=replace(first.evaluation.reading, rows=problems))
        order = [first.rows[place].key for place in kept]
        paired = {
            (name, evaluation.name): [{row.key: row for row in own.rows}[key] for key in order]
            for name, own in zip(names, found, strict=True)
        }
        told = compared(names, Suite((evaluation,)), paired, seed=options.seed)
        left = {
            f"{name}: samples that not every log holds": len(own.rows) - len(order)
            for name, own in zip(names, found, strict=True)
        }
        return replace(
            told, counts={**told.counts, **{words: count for words, count in left.items() if count}}
        )

    return run_study(replace(options), "logs", {"scorer": options.scorer}, inputs, ", ".join(names), work)


def asked_otherwise(first: Any, second: Any) -> list[str]:
    """The samples that both logs hold in different words."""
    texts = {
        row.key: problem.text
        for row, problem in zip(second.rows, second.evaluation.problems, strict=True)
        if "unscored" not in row.tags
    }
    both = zip(first.rows, first.evaluation.problems, strict=True)
    return [
        row.key
        for row, problem in both
        if "unscored" not in row.tags and texts.get(row.key, problem.text) != problem.text
    ]
