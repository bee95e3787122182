"""The door: fast help, clear errors, one JSON object last, and the whole job through it."""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from solon.cli import COMMANDS, main
from solon.models.backbones.small_files import save_small
from solon.study.paper import papers, runs
from tests.tiny import TEMPLATE, write_tiny_llama
from tests.toy import speaker


def solon(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "solon", *words], capture_output=True, text=True, env=os.environ | more
    )


def test_help_is_fast_and_imports_no_torch() -> None:
    best = 9.0
    for _ in range(3):
        began = time.monotonic()
        done = solon("--help")
        best = min(best, time.monotonic() - began)
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)
    assert best < 0.5
    code = (
        "import sys; from solon.cli import main; main(['--help']); main(['studies']); sys.exit('torch' "
        "in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_unknown_commands_and_studies_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frobnicate"]) == 2
    assert "frobnicate" in capsys.readouterr().err
    assert main(["run", "nothing"]) == 2
    assert main(["run", "scaling_laws"]) == 2
    assert "does not run yet" in capsys.readouterr().err
    assert main(["studies", "--wrong"]) == 2
    assert main(["--version"]) == 0


def test_every_paper_is_listed_with_its_state(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studies", "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(last["studies"]) == len(papers()) >= 30
    assert {paper["state"] for paper in last["studies"]} <= {"runs", "partly", "planned"}
    assert all(paper.works for name, paper in papers().items() if runs(name))


@pytest.fixture(scope="module")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "toy"
    save_small(speaker(0), folder)
    return folder


def test_sample_and_score_answer_people_and_machines(
    toy_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "sample",
                str(toy_model),
                "how do i open the door",
                "--count",
                "2",
                "--max-tokens",
                "8",
                "--json",
            ]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(found["rows"][0]["replies"]) == 2
    assert (
        main(["score", str(toy_model), "how do i open the door", "--choices", "sure", "sorry", "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert sum(found["belief"]) == pytest.approx(1.0)
    assert main(["score", str(toy_model), "how do i open the door", "--reply", "sure , use the key"]) == 0
    assert "nats" in capsys.readouterr().out


def test_a_file_of_requests_is_planned_scored_and_cut_only_when_asked(
    toy_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"prompt": "how do i open the door", "choices": ["sure", "sorry"]},
        {"prompt": "how do i open the door", "reply": "sure , use the key"},
    ]
    asked = tmp_path / "asked.jsonl"
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["score", str(toy_model), "--requests", str(asked), "--runs", str(tmp_path / "runs"), "--json"]
    assert main([*words, "--dry-run"]) == 0
    plan = json.loads(capsys.readouterr().out.splitlines()[-1])
    # 8 + 1, 8 + 1, 8 + 5; 8 + 1 + 1 + 4
    assert (plan["requests"], plan["tokens"], plan["unique_tokens"], plan["tokens_saved"]) == (3, 31, 14, 17)

    def scored(*more: str) -> list[dict[str, Any]]:
        assert main([*words, *more]) == 0
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        return [json.loads(line) for line in Path(told["rows"]).read_text().splitlines()]

    rows = scored()
    assert [len(row.get("replies", ())) for row in rows] == [0, 1]
    assert sum(rows[0]["belief"]) == pytest.approx(1.0)
    assert rows[1]["prompt"][0]["content"] == "how do i open the door"
    asked.write_text(
        json.dumps({"prompt": " ".join(["door"] * 200), "choices": ["sure", "sure , use the key"]}) + "\n"
    )
    assert main(words) == 2
    assert "context of 96" in capsys.readouterr().err
    assert scored("--truncate")[0]["cut"] == 202 + 5 - 96  # one cut for both, by the longer
    for bad in (
        {"prompt": "how"},
        {"prompt": "how", "choices": "sure"},
        {"prompt": 5, "reply": "sure"},
        {"prompt": "how", "reply": "a", "choices": ["b"]},
    ):
        asked.write_text(json.dumps(bad) + "\n")
        assert main(words) == 2
        assert "line 1" in capsys.readouterr().err
    assert main([*words, "--reply", "sure"]) == 2
    assert "beside it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sample", "{model}"], "give a prompt"),
        (["sample", "{model}", "unheard words"], "not in this vocabulary"),
        (["sample", "no-such-model", "hi"], "cannot load"),
        (["score", "{model}", "how do i open the door"], "--reply or --choices"),
        (["align", "{model}", "--prompts", "{none}"], "cannot read"),
        (["align", "{model}", "--constitution", "{none}"], "cannot read"),
        (["align", "{model}", "--prompts", "{bad}"], "line 2"),
        (["align", "{model}", "--prompts", "{few}"], "at least 4"),
        (["show", "nothing"], "names 0 runs"),
        (["export", "nothing", "somewhere"], "names 0 runs"),
        (["compare", "{model}", "{model}", "--judge", "{none}"], "config.json"),
    ],
)
def test_bad_input_gets_a_message_and_never_a_traceback(
    words: list[str],
    says: str,
    toy_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\n{"prompt"\n')
    (tmp_path / "few.txt").write_text("one\ntwo\nthree\n")
    names = {
        "model": str(toy_model),
        "none": str(tmp_path / "none.txt"),
        "bad": str(tmp_path / "bad.jsonl"),
        "few": str(tmp_path / "few.txt"),
    }
    assert main([word.format(**names) for word in words]) == 2
    assert says in capsys.readouterr().err


def test_chat_talks_and_ends(toy_model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "solon", "chat", str(toy_model), "--max-tokens", "6"],
        input="how do i open the door\nxyz\n/again\n\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "toy>" in done.stdout
    assert "not in this vocabulary" in done.stderr


def test_doctor_finds_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["facts"]["torch"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only folders")
def test_a_read_only_folder_gets_a_message(
    toy_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir(mode=0o500)
    assert main(["align", str(toy_model), "--runs", str(tmp_path / "runs")]) == 2
    assert "cannot write" in capsys.readouterr().err


DOOR = """
    --train 4 --held-out 4 --rounds 1 --examples 0 --max-tokens 8 --policy-steps 2 --policy-prompts 2
    --policy-samples 2 --evaluation-samples 1 --rank 2
"""


@pytest.mark.parametrize(
    "name",
    [
        "tiny llama",
        pytest.param("smollm2", marks=[pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_the_whole_job_through_the_door(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The smallest job on a model that people bring: every file it promises is there, and a second call, in a
    process of its own, reads it back.
    """
    runs, brought = ["--runs", str(tmp_path / "runs")], tmp_path / "llama"
    model = name if name == "smollm2" else str(write_tiny_llama(brought, context=2048, template=TEMPLATE))
    words = ["align", model, *DOOR.split(), *runs, "--json"]

    def printed(*words: str) -> str:
        assert main(words) == 0
        return capsys.readouterr().out

    found = json.loads(printed(*words).splitlines()[-1])
    assert found.keys() == {"study", "preset", "seed", "seconds", "run", "claims"}
    assert all(claim.keys() == {"name", "found", "low", "high", "n", "holds"} for claim in found["claims"])
    run = Path(found["run"])
    for file in (
        "report.html",
        "report.md",
        "report.json",
        "model/model.safetensors",
        "adapter/adapter_config.json",
        "preference_model/config.json",
        "policy.rows.jsonl",
    ):
        assert (run / file).exists(), file
    before = {path: path.read_bytes() for path in run.glob("*.jsonl")}
    again = solon(*words)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1])["claims"] == found["claims"]
    assert {path: path.read_bytes() for path in run.glob("*.jsonl")} == before
    printed("export", run.name, str(tmp_path / "out"), *runs)
    assert (tmp_path / "out/pairs.jsonl").exists()
    assert "finished" not in printed("show", *runs)
    assert "95% interval" in printed("show", run.name, *runs)


def test_a_sweep_averages_claims_over_seeds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def one(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        flags = dict(itertools.pairwise(words))
        value = float(flags["--rate"]) + int(flags["--seed"])
        claims = [{"name": "rises", "found": value, "low": 0.0, "high": 1.0, "n": 3, "holds": True}]
        return subprocess.CompletedProcess(words, 0, json.dumps({"claims": claims}) + "\n", "")

    monkeypatch.setattr("solon.commands.sweep.subprocess.run", one)
    assert (
        main(["sweep", "--over", "seed=0,1,2", "--over", "rate=10,20", "--json", "--", "align", "toy"]) == 0
    )
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(found["rows"]) == 6
    assert [(claim["over"], claim["found"], claim["seeds"]) for claim in found["claims"]] == [
        ({"rate": "10"}, 11.0, 3),
        ({"rate": "20"}, 21.0, 3),
    ]
    # t with two degrees of freedom
    assert found["claims"][0]["low"] == pytest.approx(11 - 4.303 / 3**0.5, abs=1e-3)


def test_a_sweep_names_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["--", "studies"], "what to vary"),
        (["--over", "seed", "--", "studies"], "flag=value"),
        (["--over", "seed=1,1", "--", "studies"], "twice"),
        (["--over", "seed=1", "--over", "seed=2", "--", "studies"], "once"),
        (["--over", "seed=1"], "after --"),
        (["--over", "seed=1", "--", "studies", "--seed", "3"], "both"),
        (["--over", "seed=1", "--", "nothing"], "no command 'nothing'"),
    ):
        assert main(["sweep", *words]) == 2
        assert said in capsys.readouterr().err
