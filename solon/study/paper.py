"""What is true of a paper's study here, known without torch: what it needs, what works, what is missing."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from solon.errors import InputError

FOLDER = Path(__file__).parents[1] / "studies"


@dataclass(frozen=True, slots=True)
class Need:
    """An input that the user brings: its flag, what is expected, where one gets it, and what is not run
    without it. A need without `skipped` is required: without it the study refuses to begin.
    """

    flag: str
    what: str
    where: str
    skipped: str = ""

    def __str__(self) -> str:
        return f"--{self.flag.replace('_', '-')}: {self.what} ({self.where})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """One paper: `works` and `lacks` say in words what can be used today and what cannot; `offline` says what
    runs without a model or a file.
    """

    title: str
    arxiv: str
    works: str = ""
    lacks: str = "everything"
    offline: str = ""
    needs: tuple[Need, ...] = ()

    @property
    def source(self) -> str:
        return f"arXiv:{self.arxiv}"


@cache
def papers() -> dict[str, Paper]:
    """Every folder of `solon.studies` and its paper, the oldest paper first. Imports no study, and no torch.

    >>> papers()["few_shot"].arxiv
    '2005.14165'
    """
    names = [module.name for module in pkgutil.iter_modules([str(FOLDER)])]
    known = {name: importlib.import_module(f"solon.studies.{name}.paper").PAPER for name in names}
    return dict(sorted(known.items(), key=lambda item: (item[1].arxiv, item[0])))


def runs(name: str) -> bool:
    """Whether the study runs: its folder holds study.py."""
    return find_spec(f"solon.studies.{name}.study") is not None


def state(name: str) -> str:
    """ "runs", "partly" (a part works as a library) or "planned"."""
    return "runs" if runs(name) else "partly" if papers()[name].works else "planned"


def missing(needs: Iterable[Need]) -> InputError:
    """The error that says which inputs are missing, what each is and where one gets it."""
    listed = "".join(f"\n  {need}" for need in needs)
    return InputError(f"this study needs files that were not given:{listed}")
