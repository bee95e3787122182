"""`solon doctor`: what this machine and this installation can do, and what to do about what they cannot."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from solon import __version__
from solon.models.backbones.backbone import fast_precision
from solon.models.embedded import PACKAGES, cached, home
from solon.study.console import answer
from solon.study.options import parse

NEEDED = (
    "torch",
    "transformers",
    "safetensors",
    "tyro",
    "numpy",
    "scipy",
    "pyarrow",
    "httpx",
    "matplotlib",
    "gguf",
    "accelerate",
)
EXTRA = ("peft", "trl")


@dataclass(frozen=True)
class Options:
    """Check versions, processor, memory, disk and the model cache."""

    json: bool = False


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="doctor")
    found = facts()
    lines = [f"{name:<22} {value}" for name, value in found["facts"].items()]
    lines += [f"! {problem}" for problem in found["problems"]] or ["everything needed is here"]
    return answer(found, "\n".join(lines), as_json=options.json)


def facts() -> dict[str, Any]:
    """What was found, and problems each with what to do."""
    versions = {name: version(name) for name in (*NEEDED, *EXTRA)}
    place = home()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    known = {
        "solon": __version__,
        "python": sys.version.split()[0],
        **{name: found or "not installed" for name, found in versions.items()},
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads",
        "fast precision": str(fast_precision()).removeprefix("torch."),
        "matrix product": f"{speed():.0f} GFLOP/s",
        "memory": f"{memory:.1f} GiB",
        "free disk": f"{free:.1f} GiB",
        "model cache": str(home()),
        "models cached": ", ".join(name for name in PACKAGES if cached(name)) or "none yet",
    }
    problems = [f"{name} is not installed: install Solon again" for name in NEEDED if versions[name] is None]
    if memory < 6:
        problems.append(f"{memory:.1f} GiB of memory: the demo needs 6")
    if free < 5:
        problems.append(
            f"{free:.1f} GiB free at {place}: a run on smollm2 writes about 2, the cache about 2; set "
            "SOLON_HOME or --runs elsewhere"
        )
    if not os.access(place, os.W_OK):
        problems.append(f"{place} cannot be written: set SOLON_HOME to a folder that can")
    return {"facts": known, "problems": problems}


def version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def speed() -> float:
    """GFLOP/s of one matrix product in the fast precision."""
    a = torch.randn(1024, 1024).to(fast_precision())
    a @ a
    began = time.perf_counter()
    for _ in range(5):
        a @ a
    return 5 * 2 * 1024**3 / (time.perf_counter() - began) / 1e9
