"""One way for every study to run: from flags to a report, in one process or several.

A study is a value (`Study`): its name, its flags, its presets, what reads its inputs, and the function that
does the work. `main` runs it from a command line, `run_study` from Python; both keep a run folder, which the
same call goes on with after it was stopped.
"""

from __future__ import annotations

import importlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
import transformers

from solon import __version__
from solon.data.published import ParsedFile
from solon.errors import InputError
from solon.models.base import Speaker
from solon.models.load import load_open
from solon.models.torch_model import TorchModel
from solon.records import index
from solon.records.files import write_text
from solon.records.page import page
from solon.records.progress import silent, spoken
from solon.records.report import Report, markdown, terminal
from solon.records.run import Run
from solon.records.sinks import open_sink
from solon.study import console
from solon.study.console import answer, finite, interruptible, say
from solon.study.fingerprint import fingerprint
from solon.study.options import (
    RunOptions,
    StudyOptions,
    flag_of,
    parse,
    read_config,
    with_values,
    without_flag,
)
from solon.study.paper import Need, missing, papers
from solon.study.settings import named_settings
from solon.training.parallel import SINGLE_PROCESS, World, init_distributed, shutdown
from solon.words.conversation import Conversation

OptionsT = TypeVar("OptionsT", bound=StudyOptions)
SettingsT = TypeVar("SettingsT")
InputsT = TypeVar("InputsT")
TOY = "toy"  # the model's name that asks for the study's own offline inputs
EXPORTS = ("model", "adapter", "preference_model")  # what a run may leave for other libraries


@dataclass(frozen=True, slots=True, kw_only=True)
class Study(Generic[OptionsT, SettingsT, InputsT]):
    """A paper's experiment. `options` is the dataclass of its flags, with a field `settings` of SettingsT.

    `inputs(options)` reads and checks everything before anything runs, and counts what it leaves out.
    `study(run, settings, inputs)` does the work and returns the report. `subject(inputs)` is what the list of
    runs names. `toy` has the settings of the study's own offline inputs, which the model "toy" asks for.
    `preview(options)` is the text to print instead of a run where the flags ask for one, else "".
    """

    name: str
    options: type[OptionsT]
    quick: Callable[[], SettingsT]
    full: Callable[[], SettingsT]
    inputs: Callable[[OptionsT], InputsT]
    study: Callable[[Run, SettingsT, InputsT], Report]
    subject: Callable[[InputsT], str]
    toy: Callable[[], SettingsT] | None = None
    preview: Callable[[OptionsT], str] | None = None

    def defaults(self, preset: str) -> OptionsT:
        """The flags of a preset: "quick", "full", or "toy", which is quick on the study's own inputs."""
        settings = {"quick": self.quick, "full": self.full, "toy": self.toy or self.quick}[preset]()
        return self.options(preset="full" if preset == "full" else "quick", settings=settings)


@dataclass(frozen=True, slots=True)
class Finished:
    """What a run came to: its report, its folder, and how long it took (seconds, this attempt alone)."""

    report: Report
    folder: Path
    seconds: float


def study_of(name: str) -> Study[Any, Any, Any]:
    """The study of that folder. Raises InputError, with the nearest names, where there is none that runs."""
    study: Study[Any, Any, Any] = importlib.import_module(f"solon.studies.{name}.study").STUDY
    return study


def main(study: Study[OptionsT, SettingsT, InputsT], argv: Sequence[str], *, command: str = "") -> int:
    """A study from the command line to a report in the terminal. Returns the exit status."""
    options = parse_options(study, argv, command=command or f"run {study.name}")
    preview = study.preview(options) if study.preview is not None else ""
    if preview:
        print(preview)
        return 0
    with init_distributed() as world:
        finished = run_study(
            study, options, world=world, argv=["solon", *(command or f"run {study.name}").split(), *argv]
        )
        status = 0 if world.rank else show(study.name, finished, options, as_json=options.json)
    return shutdown(status)


def parse_options(study: Study[OptionsT, Any, Any], argv: Sequence[str], *, command: str) -> OptionsT:
    """The flags of a study, over `--config FILE.toml`, over a preset.

    Which preset, and whether the study's own offline inputs are meant, decides what the other flags default
    to, so it is read first.
    """
    words, config = without_flag(argv, "config"), flag_of(argv, "config")
    values = read_config(Path(config)) if config else {}
    preset = flag_of(words, "preset", str(values.get("preset", "quick")))

    def parsed(preset: str) -> OptionsT:
        default = with_values(study.defaults(preset), values, source=config)
        text = description(study)
        return parse(study.options, words, command=command, default=default, description=text)

    options = parsed("full" if preset == "full" else "quick")
    return parsed("toy") if study.toy is not None and is_toy(options) and preset != "full" else options


def description(study: Study[Any, Any, Any]) -> str:
    """What --help says above the flags: the study, its paper, and the files that it needs."""
    lines = [" ".join((study.options.__doc__ or "").split())]
    paper = papers().get(study.name)
    if paper is not None:
        lines += [f"{paper.title} ({paper.source})."]
        lines += [f"Without a model: {paper.offline}."] if paper.offline else []
        lines += ["Needs " + "; ".join(map(str, paper.needs)) + "."] if paper.needs else []
    return "\n\n".join(lines)


def is_toy(options: StudyOptions) -> bool:
    """Whether the flags ask for the study's own offline inputs."""
    values = vars(options)
    return values.get("model") == TOY or values.get("models") == (TOY,)


def check_needs(options: StudyOptions, needs: Sequence[Need]) -> tuple[str, ...]:
    """What will not be run for want of an input. Raises InputError where a required one is missing."""
    values = vars(options)
    absent = [need for need in needs if values[need.flag] in (None, (), "")]
    required = [need for need in absent if not need.skipped]
    if required:
        raise missing(required)
    return tuple(f"{need.skipped}; give {need}" for need in absent)


def run_study(
    study: Study[OptionsT, SettingsT, InputsT],
    options: OptionsT,
    *,
    world: World = SINGLE_PROCESS,
    argv: Sequence[str] = (),
) -> Finished:
    """One run of a study, from its inputs to its report, begun or gone on with.

    In a `world` of several processes each calls this; the first writes and speaks.
    Raises InputError on inputs that are missing or cannot be used, before anything runs.
    """
    paper = papers().get(study.name)
    needs = () if paper is None or is_toy(options) else paper.needs
    skipped = check_needs(options, needs)
    inputs = study.inputs(options)

    def work(run: Run) -> Report:
        return replace(study.study(run, options.settings, inputs), skipped=skipped)

    return conduct(
        study.name,
        options,
        work,
        settings=named_settings(options.settings),
        inputs=fingerprint(inputs),
        subject=study.subject(inputs),
        world=world,
        argv=argv,
    )


def conduct(
    name: str,
    options: RunOptions,
    work: Callable[[Run], Report],
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    subject: str,
    world: World = SINGLE_PROCESS,
    argv: Sequence[str] = (),
) -> Finished:
    """One run from its folder to its report: begun or gone on with, listed, and kept in three forms.

    `inputs` are fingerprints; `subject` is what the list of runs shows.
    """
    first, began = not world.rank, time.monotonic()
    preset = options.preset if isinstance(options, StudyOptions) else ""
    with (
        interruptible() as stop,
        Run.open(
            options.runs,
            name,
            settings,
            inputs,
            seed=options.seed,
            facts=run_metadata(options, subject, argv),
            progress=spoken() if first else silent,
            stop=stop,
            say=say if first else console.silent,
            world=world,
        ) as run,
    ):
        if first:
            say(f"run folder {run.folder}")
            index.began(
                options.runs,
                run.folder,
                study=name,
                preset=preset,
                seed=options.seed,
                model=subject,
                started=time.time(),
            )
        config = {"study": name, "seed": options.seed, "settings": dict(settings)}
        with open_sink(options.log if first else "", run.folder, config) as sink:
            report = work(replace(run, sink=sink))
        seconds = round(time.monotonic() - began, 1)
        if first:
            write_report(report, run.folder)
            claims = [finite(claim.row()) for claim in report.claims]
            index.ended(options.runs, run.folder, seconds=seconds, claims=claims)
    return Finished(replace(report, folder=str(run.folder)), run.folder, seconds)


def show(name: str, finished: Finished, options: RunOptions, *, as_json: bool) -> int:
    """The report for a person or, as one JSON object, for a machine. Returns 0."""
    folder = finished.folder
    result = {
        "study": name,
        "preset": options.preset if isinstance(options, StudyOptions) else "",
        "seed": options.seed,
        "seconds": finished.seconds,
        "run": str(folder),
        "claims": [claim.row() for claim in finished.report.claims],
    }
    kept = [f"{export:<7} {folder / export}" for export in EXPORTS if (folder / export).exists()]
    human = [terminal(finished.report), "", f"report  {folder / 'report.html'}", *kept]
    return answer(result, "\n".join(human), as_json=as_json)


def write_report(report: Report, folder: Path) -> None:
    """The report in its three forms: report.json, report.md, report.html."""
    text = json.dumps(finite(report.as_dict()), indent=1, ensure_ascii=False)
    write_text(folder / "report.json", text + "\n")
    write_text(folder / "report.md", markdown(report))
    write_text(folder / "report.html", page(report))


def run_metadata(options: RunOptions, subject: str, argv: Sequence[str]) -> dict[str, Any]:
    """What run.json records beside what names a run: the command, the flags, the versions and the commit."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    versions = {
        "solon": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": sys.version.split()[0],
    }
    return {
        "model": subject,
        "preset": options.preset if isinstance(options, StudyOptions) else "",
        "command": shlex.join(argv),
        "options": {name: _plain(value) for name, value in vars(options).items()},
        "threads": torch.get_num_threads(),
        "commit": commit,
        "versions": versions,
    }


def _plain(value: Any) -> Any:
    """A flag's value as JSON: settings as an object, an open model by its name, a path as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value.name if isinstance(value, Speaker) else str(value) if isinstance(value, Path) else value


# what several studies' inputs share


@dataclass(frozen=True, slots=True)
class NoInputs:
    """The inputs of a study that reads nothing and makes all it works on from its seed."""


def open_models(names: Sequence[str], precision: str) -> tuple[TorchModel, ...]:
    """Models to set side by side, by name, or as they are where they are open already.

    Raises InputError where two would stand under one name.
    """
    models = tuple(open_model(name, precision) for name in names)
    if len({model.name for model in models}) < len(models):
        listed = ", ".join(model.name for model in models)
        raise InputError(f"two models have one name: {listed}; rename a folder")
    return models


def open_model(name: str | TorchModel, precision: str) -> TorchModel:
    """A model by its name, or as it is where it is open already."""
    return name if isinstance(name, TorchModel) else load_open(name, precision=precision, say=say)


def readable(model: TorchModel, prompt: Conversation, *, max_tokens: int) -> bool:
    """Whether a model can read a prompt and reply: it fits, the template takes it, and it spells no special
    token.
    """
    try:
        return model.fits(prompt, max_tokens=max_tokens)
    except InputError:
        return False


def skipped_counts(reading: ParsedFile[Any], role: str) -> dict[str, int]:
    """What a reading left out and why, for the report's counts."""
    return {f"{role} left out while reading: {reason}": count for reason, count in reading.counts().items()}
