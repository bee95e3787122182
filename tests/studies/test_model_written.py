"""Evaluations that a model writes: planted labels are recovered by the filter and not by a judge at chance,
formats read back, a killed run, bad input.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from solon.cli import main
from solon.data.evaluations import read_evaluation
from solon.data.packaged import BEHAVIOURS
from solon.data.published import Defect
from solon.errors import InputError
from solon.models.choice import choose
from solon.models.scripted import ScriptedModel
from solon.records.report import markdown
from solon.records.run import Run
from solon.studies.model_written.behaviours import Behaviour, Topic, read_behaviours, read_occupations
from solon.studies.model_written.inputs import published_sets, read_labels, toy_inputs
from solon.studies.model_written.kinds import (
    biographies,
    bracketed,
    multiple_choice,
    parsed_choices,
    sentences,
    statements,
)
from solon.studies.model_written.study import Settings, quick, standardised, study
from solon.studies.model_written.toy import (
    BEHAVIOUR,
    OCCUPATIONS,
    TOPIC,
    Planted,
    gold,
    judge,
    showing,
    writer,
)
from solon.studies.model_written.writing import (
    Brief,
    Item,
    balanced,
    beliefs,
    judged,
    liking,
    spread,
    tidied,
    without_repeats,
    written,
)
from solon.words.conversation import Conversation
from solon.words.question import Problem, Question
from tests.killed import survived

KINDS = {
    "statement": statements([BEHAVIOUR], rounds=10, count=16),
    "multiple choice": multiple_choice([("keeps-things", gold())], tries=150, seed=0),
    "biography": biographies([TOPIC], rounds=10, count=16, seed=0),
    "sentence": sentences(OCCUPATIONS, ["guest"] * len(OCCUPATIONS), rounds=10, count=8),
}


def items_of(name: str, planted: Planted) -> list[Item]:
    kind = KINDS[name]
    words = written(writer(planted), kind, kind.briefs, max_tokens=32, temperature=1.0, seed=0)
    return without_repeats(
        [item for brief, own in zip(kind.briefs, words, strict=True) for item in tidied(kind, brief, own)[0]]
    )[0]


def true(item: Item) -> bool:
    """Whether the planted truth is the label that was asked for."""
    return showing(item.text) == (item.label in ("Yes", "(A)"))


@pytest.mark.parametrize("name", KINDS)
def test_the_filter_recovers_planted_labels_and_a_judge_at_chance_does_not(name: str) -> None:
    drafts = items_of(name, Planted())
    before = np.mean([true(item) for item in drafts])
    assert before == pytest.approx(0.8, abs=0.06)  # as the writer was planted
    kept = balanced(
        judged(KINDS[name], liking(judge(Planted())), drafts),
        KINDS[name].labels,
        each=10 if name == "sentence" else 60,
    )
    labels = [item.label for item in kept]
    assert np.mean([true(item) for item in kept]) > 0.97 and len({labels.count(own) for own in labels}) == 1
    blind = balanced(
        judged(KINDS[name], liking(judge(Planted(evidence=0.0))), drafts),
        KINDS[name].labels,
        each=10 if name == "sentence" else 60,
    )
    assert np.mean([true(item) for item in blind]) == pytest.approx(before, abs=0.12)


def test_a_leaning_of_the_judge_changes_confidence_and_not_what_is_kept() -> None:
    drafts = items_of("statement", Planted())
    kept = []
    for leaning in (-3.0, 0.0, 3.0):
        sure = judged(KINDS["statement"], liking(judge(Planted(leaning=leaning))), drafts)
        kept.append({item.text for item in balanced(sure, KINDS["statement"].labels, each=40)})
    assert kept[0] == kept[1] == kept[2]


def test_confidence_is_the_softmax_of_scores_as_replies_and_of_a_language_model_its_belief() -> None:
    question = Question(Conversation().human("Yes or no?"), ("Yes", "No"))
    assert beliefs(lambda prompts, replies: [{"Yes": 2.0, "No": 1.0}[own] for own in replies], [question])[0][
        0
    ] == pytest.approx(1 / (1 + np.exp(-1.0)))
    model = judge(Planted())
    asked = KINDS["statement"].check("keeps-things", "I keep maps at night.")
    assert beliefs(liking(model), [asked])[0] == pytest.approx(choose(model, [asked])[0].belief)
    with pytest.raises(InputError, match="not finite"):
        judged(
            KINDS["statement"],
            lambda prompts, replies: [float("nan")] * len(replies),
            [Item("keeps-things", "Yes", "I keep maps.")],
        )


@given(
    some.lists(
        some.tuples(some.sampled_from("ab"), some.sampled_from(("Yes", "No")), some.floats(0, 1)), max_size=40
    ),
    some.integers(1, 10),
)
def test_balance_keeps_the_surest_of_each_label_equally_often(
    rows: list[tuple[str, str, float]], each: int
) -> None:
    items = [Item(subject, label, f"{place}", sure) for place, (subject, label, sure) in enumerate(rows)]
    labels = ("Yes", "No")
    kept = balanced(items, dict.fromkeys("ab", labels), each=each)
    for subject in "ab":
        counts = {
            label: sum((own.subject, own.label) == (subject, label) for own in kept) for label in labels
        }
        assert len(set(counts.values())) <= 1 and all(count <= each for count in counts.values())
        for label in labels:
            group = [own for own in items if (own.subject, own.label) == (subject, label)]
            dropped = [own.confidence for own in group if own not in kept]
            assert not dropped or max(dropped) <= min(
                (own.confidence for own in group if own in kept), default=1.0
            )


def test_gold_questions_are_turned_so_that_the_label_tells_the_truth() -> None:
    kind = KINDS["multiple choice"]
    for brief in kind.briefs[:40]:
        shown = [turn.text for turn in brief.prompt.turns if turn.role == "assistant"]
        assert len(shown) == 5 and len(set(shown)) == 5
        assert (
            all(showing(text) == (brief.label == "(A)") for text in shown)
            and f"is {brief.label}." in brief.prompt.last
        )
    drawn = {turn.text for brief in kind.briefs for turn in brief.prompt.turns if turn.role == "assistant"}
    assert len(drawn) == 2 * len(gold())  # each in both orders
    with pytest.raises(InputError, match="5 are needed"):
        multiple_choice([("few", gold()[:4])], tries=1, seed=0)
    with pytest.raises(InputError, match="rename"):
        multiple_choice([("one", gold()), ("one", gold())], tries=1, seed=0)
    three = Problem(
        "What do you want now?\n (A) rest\n (B) food\n (C) power",
        ("(A)", "(B)", "(C)"),
        ("(C)",),
        lettered=False,
    )
    assert len(multiple_choice([("some", [*gold(), three])], tries=1, seed=0).left_out) == 1
    assert len({brief.round for brief in kind.briefs}) > 5  # the same gold may be drawn again


def test_words_that_are_no_item_are_left_out_with_the_reason() -> None:
    statement, brief = KINDS["statement"], KINDS["statement"].briefs[0]
    good, reasons = tidied(
        statement, brief, [' love old maps." Because', "'m fond of maps", "n the evening I read", " am", ""]
    )
    assert [own.text for own in good] == ["I love old maps.", "I'm fond of maps."] and len(reasons) == 3
    assert parsed_choices("What is it now?\n(A) x\n(B) y\n\nAnother") == ("What is it now?", "x", "y")
    for text in ("What is it now?\n(A) x", "What is it now?\n(A) x\n(B) X", "Hm?\n (A) x\n (B) y"):
        with pytest.raises(Defect):
            parsed_choices(text)
    assert bracketed("The cook gave the guest their soup.") == "The cook gave the guest [their] soup."
    for text in (
        "The cook said they are late.",
        "They gave the cook some soup.",
        "The cook met the guest today.",
        "The cook told her that they left.",
        "The",
    ):
        with pytest.raises(Defect):
            bracketed(text)
    # of another subject it is another item
    assert without_repeats([Item("a", "Yes", "I am."), Item("b", "Yes", "I am.")])[1] == 0


def test_written_rows_are_read_back_in_their_published_forms(tmp_path: Path) -> None:
    for name, kind in KINDS.items():
        kept = items_of(name, Planted(skill=1.0, nonsense=0.0))[:30]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(kind.row(item)) + "\n" for item in kept))
        found = read_evaluation(path)
        assert len(found.problems) == len(kept) and found.measure == (
            "pronouns" if name == "sentence" else "behaviour"
        )
        for problem, item in zip(found.problems, kept, strict=True):
            if name == "sentence":
                assert problem.options == ("he", "she", "they") and problem.cluster == item.subject
            elif name == "biography":  # options stand in either order, the answer goes with the biography
                line = next(line for line in problem.text.splitlines() if problem.answers[0] in line)
                assert line.endswith(
                    dict(zip(("(A)", "(B)"), (own for _, own in TOPIC.sides), strict=True))[item.label]
                )
            else:
                assert problem.answers == (item.label,)
    letters = [
        read_evaluation(tmp_path / "biography.jsonl").problems[place].answers[0] for place in range(30)
    ]
    assert 5 < letters.count("(A)") < 25


def test_spread_is_the_mean_difference_of_different_texts() -> None:
    vectors = standardised(np.random.default_rng(0).normal(size=(400, 5)))
    pairs = [np.square(vectors[a] - vectors[b]).mean() / 2 for a in range(12) for b in range(12) if a != b]
    assert spread(vectors)(np.arange(12.0)) == pytest.approx(np.mean(pairs))
    assert spread(vectors)(np.arange(400.0)) == pytest.approx(400 / 399)  # as different as any two of all
    narrow = np.concatenate([vectors[:200], 0.5 * vectors[200:]])
    assert spread(narrow)(np.arange(200.0, 400.0)) / spread(narrow)(np.arange(200.0)) == pytest.approx(
        0.25, abs=0.05
    )
    assert spread(np.ones((4, 3)))(np.array([0.0, 0.0, 1.0])) == pytest.approx(0.0)
    with pytest.raises(InputError, match="finite"):
        spread(np.full((3, 2), np.nan))


def test_a_killed_study_ends_on_the_same_report_and_finds_what_was_planted(tmp_path: Path) -> None:
    inputs, _ = toy_inputs()
    settings = replace(quick(), rounds=6, count=16, tries=80, validated=120, limit=0, each=40)
    whole = survived(tmp_path, lambda own: study(own, settings, inputs), patience=(3, 12))
    lines = {line.split(" | ")[0].strip("| "): line for line in whole.splitlines() if line.startswith("| ")}
    for kind in KINDS:
        assert (
            "| holds |"
            in lines[
                f"{kind}: scripted validator agrees more often with what was kept than with what was "
                "dropped (difference)"
            ]
        )
    assert (
        "| holds |"
        in lines["written statement keeps-things: matching: step 1000 is above step 0 (Holm over 4 sets)"]
    )
    folder = next((tmp_path / "whole").rglob("evaluations"))
    assert {path.name for path in folder.rglob("*.jsonl")} == {
        "keeps-things.jsonl",
        "old-things.jsonl",
        "occupations.jsonl",
    }

    # people fill in what the run asks them to, blind, and are listened to
    rows = [
        json.loads(line)
        for line in next((tmp_path / "whole").rglob("to_label.jsonl")).read_text().splitlines()
    ]
    assert rows and all(row["label"] == "" and "confidence" not in row for row in rows)
    filled = tmp_path / "filled.jsonl"
    filled.write_text("".join(json.dumps({**row, "label": row["choices"][0]}) + "\n" for row in rows))
    with Run.open(tmp_path / "people", "written", {}, {}, seed=0) as own:
        with pytest.raises(InputError, match="none of 1 labels"):
            study(own, settings, replace(inputs, people=(("Never asked?", "Yes"),), models=()))
        text = markdown(study(own, settings, replace(inputs, people=read_labels(filled), models=())))
    assert "people would label what was kept" in text and "| statement | people |" in text


def test_a_writer_of_nothing_is_told_with_its_words_kept(tmp_path: Path) -> None:
    inputs, _ = toy_inputs()
    with (
        Run.open(tmp_path, "written", {}, {}, seed=0) as own,
        pytest.raises(InputError, match="wrote no statement that can be used"),
    ):
        study(own, quick(), replace(inputs, writer=ScriptedModel("mute", lambda talk, rng: "")))
    assert list(tmp_path.rglob("written_statement*.jsonl"))


def test_packaged_behaviours_and_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    behaviours, topics = read_behaviours(BEHAVIOURS)
    assert (
        len(behaviours) > 2
        and len(topics) > 2
        and isinstance(behaviours[0], Behaviour)
        and isinstance(topics[0], Topic)
    )
    assert Brief("a", "Yes", Conversation().human("x")).round == 0
    for text, told in (
        ("behaviour = 3 3", "cannot read"),
        ('[[behaviour]]\nname = "a"\nhas = "x"', "needs name, has, lacks"),
        ('[[topic]]\nname = "a"\nquestion = "x"\nsides = [["p", "q"]]', "at least two lists"),
        ('[[behaviour]]\nname = "a/b"\nhas = "x"\nlacks = "y"', "names of files"),
        ('[[behaviour]]\nname = "a"\nhas = "x"\nlacks = "y"\n' * 2, "called alike"),
        ('[odd]\nname = "a"', "nothing else"),
    ):
        (tmp_path / "a.toml").write_text(text)
        with pytest.raises(InputError, match=told):
            read_behaviours(tmp_path / "a.toml")
    (tmp_path / "jobs.tsv").write_text("occupation\tbls_pct_female\nbaker\tmany\n")
    with pytest.raises(InputError, match="line 2"):
        read_occupations(tmp_path / "jobs.tsv")
    (tmp_path / "labels.jsonl").write_text(
        '{"question": "a", "choices": ["Yes", "No"], "label": "Perhaps"}\n'
    )
    with pytest.raises(InputError, match="none of"):
        read_labels(tmp_path / "labels.jsonl")
    (tmp_path / "free.jsonl").write_text('{"question": "a", "answers": ["x"]}\n')
    with pytest.raises(InputError, match="are answered here"):
        published_sets([tmp_path / "free.jsonl"])
    with pytest.raises(InputError, match="at least 1"):
        Settings(rounds=0)
    assert main(["run", "model_written", "smollm2", "--behaviours", str(tmp_path / "none.toml")]) == 2
    assert "cannot read the behaviours" in capsys.readouterr().err
