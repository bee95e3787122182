"""What several commands share: parsing, quiet libraries, Ctrl-C that keeps the work, one JSON line at the
end.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, TypeVar

import torch
import transformers
import tyro

from solon import __version__
from solon.data.published import ParsedFile
from solon.errors import InputError
from solon.models.base import Speaker
from solon.models.load import load_open
from solon.models.torch_model import TorchModel
from solon.records import index
from solon.records.files import write_text
from solon.records.page import page
from solon.records.progress import spoken
from solon.records.report import Report, markdown, terminal
from solon.records.run import Run
from solon.words.conversation import Conversation

Options = TypeVar("Options")


def parse(
    kind: type[Options], argv: Sequence[str], *, command: str, default: Options | None = None
) -> Options:
    """Flags from a dataclass and from nowhere else. Bad flags exit with status 2 and a message."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    config = (tyro.conf.OmitArgPrefixes,)
    if default is None:
        return tyro.cli(kind, prog=f"solon {command}", args=list(argv), config=config)
    return tyro.cli(kind, prog=f"solon {command}", args=list(argv), default=default, config=config)


def say(words: str) -> None:
    """A line for the person, out of the way of what a machine reads."""
    print(words, file=sys.stderr, flush=True)


def answer(found: dict[str, Any], human: str, *, as_json: bool) -> int:
    """Print for a person, or as the last line one JSON object. Infinite numbers become null."""
    human = printable(human)
    if not as_json:
        print(human)
        return 0
    say(human)
    print(json.dumps(finite(found), ensure_ascii=False), flush=True)
    return 0


def finite(value: Any) -> Any:
    """The same with NaN and infinity as None, which JSON can hold.

    >>> finite({"low": float("-inf"), "n": 1})
    {'low': None, 'n': 1}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(own) for key, own in value.items()}
    return [finite(own) for own in value] if isinstance(value, (list, tuple)) else value


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yields a function that turns true after the first Ctrl-C (or TERM): the work ends at the next row or
    step, kept.

    A second Ctrl-C ends it at once; rows and checkpoints on disk stay.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        say("\nstopping at the next row or step; once more to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def parse_with_preset(
    kind: type[Options],
    argv: Sequence[str],
    *,
    command: str,
    quick: Options,
    full: Options,
    toy: Options,
    is_toy: Callable[[Options], bool],
) -> Options:
    """The flags over a preset's settings. Which preset, and whether the toy world is meant, is read first: it
    has a quick preset of its own. A model is named first or, at the cost of the toy's checks, anywhere.
    """
    if preset_of(argv) == "full":
        return parse(kind, argv, command=command, default=full)
    if argv and not argv[0].startswith("-"):
        model_key = parse(kind, argv, command=command, default=quick)
        return parse(kind, argv, command=command, default=toy) if is_toy(model_key) else model_key
    options = parse(kind, argv, command=command, default=toy)
    return options if is_toy(options) else parse(kind, argv, command=command, default=quick)


def preset_of(argv: Sequence[str]) -> Literal["quick", "full"]:
    """The preset is read first, since it is what the other flags' defaults are.

    >>> preset_of(["smollm2", "--preset", "full"]), preset_of(["--preset=quick"]), preset_of([])
    ('full', 'quick', 'quick')
    """
    flags = [word.split("=", 1)[1] for word in argv if word.startswith("--preset=")]
    flags += [after for word, after in itertools.pairwise(argv) if word == "--preset"]
    return "full" if flags[-1:] == ["full"] else "quick"


def readable(model: TorchModel, prompt: Conversation, *, max_tokens: int) -> bool:
    """Whether a model can read a prompt and reply: it fits, its template takes it, and it spells no special
    token.
    """
    try:
        return model.fits(prompt, max_tokens=max_tokens)
    except InputError:
        return False


def open_models(
    names: Sequence[str], precision: Literal["auto", "float32", "bfloat16"]
) -> tuple[TorchModel, ...]:
    """Models to set side by side. Raises InputError where two would stand under one name."""
    models = tuple(load_open(name, precision=precision, say=say) for name in names)
    if len({model.name for model in models}) < len(models):
        raise InputError(
            f"two models have one name: {', '.join(model.name for model in models)}; rename a folder"
        )
    return models


def model_key(model: Speaker) -> str:
    """What names a model in a run: its weights and its chat template, or of a script its name."""
    if not isinstance(model, TorchModel):
        return f"script {model.name}, solon {__version__}"
    # other words are another question
    template = getattr(getattr(model.dialogue, "tokenizer", None), "chat_template", None)
    return (
        f"{model.fingerprint} {hashlib.sha256(repr(template).encode()).hexdigest()[:8]}"
        if template
        else model.fingerprint
    )


def content_hash(path: Path) -> str:
    """A hash of a file's bytes, or of all files in a folder: what names it in a run."""
    files = sorted(own for own in path.rglob("*") if own.is_file()) if path.is_dir() else [path]
    whole = hashlib.sha256()
    for own in files:
        with own.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:16]


def skipped_counts(reading: ParsedFile[Any], role: str) -> dict[str, int]:
    """What a reading left out, for the report."""
    return {f"{role} left out while reading: {reason}": count for reason, count in reading.counts().items()}


def run_metadata(model: str, preset: str) -> dict[str, Any]:
    """What is recorded of a run beside what names it."""
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    versions = {
        "solon": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": sys.version.split()[0],
    }
    return {
        "model": model,
        "preset": preset,
        "threads": torch.get_num_threads(),
        "commit": commit,
        "versions": versions,
    }


@dataclass(frozen=True)
class StudyOptions:
    """The flags that every study's command has."""

    preset: Literal["quick", "full"] = "quick"
    """quick is minutes on two cores, full the paper's shape; every setting below can be changed on top"""
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    runs: Path = Path("runs")
    """where run folders are kept; the same command again goes on from what is there"""
    json: bool = False
    """end with one JSON object on standard output"""


def run_study(
    options: StudyOptions,
    study: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    model: str,
    work: Callable[[Run], Report],
) -> int:
    """One run of a study from its folder to its report: begun or gone on with, listed, kept in three forms,
    and answered.

    `inputs` are content hashes, `model` is the name that the list of runs shows.
    """
    began = time.monotonic()
    with (
        interruptible() as stop,
        Run.open(
            options.runs,
            study,
            settings,
            inputs,
            seed=options.seed,
            facts=run_metadata(model, options.preset),
            progress=spoken(),
            stop=stop,
            say=say,
        ) as run,
    ):
        say(f"run folder {run.folder}")
        index.began(
            options.runs,
            run.folder,
            study=study,
            preset=options.preset,
            seed=options.seed,
            model=model,
            started=time.time(),
        )
        report = work(run)
        write_report(report, run.folder)
        seconds = round(time.monotonic() - began, 1)
        claims = [finite(claim.row()) for claim in report.claims]
        index.ended(options.runs, run.folder, seconds=seconds, claims=claims)
    found = {
        "study": study,
        "preset": options.preset,
        "seed": options.seed,
        "seconds": seconds,
        "run": str(run.folder),
        "claims": claims,
    }
    return answer(found, f"{terminal(report)}\n\nreport  {run.folder / 'report.html'}", as_json=options.json)


def write_report(report: Report, folder: Path) -> None:
    """The report in its three forms."""
    write_text(
        folder / "report.json", json.dumps(finite(report.as_dict()), indent=1, ensure_ascii=False) + "\n"
    )
    write_text(folder / "report.md", markdown(report))
    write_text(folder / "report.html", page(report))


def printable(text: str) -> str:
    """Text that cannot steer a terminal: control characters but newline and tab are shown, not obeyed.

    >>> printable("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else repr(letter)[1:-1] for letter in text
    )
