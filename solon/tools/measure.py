"""A model, or several, on evaluations: outcomes kept by content, one report, or a paired comparison."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from solon.data.evaluations import read_evaluations
from solon.errors import InputError
from solon.models.torch_model import TorchModel
from solon.records.report import Report
from solon.records.run import Run, digest
from solon.study.comparing import compared
from solon.study.conduct import Finished, conduct, open_models
from solon.study.console import say
from solon.study.fingerprint import model_key
from solon.study.measurement import report
from solon.study.options import RunOptions
from solon.study.outcomes import Form, Rows, Suite, counted, form_of, measured


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
class Options(RunOptions, Measuring):
    """Recognise published evaluation formats, measure a model on them, and keep raw outcomes that can be
    scored again without it.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[FILE ...]")] = ()
    """files or folders of evaluations; or Inspect logs (.eval), which need no model, several of them being
    paired sample by sample
    """
    model: str = ""
    """smollm2, gemma3-270m, a model folder, or a hub id"""
    against: str = ""
    """another model, to be compared item by item"""
    scorer: str = ""
    """of Inspect logs that have several"""


def measure(
    options: RunOptions,
    how: Measuring,
    names: Sequence[str],
    paths: Sequence[Path],
    *,
    argv: Sequence[str] = (),
) -> Finished:
    """One model's report, or the comparison of several, the first being what the others are held against."""
    evaluations = Suite(tuple(read_evaluations(paths)), how.shots, how.limit, options.seed)
    write = None if how.inspect_logs is None else inspect_extra().write_log
    models = open_models(names, options.precision)
    settings = {"shots": how.shots, "limit": how.limit, "form": how.form, "truncate": how.truncate}
    inputs = {
        "suite": digest([(evaluation.name, evaluation.digest) for evaluation in evaluations.evaluations])
    }
    inputs |= {f"model {number}": model_key(model) for number, model in enumerate(models)}

    def work(run: Run) -> Report:
        rows = {
            (model.name, evaluation.name): measured(
                options.runs,
                model,
                evaluation,
                evaluations,
                form=how.form,
                truncate=how.truncate,
                progress=run.progress,
                stop=run.stop,
                say=say,
            )
            for evaluation in evaluations.evaluations
            for model in models
        }
        if write is not None and how.inspect_logs is not None:
            for model in models:
                for evaluation in evaluations.evaluations:
                    path = how.inspect_logs / f"{_file_name(model.name, evaluation.name)}.eval"
                    examples, problems = evaluations.drawn(evaluation)
                    about = {**settings, "form": form_of(model, evaluation, how.form)}
                    about |= {"fingerprint": model.fingerprint}
                    outcomes = rows[model.name, evaluation.name]
                    write(
                        path, evaluation, problems, outcomes, model=model.name, examples=examples, about=about
                    )
                    say(f"wrote {path}")
        if len(models) > 1:
            return compared([model.name for model in models], evaluations, rows, seed=options.seed)
        return one_model(models[0], evaluations, rows, how, seed=options.seed)

    subject = ", ".join(model.name for model in models)
    name = "measure" if len(models) == 1 else "compare"
    return conduct(name, options, work, settings=settings, inputs=inputs, subject=subject, argv=argv)


def one_model(
    model: TorchModel, evaluations: Suite, rows: dict[tuple[str, str], Rows], how: Measuring, *, seed: int
) -> Report:
    """The report of one model on every evaluation of a suite."""
    asked = {
        f"form of {evaluation.name}": form_of(model, evaluation, how.form)
        for evaluation in evaluations.evaluations
    }
    parts = [
        (evaluation, outcomes, counted(evaluation, evaluations, outcomes))
        for evaluation in evaluations.evaluations
        for outcomes in [rows[model.name, evaluation.name]]
    ]
    return report(model.name, parts, asked | {"worked examples": str(how.shots)}, seed=seed)


def inspect_extra() -> Any:
    """The module that reads and writes Inspect's logs. Raises InputError where Inspect is not installed."""
    if importlib.util.find_spec("inspect_ai") is None:
        raise InputError("Inspect's logs need inspect_ai: pip install 'solon[inspect]'")
    return importlib.import_module("solon.evaluation.inspect_logs")


def _file_name(*names: str) -> str:
    return "_".join(" ".join(names).replace("/", " ").split())
