"""Sandwiching: votes against products worked by hand, people and simulations never together, planted help is
found, a killed run, bad input.
"""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from solon.cli import main
from solon.errors import InputError
from solon.statistics.calibration import fixed_bin_calibration_error
from solon.studies.scalable_oversight.inputs import read_people, toy, without_questions
from solon.studies.scalable_oversight.oversight import Answer, Person, Simulated, discuss, kind_of, vote
from solon.studies.scalable_oversight.settings import Settings
from solon.studies.scalable_oversight.study import study
from solon.studies.scalable_oversight.toy import KNOWS
from solon.words.question import Problem
from tests.killed import survived

ANN = Person("a")


def given(
    chosen: int, confidence: float, participant: Person | Simulated = ANN, *, right: bool = True
) -> Answer:
    return Answer(participant, "q", "assisted", chosen, confidence, right, 4)


def test_votes_are_products_of_what_each_gave_to_each_option() -> None:
    best, share = vote([given(0, 0.6), given(1, 0.8), given(1, 0.25)])
    # option 0: .6 x .2/3 x .75/3; option 1: .4/3 x .8 x .25; options 2 and 3: .4/3 x .2/3 x .75/3
    weights = [0.6 * 0.2 / 3 * 0.25, 0.4 / 3 * 0.8 * 0.25, 0.4 / 3 * 0.2 / 3 * 0.25, 0.4 / 3 * 0.2 / 3 * 0.25]
    assert best == 1 and share == pytest.approx(weights[1] / sum(weights))
    assert vote([given(2, 1.0), given(3, 0.8)])[0] == 2  # 100% counts as 99%, and no vote is ever impossible
    with pytest.raises(InputError, match="one question"):
        vote([given(0, 0.6), Answer(Person("b"), "other", "assisted", 0, 0.6, True, 4)])


def test_people_and_simulations_are_never_one_number() -> None:
    mixed = [given(0, 0.6), given(0, 0.6, Simulated("m", 0))]
    with pytest.raises(InputError, match="person and simulated"):
        kind_of(mixed)
    with pytest.raises(InputError, match="person and simulated"):
        vote(mixed)
    with pytest.raises(InputError, match="a confidence is one of"):
        given(0, 0.5)


def test_the_five_bin_error_is_unweighted_and_from_the_centre() -> None:
    # 25%: one of two right; 100%: three of three
    assert fixed_bin_calibration_error([0.25, 0.25, 1.0, 1.0, 1.0], [1, 0, 1, 1, 1]) == pytest.approx(
        (0.25 + 0.0) / 2
    )


def test_the_assistant_sees_neither_question_nor_options() -> None:
    inputs = toy()
    assert inputs.weak is not None
    seen = []
    strong = inputs.strong
    original = strong.sample

    class Watched:
        name = "watched"

        def sample(self, prompts, **how):  # type: ignore[no-untyped-def]
            seen.extend(prompts)
            return original(prompts, **how)

    discuss(inputs.weak, Watched(), inputs.problems[:4], turns=2, max_tokens=16, seed=0)  # type: ignore[arg-type]
    assert len(seen) == 8
    assert not any("Choices" in turn.text or "Question:" in turn.text for talk in seen for turn in talk.turns)
    assert [len(talk.turns) for talk in seen] == [1] * 4 + [3] * 4


def people(path: Path) -> Path:
    rng = random.Random(0)
    rows = [
        {
            "participant": f"p{n % 3}",
            "condition": condition,
            "question": f"q{n}",
            "options": ["x", "y"],
            "answer": "x",
            "chosen": rng.choice(["x", "y"]),
            "confidence": 60,
        }
        for n in range(30)
        for condition in ("assisted", "unassisted")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_killed_study_ends_on_the_same_report_and_finds_the_planted_help(tmp_path: Path) -> None:
    inputs = replace(toy(), people=read_people(people(tmp_path / "p.jsonl")))
    settings = Settings(questions=120, participants=3, turns=1, shots=0, best_of=4, max_tokens=16)

    whole = survived(tmp_path, lambda own: study(own, settings, inputs), patience=(1, 5))
    lines = {
        line.split(" | ")[0].strip("| "): line.split(" | ")
        for line in whole.splitlines()
        if line.startswith("| ")
    }
    assert "holds" in lines["simulated participants: help makes them right more often"]
    assert float(lines["simulated participants, unassisted"][1].split()[0]) == pytest.approx(
        KNOWS["weak"], abs=0.12
    )
    assert float(lines["the model, alone"][1].split()[0]) == pytest.approx(KNOWS["strong"], abs=0.12)
    assert float(lines["the model, best of 4"][1].split()[0]) > float(lines["the model, alone"][1].split()[0])
    assert "people, assisted" in lines and "nothing here says how people would do" in whole


def test_bad_input_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions, answers = tmp_path / "q.jsonl", tmp_path / "a.jsonl"
    questions.write_text('{"question": "a", "choices": ["x", "y"], "answer": 0}\n')
    answers.write_text(
        '{"participant": "p", "condition": "assisted", "question": "q", "options": ["x"], "answer": "x", '
        '"chosen": "x", "confidence": 50}\n'
    )
    assert main(["run", "scalable_oversight", "smollm2"]) == 2
    assert "--questions-from" in capsys.readouterr().err
    assert main(["run", "scalable_oversight", "smollm2", "--questions-from", str(questions)]) == 2
    assert "nobody takes part" in capsys.readouterr().err
    assert (
        main(
            [
                "run",
                "scalable_oversight",
                "smollm2",
                "--questions-from",
                str(questions),
                "--people",
                str(answers),
            ]
        )
        == 2
    )
    assert "line 1: confidence is 25, 42, 60, 80 or 100" in capsys.readouterr().err


def test_no_example_is_a_question_or_of_its_template() -> None:
    asked_of = [Problem("a", ("x", "y"), ("x",)), Problem("b", ("x", "y"), ("x",), cluster="t")]
    shown = [
        Problem("a", ("x", "y"), ("x",)),
        Problem("a", ("x", "z"), ("x",)),
        Problem("c", ("x", "y"), ("y",), cluster="t"),
        Problem("d", ("x", "y"), ("y",)),
    ]
    assert [(own.text, own.options[1]) for own in without_questions(shown, asked_of)] == [
        ("a", "z"),
        ("d", "y"),
    ]
