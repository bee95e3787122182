"""What people install: the wheel holds its types and files, and runs a study where there is no checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.paths import ROOT

pytestmark = [pytest.mark.extra, pytest.mark.timeout(600)]


def done(*words: str, folder: Path) -> str:
    """What a command prints, without this checkout on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return ended.stdout


def test_a_built_wheel_installs_and_runs_a_study(tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--quiet")
    done(*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT), folder=tmp_path)
    wheel = next(tmp_path.glob("solon-*.whl"))
    kept = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "solon"
    files = {path.relative_to(ROOT).as_posix() for path in source.rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert files <= kept and {"solon/py.typed", "solon/__init__.pyi"} <= kept
    # libraries are this environment's; what is looked for first is the wheel's
    venv.create(tmp_path / "fresh")
    fresh = tmp_path / "fresh" / "bin" / "python"
    done(*pip, "--python", str(fresh), "install", "--no-deps", str(wheel), folder=tmp_path)
    packages = next((tmp_path / "fresh" / "lib").glob("python*/site-packages"))
    (packages / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    where = done(str(fresh), "-c", "import solon; print(solon.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(packages)
    door = str(tmp_path / "fresh" / "bin" / "solon")
    done(door, "run", "self_correction", "--runs", str(tmp_path / "runs"), folder=tmp_path)
    assert next((tmp_path / "runs").rglob("report.html")).stat().st_size > 0
