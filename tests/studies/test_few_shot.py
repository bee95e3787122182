"""Few examples: four scores against hand-worked numbers, N-grams that are found, planted learning from
context, a killed run, bad input.
"""

from pathlib import Path

import pytest

from solon.cli import main
from solon.errors import InputError
from solon.evaluation.measure import Outcome
from solon.studies.few_shot.inputs import toy
from solon.studies.few_shot.scoring import gram_length, grams, overlap, rescored, unconditional
from solon.studies.few_shot.settings import Settings
from solon.studies.few_shot.study import study
from solon.studies.few_shot.toy import SEEN
from solon.words.question import Problem, to_question
from tests.killed import survived


def test_the_four_scores_of_one_outcome() -> None:
    row = Outcome("k", "k", ("ab", "abcdef"), 1, (-4.0, -6.0), (1, 3))
    bare = Outcome("b", "b", ("ab", "abcdef"), 1, (-1.0, -5.0), (1, 3))
    assert rescored(row, bare, "sum").logprobs == (-4.0, -6.0)
    assert rescored(row, bare, "per token").logprobs == (-4.0, -2.0)
    assert rescored(row, bare, "per character").logprobs == (-2.0, -1.0)
    assert rescored(row, bare, "over unconditional").logprobs == (-3.0, -1.0)
    with pytest.raises(InputError, match="same options"):
        rescored(row, Outcome("b", "b", ("x", "y"), 1, (-1.0, -5.0), (1, 3)), "sum")
    own = to_question(unconditional(Problem("Question: a", ("x", "y"), ("x",))))
    assert [turn.text for turn in own.prompt.turns] == ["Answer:"] and own.choices == (" x", " y")


def test_what_stands_in_the_corpus_is_found_whatever_its_case_and_what_is_too_short_is_said() -> None:
    letters = [f"w{n}" for n in range(30)]
    own = [
        Problem(" ".join(letters[:12])),
        Problem(" ".join(f"x{n}" for n in range(12))),
        Problem("only three words"),
    ]
    found = overlap(own, ["before " + " ".join(letters[2:11]).upper() + ", after.", "nothing"], length=9)
    assert found.dirty == (True, False, False) and found.clean == (False, True, False)
    # eight of nine words
    assert overlap(own, ["before " + " ".join(letters[2:10])], length=9).dirty == (False, False, False)
    assert len(grams(" ".join(letters), 8)) == 23
    assert gram_length([" ".join(letters[:10])] * 20) == 10


def test_a_killed_study_ends_on_the_same_report_and_finds_what_was_planted(tmp_path: Path) -> None:
    inputs, settings = toy(), Settings(shots=(0, 1, 4), scoring="over unconditional")

    whole = survived(tmp_path, lambda own: study(own, settings, inputs), patience=(1, 5))
    lines = {line.split(" | ")[0].strip("| "): line for line in whole.splitlines() if line.startswith("| ")}
    assert "| holds |" in lines["walks: 4 examples beat 0"]
    held = next(line for line in whole.splitlines() if line.startswith("| walks | small |")).split(" | ")
    assert int(held[3]) == SEEN and int(held[4]) == 240 - SEEN
    small = [line for line in whole.splitlines() if line.startswith("| small |")]
    assert small[0].split(" | ")[2:] == small[2].split(" | ")[2:]  # examples teach the small model nothing


def test_bad_input_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    free = tmp_path / "free.jsonl"
    free.write_text('{"question": "a", "answers": ["x"]}\n')
    assert main(["run", "few_shot", "smollm2"]) == 2
    assert "--tasks" in capsys.readouterr().err
    assert main(["run", "few_shot", "smollm2", "--tasks", str(free)]) == 2
    assert "no problem with options" in capsys.readouterr().err
    with pytest.raises(InputError, match="shots must rise"):
        Settings(shots=(5, 1))
    with pytest.raises(InputError, match="scoring is one of"):
        Settings(scoring="best")
