"""Every example runs, on a tiny model that a user might bring."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.paths import ROOT
from tests.tiny import TEMPLATE, write_tiny_llama

SMALL = {"train": 4, "held_out": 4, "max_tokens": 8, "policy_steps": 1, "policy_prompts": 4, "examples": 0}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "align": {"runs": "runs", "rounds": 1, **SMALL},
    "dictionary_and_steering": {"steps": 20},
    "new_study": {"runs": "runs"},
    "own_reward": {"steps": 2},
    "preference_model": {"steps": 3},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_llama(tmp_path_factory.mktemp("tiny"), context=1024, template=TEMPLATE))


def imported(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "examples").glob("*.py")))
def test_an_example_runs(
    name: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = {"measure_and_compare": (model, model), "study_on_another_model": ()}.get(name, (model,))
    imported(name).main(*words, **ARGUMENTS.get(name, {}))
    assert capsys.readouterr().out
