"""The flags of a study: a dataclass, its presets, and values laid over them by a file or a call."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import os
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import transformers
import tyro

from solon.errors import InputError
from solon.models.base import Speaker

Options = TypeVar("Options")
Preset = Literal["quick", "full"]
Precision = Literal["auto", "float32", "bfloat16"]
Model = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
Models = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL ...]")]
RunName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


@dataclass(frozen=True)
class RunOptions:
    """The flags of everything that makes a run."""

    seed: int = 0
    precision: Precision = "auto"
    """of the weights: auto takes the fast one of this machine"""
    runs: Path = Path("runs")
    """where run folders are kept; the same command again goes on from what is there"""
    json: bool = False
    """end with one JSON object on standard output"""
    config: Path | None = None
    """a TOML file of flags, as `solon config RUN` prints one; flags of the command line win"""
    log: Literal["", "tensorboard", "trackio", "wandb"] = ""
    """send the metrics of every training step there too (an extra of that name)"""


@dataclass(frozen=True)
class StudyOptions(RunOptions):
    """The flags that every study has. Each adds its inputs, and `settings` of its own type."""

    preset: Preset = "quick"
    """quick takes minutes on two cores, full has the paper's shape; flags change what either sets"""
    settings: Any = None


def parse(
    kind: type[Options],
    argv: Sequence[str],
    *,
    command: str,
    default: Options | None = None,
    description: str | None = None,
) -> Options:
    """Flags from a dataclass, over those of `--config FILE.toml`, and from nowhere else. Bad flags exit with
    status 2 and a message.
    """
    source = flag_of(argv, "config")
    if source:
        argv = without_flag(argv, "config")
        default = with_values(
            kind() if default is None else default, read_config(Path(source)), source=source
        )
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    config = (tyro.conf.OmitArgPrefixes,)
    prog, args = f"solon {command}", list(argv)
    if default is None:
        return tyro.cli(kind, prog=prog, args=args, config=config, description=description)
    return tyro.cli(kind, prog=prog, args=args, config=config, description=description, default=default)


def flags_of(kind: type[Any]) -> list[str]:
    """Every long flag of a dataclass of options, as --help lists them, the study's settings among them.

    >>> flags_of(RunOptions)
    ['--seed', '--precision', '--runs', '--json', '--config', '--log']
    """
    flags = []
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            flags += [f"--{inner.name.replace('_', '-')}" for inner in dataclasses.fields(hint)]
        elif tyro.conf.Positional not in getattr(hint, "__metadata__", ()):
            flags.append(f"--{field.name.replace('_', '-')}")
    return flags


def flag_of(argv: Sequence[str], name: str, default: str = "") -> str:
    """The last value of a flag, read before all others since it decides what their defaults are.

    >>> flag_of(["smollm2", "--preset", "full"], "preset"), flag_of(["--preset=quick"], "preset")
    ('full', 'quick')
    """
    values = [word.split("=", 1)[1] for word in argv if word.startswith(f"--{name}=")]
    values += [after for word, after in itertools.pairwise(argv) if word == f"--{name}"]
    return values[-1] if values else default


def without_flag(argv: Sequence[str], name: str) -> list[str]:
    """The words without a flag and its value.

    >>> without_flag(["a", "--config", "f.toml", "--seed", "1", "--config=g"], "config")
    ['a', '--seed', '1']
    """
    kept, skip = [], False
    for word in argv:
        if not skip and word != f"--{name}" and not word.startswith(f"--{name}="):
            kept.append(word)
        skip = not skip and word == f"--{name}"
    return kept


def read_config(path: Path) -> dict[str, Any]:
    """A TOML file of flags: their names with - or _, and their values. Raises InputError where it is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"the configuration {path} does not exist") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error


def with_values(options: Options, values: Mapping[str, Any], *, source: str = "") -> Options:
    """The options with values laid over them, by field or, where there is none of that name, by a field of
    their `settings`; lists become tuples, and text a path where a path is expected.

    Raises InputError on a name that is no option, with the nearest ones.

    >>> with_values(RunOptions(), {"seed": 3, "runs": "elsewhere"})
    RunOptions(seed=3, precision='auto', runs=PosixPath('elsewhere'), json=False, config=None, log='')
    """
    assert dataclasses.is_dataclass(options) and not isinstance(options, type)
    settings = getattr(options, "settings", None)
    mine = {field.name: options for field in dataclasses.fields(options) if field.name != "settings"}
    theirs = {field.name: settings for field in dataclasses.fields(settings)} if settings is not None else {}
    changes: dict[str, Any] = {}
    deeper: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in mine and name not in theirs:
            near = difflib.get_close_matches(name, [*mine, *theirs], n=3)
            hint = f"; the nearest are {', '.join(near)}" if near else ""
            raise InputError(f"{source or 'a call'} names {key!r}, which is no option here{hint}")
        (changes if name in mine else deeper)[name] = _typed((mine | theirs)[name], name, value)
    if deeper:
        changes["settings"] = dataclasses.replace(settings, **deeper)  # type: ignore[type-var]
    return dataclasses.replace(options, **changes)


def _typed(owner: Any, name: str, value: Any) -> Any:
    """A value as the field's type has it: tuples for lists, paths for text."""
    hint = get_type_hints(type(owner))[name]
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is tuple:
        values = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_item(get_args(hint)[0], name, item) for item in values)
    return _item(hint, name, value)


def _item(hint: Any, name: str, value: Any) -> Any:
    if hint is Path and isinstance(value, str):
        return Path(value)
    if get_origin(hint) is Literal:
        fits, wanted = value in get_args(hint), " or ".join(map(repr, get_args(hint)))
    else:
        accepted: Any = {bool: bool, int: int, float: (int, float), str: (str, Speaker), Path: Path}.get(
            hint, object
        )
        fits = isinstance(value, accepted) and (hint is bool or not isinstance(value, bool))
        wanted = f"of type {getattr(hint, '__name__', hint)}"
    if not fits:
        raise InputError(f"{name} is {wanted}; found {value!r}")
    return value
