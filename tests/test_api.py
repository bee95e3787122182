"""The short way in from Python: fast to import, one list of names, the same numbers as the command."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import solon
from solon.cli import main
from tests.paths import ROOT
from tests.tiny import write_tiny_llama

ROWS = [{"question": f"is door {n} open ?", "choices": ["sure", "sorry"], "answer": n % 2} for n in range(8)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("models"))


def test_importing_solon_takes_no_torch_and_no_time() -> None:
    code = (
        "import time; began = time.monotonic(); import solon; print(time.monotonic() - began); import sys; "
    )
    code += "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    taken = [float(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)) for _ in range(3)]
    assert min(taken) < 0.3


def test_the_face_and_its_types_are_one_list() -> None:
    stub = ast.parse((ROOT / "solon" / "__init__.pyi").read_text())
    typed = {node.names[0].name: node.module for node in ast.walk(stub) if isinstance(node, ast.ImportFrom)}
    assert typed == solon.FACE
    for name in solon.FACE:
        if name != "frame":  # pandas is an extra
            assert getattr(solon, name).__name__ == name
    with pytest.raises(AttributeError, match="it has load"):
        solon.lod  # noqa: B018


def test_a_study_from_python_gives_what_the_command_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = solon.run("self_correction", students=20, questions=16, runs=str(tmp_path / "python"))
    words = [
        "run",
        "self_correction",
        "--students",
        "20",
        "--questions",
        "16",
        "--runs",
        str(tmp_path / "door"),
    ]
    assert main([*words, "--json"]) == 0
    claims = json.loads(capsys.readouterr().out.splitlines()[-1])["claims"]
    assert claims == [claim.row() for claim in report.claims]
    assert "<table>" in report._repr_html_() and Path(report.folder, "report.html").exists()


def test_a_configuration_is_printed_and_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "run",
        "self_correction",
        "--students",
        "20",
        "--questions",
        "16",
        "--runs",
        str(tmp_path),
        "--json",
    ]
    assert main(words) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert main(["config", Path(first["run"]).name, "--runs", str(tmp_path)]) == 0
    config = tmp_path / "mine.toml"
    config.write_text(capsys.readouterr().out)
    assert "students = 20" in config.read_text()
    assert main(["run", "self_correction", "--config", str(config), "--runs", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["run"] == first["run"]
    assert main([*words, "--config", str(config), "--students", "21"]) == 0  # a flag wins
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["run"] != first["run"]
    config.write_text("studnets = 3\n")
    assert main(["run", "self_correction", "--config", str(config), "--runs", str(tmp_path)]) == 2
    assert "nearest are students" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("study", "options", "says"),
    [
        ("few_shots", {}, "few_shot"),
        ("self_correction", {"student": 3}, "students"),
        ("self_correction", {"students": "many"}, "students is of type int"),
        ("self_correction", {"models": ["smollm2"]}, "--bias"),
    ],
)
def test_bad_calls_say_what_to_do(study: str, options: dict[str, object], says: str, tmp_path: Path) -> None:
    with pytest.raises(solon.InputError, match=says):
        solon.run(study, runs=str(tmp_path), **options)


def test_a_model_is_evaluated_in_memory_as_through_the_door(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "doors.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    evaluated = solon.evaluate(solon.load(str(model)), path, progress=False)
    assert (
        main(["measure", str(path), "--model", str(model), "--runs", str(tmp_path / "runs"), "--json"]) == 0
    )
    claims = json.loads(capsys.readouterr().out.splitlines()[-1])["claims"]
    assert evaluated.accuracy.value in [claim["found"] for claim in claims]
    assert evaluated.accuracy.n == len(ROWS) and "accuracy" in str(evaluated.scores)


@pytest.mark.extra
def test_rows_and_claims_are_data_frames(tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="pandas is an extra: pip install 'solon[frames]'")
    report = solon.run("self_correction", students=20, questions=16, runs=str(tmp_path))
    assert list(solon.frame(report)["name"]) == [claim.name for claim in report.claims]
    stage = next(Path(report.folder).glob("admissions*.jsonl")).stem
    assert len(solon.frame(report, stage)) == 40
    with pytest.raises(solon.InputError, match="it has admissions"):
        solon.frame(report, "nothing")
