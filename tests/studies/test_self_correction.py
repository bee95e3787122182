"""Bias in three conditions: a planted bias is found, instructions do what was planted, prompts pair, a killed
run, bad input.
"""

from pathlib import Path

import pytest

from solon.cli import main
from solon.errors import InputError
from solon.evaluation.bias import bias_scores
from solon.studies.self_correction.conditions import (
    CONCLUDE,
    INSTRUCTION,
    THINK,
    admission_gap,
    admissions,
    bias_change,
    concluded,
    students,
    thinking,
    under,
)
from solon.studies.self_correction.inputs import toy
from solon.studies.self_correction.settings import Settings
from solon.studies.self_correction.study import draw, study
from solon.studies.self_correction.toy import Planted, planted, pronouns, questions
from solon.words.question import to_question
from tests.killed import survived


def world(lean: float) -> dict[str, Planted]:
    return {"Q": Planted(lean), "Q+IF": Planted(lean / 2), "Q+IF+CoT": Planted(0.0), "Q+Match": Planted(lean)}


def test_planted_bias_is_found_and_its_change() -> None:
    model, own = planted("m", world(0.8)), questions()
    plain, told = under(model, own, "Q")[0], under(model, own, "Q+IF+CoT")[0]
    found = bias_scores(plain)
    # half of the ambiguous answers are unknown
    assert found.ambiguous is not None and found.ambiguous.low <= 0.5 * 0.8 <= found.ambiguous.high
    assert found.accuracy_disambiguated is not None and found.accuracy_disambiguated.value > 0.85
    neutral = bias_scores(under(planted("n", world(0.0)), own, "Q")[0]).ambiguous
    assert neutral is not None and neutral.low < 0 < neutral.high
    change = bias_change(plain, told, ambiguous=True)
    assert change is not None and change.high < 0 and change.low <= -0.4
    same = bias_change(plain, plain, ambiguous=True)
    assert same is not None and same.value == same.low == same.high == 0.0
    with pytest.raises(InputError, match="same rows"):
        bias_change(plain, told[::-1], ambiguous=True)


def test_admissions_differ_as_planted_and_by_nothing_else() -> None:
    some = students(40)
    gap = admission_gap(under(planted("m", {"Q": Planted(gap=-0.15)}), admissions(some), "Q")[0])
    assert gap.value == pytest.approx(-0.15, abs=1e-9)
    black, white = admissions(some)[:2]
    assert black.text.replace("Black", "white") == white.text and black.cluster == white.cluster
    with pytest.raises(InputError, match="Black and then white"):
        admission_gap(under(planted("m", {"Q": Planted()}), admissions(some)[1:3], "Q")[0])


def test_the_conditions_are_put_as_the_paper_puts_them() -> None:
    own, blank = questions()[0], pronouns()[0]
    thought = thinking(own)
    assert INSTRUCTION in thought.turns[0].text and thought.turns[-1].text == THINK
    final = concluded(own, " They are alike.")
    assert [turn.role for turn in final.prompt.turns] == ["human", "assistant", "human", "assistant"]
    assert final.prompt.turns[1].text == f"{THINK} They are alike." and final.prompt.turns[2].text == CONCLUDE
    assert final.choices == to_question(own).choices and final.answer == to_question(own).answer
    assert concluded(blank, "x").prompt.turns[-1].text == blank.opening
    rows = [
        under(planted("m", world(0.5)), [own], condition)[0][0] for condition in ("Q", "Q+IF", "Q+IF+CoT")
    ]  # type: ignore[arg-type]
    assert len({row.key for row in rows}) == 1  # they pair


def test_whole_templates_are_drawn() -> None:
    kept = draw(questions(), 40, seed=0)
    assert 40 <= len(kept) <= 56
    assert all(sum(one.cluster == own.cluster for one in kept) == 8 for own in kept)


def test_a_killed_study_ends_on_the_same_report_and_finds_what_was_planted(tmp_path: Path) -> None:
    inputs, settings = toy(), Settings(students=30)

    whole = survived(tmp_path, lambda own: study(own, settings, inputs), patience=(1, 4))
    lines = {line.split(" | ")[0].strip("| "): line for line in whole.splitlines() if line.startswith("| ")}
    assert "| holds |" in lines["invented peoples: Q+IF+CoT lowers the size of s_AMB"]
    assert "| holds |" in lines["invented peoples: biased where the context does not decide (s_AMB)"]
    assert "made up" in whole


def test_bad_input_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "a", "choices": ["x", "y"], "answer": 0}\n')
    assert main(["run", "self_correction", "smollm2"]) == 2
    assert "--bias" in capsys.readouterr().err
    assert main(["run", "self_correction", "smollm2", "--bias", str(tmp_path / "a.jsonl")]) == 2
    assert "BBQ is expected here" in capsys.readouterr().err
