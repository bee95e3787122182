"""Where tests find the project, published data beside it, which some machines have and others lack, and the
toy models that a session trained.
"""

import hashlib
import os
import platform
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT.parent / "shared" / "data"
KEPT = "SOLON_TEST_MODELS"  # in the environment, which workers and started processes inherit
DECIDES = ("words", "data", "models", "training", "studies/know_what_they_know/toy_facts.py")


def models_of(cache: Path) -> Path:
    """The folder of the models that this source makes on this processor."""
    found = hashlib.sha256(f"{torch.__version__} {platform.machine()}".encode())
    found.update(torch.backends.cpu.get_cpu_capability().encode())
    for path in [Path(__file__).parent / "toy.py", *(ROOT / "solon" / name for name in DECIDES)]:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            found.update(file.read_bytes())
    return cache / found.hexdigest()[:16]


def kept_models() -> Path:
    """Where a session keeps the models that it trained (set by `conftest.py`)."""
    return Path(os.environ[KEPT])
