"""What a person meets at the door: nearest spellings, help, completion, a list of runs, usual file modes."""

import json
import subprocess
import warnings
from pathlib import Path

import pytest

from solon.cli import COMMANDS, GROUPS, main
from solon.records.report import Claim, Report, terminal
from solon.study.paper import papers, runs
from tests.paths import ROOT

SMALL = ["run", "self_correction", "--students", "20", "--questions", "16"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["aling"], "align"),
        (["mesure"], "measure"),
        (["run", "few_shots"], "few_shot"),
        (["run", "scaling_laws"], "does not run yet"),
        (["sample", "smolm2", "hello"], "did you mean smollm2"),
        (["run", "self_correction", "smollm2"], "https://github.com/nyu-mll/BBQ"),
        (["completion", "csh"], "bash, zsh, fish"),
    ],
)
def test_a_mistake_is_answered_with_what_was_meant(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert says in capsys.readouterr().err


def test_every_command_is_in_one_group_and_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert sum(map(len, GROUPS.values())) == len(COMMANDS)
    assert main([]) == 0
    usage = capsys.readouterr().out
    assert all(f"{group}:" in usage for group in GROUPS) and all(name in usage for name in COMMANDS)
    for name in COMMANDS:
        try:
            assert main([name, "--help"]) == 0  # our own
        except SystemExit as end:  # tyro's
            assert end.code == 0
        assert f"solon {name}" in capsys.readouterr().out


def test_the_help_of_a_study_names_its_paper_and_its_needs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "self_correction", "--help"])
    text = " ".join(capsys.readouterr().out.replace("\u2502", " ").split())
    assert "2302.07459" in text and "https://github.com/nyu-mll/BBQ" in text and "[MODEL ...]" in text


def test_readme_has_the_table_of_studies_as_their_papers_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studies", "--markdown"]) == 0
    table = capsys.readouterr().out.strip()
    readme = (ROOT / "README.md").read_text()
    begin, end = "<!-- studies:begin -->", "<!-- studies:end -->"
    assert readme.split(begin)[1].split(end)[0].strip() == table, "run `solon studies --markdown`"
    for name in filter(runs, papers()):
        assert f"`{name}`" in table and (ROOT / "solon" / "studies" / name / "README.md").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_studies_and_flags(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    flag = "-l students" if shell == "fish" else "--students"
    assert "measure" in script and "few_shot" in script and flag in script


def test_bash_completes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = (
        capsys.readouterr().out + "\nCOMP_WORDS=(solon run self_correction --stu); COMP_CWORD=3; _solon; "
    )
    done = subprocess.run(["bash", "-c", script + 'echo "${COMPREPLY[@]}"'], capture_output=True, text=True)
    assert done.stdout.strip() == "--students"


def test_runs_are_listed_with_date_and_outcome_and_shown_as_the_terminal_shows_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "--runs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert main(["show", "--runs", str(tmp_path)]) == 0
    line = capsys.readouterr().out
    assert "claims hold" in line and line.count("20") >= 1 and "before after" in line
    folder = next(tmp_path.glob("self_correction/*"))
    assert main(["show", folder.name, "--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == printed
    kept = json.loads((folder / "run.json").read_text())
    assert (
        kept["command"].startswith("solon run self_correction --students 20") and kept["options"]["settings"]
    )


def test_a_table_fits_the_terminal() -> None:
    claim = Claim("c", "a claim that is " + "long " * 30, 0.5, 0.4, 0.6, 100, True, "t")
    text = terminal(Report(title="A report", summary=("word " * 60,), claims=(claim,)), width=80)
    assert max(map(len, text.splitlines())) <= 80 and text.count("long") == 30


def test_files_are_readable_by_others_and_libraries_warn_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = warnings.showwarning
    try:
        assert main([*SMALL, "--runs", str(tmp_path)]) == 0
        warnings.showwarning("theirs", FutureWarning, "/lib/transformers/x.py", 1)
        warnings.showwarning("ours", RuntimeWarning, "/lib/solon/x.py", 1)
    finally:
        warnings.showwarning = shown
    text = capsys.readouterr().err
    assert "theirs" not in text and "solon: ours" in text
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "lock":
            assert path.stat().st_mode & 0o044 == 0o044, path
