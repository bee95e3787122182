"""`solon measure PATH... --model M [--against N]`: what a model knows and how it behaves, on published evaluations and your own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from solon.commands.common import StudyOptions, conducted, opened, parse, say
from solon.data.evaluations import suite
from solon.errors import InputError
from solon.records.report import Report
from solon.records.run import Run, digest
from solon.studies.comparing import compared
from solon.studies.measuring import Form, Suite, counted, form_of, measured
from solon.studies.measuring_report import report


@dataclass(frozen=True)
class Measuring:
    """How models are asked; `solon measure` and `solon compare --on` take the same."""

    shots: int = 0
    """worked examples before each problem, drawn from the same file and then not asked"""
    limit: int = 0
    """problems of each evaluation, drawn by seed; 0 takes all"""
    form: Form = "auto"
    """dialogue: the model's chat template, or Human and Assistant; text: plain text; auto: text only for models without a template"""
    truncate: bool = False
    """cut prompts that do not fit the context on the left, counted, instead of refusing them"""


@dataclass(frozen=True)
class Options(StudyOptions, Measuring):
    """Recognise published evaluation formats, measure a model on them, and keep raw outcomes that can be scored again without it."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """files or folders of evaluations"""
    model: str = ""
    """smollm2, gemma3-270m, a model folder, or a hub id"""
    against: str = ""
    """another model, to be compared item by item"""
    preset: Annotated[Literal["quick", "full"], tyro.conf.Suppress] = "quick"


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="measure")
    if not options.paths or not options.model:
        raise InputError("solon measure needs files or folders, and --model; `solon measure --help` lists the options")
    names = [options.model, options.against] if options.against else [options.model]
    return measure(options, options, names, options.paths)


def measure(options: StudyOptions, how: Measuring, names: Sequence[str], paths: Sequence[Path]) -> int:
    """One model's report, or the comparison of several, the first being the one that the others are held against."""
    wanted = Suite(tuple(suite(paths)), how.shots, how.limit, options.seed)
    models = opened(names, options.precision)
    settings = {"shots": how.shots, "limit": how.limit, "form": how.form, "truncate": how.truncate}
    inputs = {"suite": digest([(own.name, own.digest) for own in wanted.evaluations]), **{f"model {n}": m.fingerprint for n, m in enumerate(models)}}

    def work(run: Run) -> Report:
        rows = {
            (model.name, own.name): measured(
                options.runs, model, own, wanted, form=how.form, truncate=how.truncate, progress=run.progress, stop=run.stop, say=say
            )
            for own in wanted.evaluations
            for model in models
        }
        if len(models) > 1:
            return compared([model.name for model in models], wanted, rows, seed=options.seed)
        model = models[0]
        spoken = {own.name: form_of(model, own, how.form) for own in wanted.evaluations}
        told = {f"form of {name}": words for name, words in spoken.items()} | {"worked examples": str(how.shots)}
        parts = [(own, rows[model.name, own.name], counted(own, wanted, rows[model.name, own.name])) for own in wanted.evaluations]
        return report(model.name, parts, told, seed=options.seed)

    study = "measure" if len(models) == 1 else "compare"
    return conducted(replace(options), study, settings, inputs, ", ".join(model.name for model in models), work)
