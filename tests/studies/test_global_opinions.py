"""Opinions: planted ones are found, prompting moves who can be moved, translations keep their question, the
map, a killed run, bad input.
"""

import itertools
import json
from pathlib import Path

import pytest

from solon.cli import main
from solon.evaluation.measure import choice_outcomes
from solon.evaluation.opinions import (
    cross_national_prompt,
    entropy_ratio,
    invented_survey,
    planted_opinions,
    similarity_by_country,
    similarity_to_country,
)
from solon.records.page import map_svg
from solon.records.report import Map
from solon.studies.global_opinions.inputs import toy
from solon.studies.global_opinions.settings import Settings
from solon.studies.global_opinions.study import study
from solon.studies.global_opinions.world import on_the_map, outlines
from tests.killed import survived


def test_a_model_that_answers_as_a_country_is_most_like_it() -> None:
    survey = invented_survey(30)
    rows = choice_outcomes(planted_opinions("m", survey, "Vaskland", follows=True), survey)
    found, left = similarity_by_country(rows)
    assert (
        next(iter(found)) == "Vaskland"
        and found["Vaskland"].value == pytest.approx(1.0, abs=1e-6)
        and left == 0
    )
    assert found["Orinia"].high < 0.6
    assert entropy_ratio(rows).value == pytest.approx(0.87, abs=0.15)
    put = choice_outcomes(
        planted_opinions("m", survey, "Vaskland", follows=True),
        [cross_national_prompt(own, "Orinia") for own in survey],
    )
    assert all(value == pytest.approx(1.0, abs=1e-6) for _, value in similarity_to_country(put, "Orinia"))
    assert similarity_by_country(rows, at_least=31) == ({}, 3)


def test_a_killed_study_ends_on_the_same_report_and_only_the_pliant_model_is_moved(tmp_path: Path) -> None:
    inputs = toy()
    settings = Settings(countries=("Vaskland",))

    whole = survived(tmp_path, lambda own: study(own, settings, inputs), patience=(1, 2))
    assert "resemble those of Vaskland more | 0." in whole
    stubborn = whole.split("## stubborn, as someone from Vaskland")[1].split("##")[0]
    assert stubborn.splitlines()[4].startswith("| Orinia")


def test_the_map_knows_the_names_of_surveys_and_shows_each_value() -> None:
    assert [
        on_the_map(name) for name in ("United States", "China (Non-national sample)", "S. Korea", "Atlantis")
    ] == [
        "United States of America",
        "China",
        "South Korea",
        None,
    ]
    assert len(outlines()) > 170
    rings = [ring for rings in outlines().values() for ring in rings]
    # none is drawn across the whole map
    assert not any(abs(a[0] - b[0]) > 180 for ring in rings for a, b in itertools.pairwise(ring))
    drawn = map_svg(Map("m", outlines(), {"Chile": 0.75}, 0.5, 1.0))
    assert (
        "<title>Chile: 0.750</title>" in drawn
        and drawn.count("<path") == len(outlines())
        and "<script" not in drawn
    )


def test_translations_go_with_their_question_and_bad_input_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "global_opinions", "smollm2"]) == 2
    assert "--survey" in capsys.readouterr().err
    row = {"country": "Chile", "question": "Good?", "options": ["Yes", "No"], "distribution": [0.7, 0.3]}
    Path("rows.jsonl").write_text(json.dumps(row) + "\n")
    Path("es.jsonl").write_text(
        json.dumps(
            {
                "original": {"question": "Good?", "options": ["Yes", "No"]},
                "question": "Bien?",
                "options": ["Si"],
            }
        )
        + "\n"
    )
    assert (
        main(["run", "global_opinions", "smollm2", "--survey", "rows.jsonl", "--translations", "es=es.jsonl"])
        == 2
    )
    assert "1 options for a question that has 2" in capsys.readouterr().err
    assert main(["run", "global_opinions", "smollm2", "--survey", "rows.jsonl", "--translations", "es"]) == 2
    assert "LANGUAGE=FILE" in capsys.readouterr().err
