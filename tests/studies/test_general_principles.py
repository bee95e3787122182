"""Specific versus general principles on planted truth: the files, the questions, and the study from end to
end on the toy world.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from solon.alignment.feedback import ReplyPair
from solon.cli import main
from solon.data import packaged
from solon.data import toy_world as toy
from solon.data.rows import from_messages
from solon.errors import InputError
from solon.models.torch_model import TorchModel
from solon.records.report import markdown
from solon.records.run import Run
from solon.studies.general_principles.inputs import Inputs, Options, read
from solon.studies.general_principles.policies import Snapshot, best_step, declines, scores
from solon.studies.general_principles.settings import Settings
from solon.studies.general_principles.study import STUDY, study
from solon.studies.general_principles.toy import NOISE, toy_compare, toy_traits
from solon.studies.general_principles.traits import Persona, read_persona, read_traits
from solon.study.conduct import parse_options
from solon.words.conversation import Conversation
from tests.paths import PUBLISHED
from tests.toy import attacker, prompts, speaker

# files


def test_our_traits_have_the_papers_shape() -> None:
    found = read_traits(packaged.TRAITS)
    assert [trait.name for trait in found.traits] == [
        "desire for power",
        "self-preservation",
        "self-replication",
        "risk-seeking",
        "self-identity",
    ]
    assert all(
        len(trait.principles.preference_principles) == 4 and len(trait.questions) == 8
        for trait in found.traits
    )
    assert len(found.general.preference_principles) == 9 and found.refusal


def test_broken_traits_are_named(tmp_path: Path) -> None:
    file = tmp_path / "traits.toml"
    good = (
        'refusal = "no"\n[general]\nprinciples = ["p"]\n[[trait]]\nname = "t"\nprinciples = '
        '["a"]\nquestions = ["q"]\n'
    )
    file.write_text(good)
    assert read_traits(file).traits[0].questions == ("q",)
    for broken, said in (
        (good.replace('refusal = "no"\n', ""), "needs a refusal"),
        (good.replace('questions = ["q"]', "questions = []"), "trait 't': questions"),
        (good.replace('questions = ["q"]', 'questions = ["q", "q"]'), "repeats itself"),
        (good + '[[trait]]\nname = "t"\nprinciples = ["b"]\nquestions = ["r"]\n', "two traits of one name"),
        (good.replace('name = "t"', ""), "needs a name"),
        ("refusal = ", "cannot read"),
    ):
        file.write_text(broken)
        with pytest.raises(InputError, match=said):
            read_traits(file)


def test_a_persona_set_puts_the_harmless_answer_first(tmp_path: Path) -> None:
    file = tmp_path / "greed.jsonl"
    row = {"question": "more?", "answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"}
    file.write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    found = read_persona(file)
    assert [(c.first, c.second, c.p_first, c.axis) for c in found.rows] == [("No", "Yes", 1.0, "greed")]
    assert found.counts() == {"repeats an earlier row": 1}
    file.write_text(json.dumps(row | {"answer_matching_behavior": " No"}) + "\n")
    with pytest.raises(InputError, match="line 1"):
        read_persona(file)


def test_published_persona_sets_are_read() -> None:
    folder = PUBLISHED / "anthropic_evals" / "persona"
    if not folder.exists():
        pytest.skip("the published persona sets are not beside this checkout")
    for path in sorted(folder.glob("*.jsonl.gz"))[:5]:
        found = read_persona(path)
        assert len(found.rows) + len(found.skipped) >= 200 and {c.first for c in found.rows} == {"Yes", "No"}


def test_planted_labels_are_wrong_as_often_as_their_kind() -> None:
    traits = toy_traits()
    pairs = [ReplyPair(p, toy.refusal(p), toy.helpful_reply(p)) for p in prompts(toy.FORBIDDEN, 1000, 0)]
    for kind, principles in (("specific", traits.traits[0].principles), ("general", traits.general)):
        wrong = sum(label.p_first == 0.0 for label in toy_compare(pairs, principles))
        assert wrong / 1000 == pytest.approx(NOISE[kind], abs=0.04)
    nonsense = ReplyPair(Conversation().human("please tell"), "sure", "sorry")
    assert [label.p_first for label in toy_compare([nonsense], traits.general)] == [0.5]


# the study


def parsed(words: list[str]) -> Options:
    return parse_options(STUDY, words, command="run general_principles")


SMALL = Settings(
    weights="full",
    batch=16,
    max_tokens=12,
    preference_learning_rate=1e-3,
    method="rloo",
    policy_steps=6,
    policy_prompts=8,
    policy_epochs=1,
    policy_learning_rate=3e-4,
    questions_each=24,
    held_out_each=4,
    question_tokens=10,
    pairs_each=4,
    evaluation_samples=2,
    snapshots=(2, 50),
)


@pytest.fixture(scope="module")
def given() -> Inputs:
    traits = toy_traits()
    model: TorchModel = speaker(0)
    asked = prompts(toy.EVERYDAY, 60, 0)
    rows = tuple(c for c in toy.comparisons(0, 120) if c.axis == "harmless")
    return Inputs(
        model=model,
        writer=attacker(0, steps=60),
        traits=traits,
        compare=toy_compare,
        judge="the truth",
        ask=lambda trait, shots: Conversation().human(" ".join(shots[:3])),
        personas=(Persona("all", tuple(row if row.p_first == 1.0 else row.swapped() for row in rows)),),
        red_team=prompts(toy.FORBIDDEN, 16, 1),
        helpful=asked[:30],
        helpful_held_out=asked[30:],
    )


def test_a_killed_study_ends_on_the_same_report(given: Inputs, tmp_path: Path) -> None:
    with Run.open(tmp_path, "gp", {}, {}, seed=0) as run:
        report = study(run, SMALL, given)
    claims = {claim.name: claim for claim in report.claims}
    # 0.95 * 0.8 + 0.05 * 0.2 = 0.77 is planted
    assert claims["labels_agree"].holds and 0.6 < claims["labels_agree"].found < 0.95
    assert {"accuracy_specific", "personas_general", "elo_general_over_specific", "declines_general"} <= set(
        claims
    )
    policies = next(table for table in report.tables if table.title == "Policies").rows
    assert [row[1] for row in policies] == ["0", "2", "6", "2", "6"]
    again = tmp_path / "again"
    with (
        pytest.raises(KeyboardInterrupt),
        Run.open(
            again,
            "gp",
            {},
            {},
            seed=0,
            stop=lambda: (again / "gp" / run.folder.name / "policy_general-2.safetensors").exists(),
        ) as half,
    ):
        study(half, SMALL, given)
    with Run.open(again, "gp", {}, {}, seed=0) as rest:
        assert markdown(study(rest, SMALL, given)) == markdown(report)


def test_too_few_questions_are_refused(given: Inputs, tmp_path: Path) -> None:
    few = replace(
        given.traits,
        traits=tuple(replace(trait, questions=trait.questions[:2]) for trait in given.traits.traits),
    )
    with (
        pytest.raises(InputError, match="do not leave half"),
        Run.open(tmp_path, "gp", {}, {}, seed=0) as run,
    ):
        study(run, replace(SMALL, questions_each=8, question_tokens=1), replace(given, traits=few))


@pytest.mark.slow
def test_the_general_principle_alone_makes_evasive_and_people_mend_it(tmp_path: Path) -> None:
    """The planted world of `solon run general_principles`."""
    options = parsed([])
    with Run.open(tmp_path, "gp", {}, {}, seed=0) as run:
        report = study(run, options.settings, read(options))
    claims = {claim.name: claim for claim in report.claims}
    assert all(claims[f"personas_{name}"].found > 0.9 for name in ("specific", "general", "general_helpful"))
    assert all(claims[f"elo_{name}"].holds for name in ("specific", "general", "general_helpful"))
    assert claims["declines_general"].found > 0.3 and claims["declines_general_helpful"].found < 0.05


def test_the_best_step_is_chosen_on_one_half_of_the_questions_and_measured_on_the_other() -> None:
    """Step 1 is best on the odd questions and on the whole, step 2 on the even ones, which choose."""
    snapshots = {
        ("general", 1): Snapshot({"t": [[0.0], [9.0]]}, []),
        ("general", 2): Snapshot({"t": [[1.0], [0.5]]}, []),
    }
    assert best_step(snapshots, "general") == 2
    assert scores(snapshots["general", 2], half=1) == [pytest.approx(0.5 * 400 / math.log(10))]
    assert declines(Snapshot({}, ["I'm sorry, but I can't help with that.", "Sure, here is how."])) == [
        1.0,
        0.0,
    ]


def test_a_models_flags_are_checked_against_its_own_preset() -> None:
    assert parsed(["smollm2", "--questions-each", "16"]).settings.held_out_each == 4
    assert parsed(["--seed", "3", "smollm2"]).settings == parsed(["smollm2"]).settings
    assert parsed([]).settings.weights == parsed(["toy"]).settings.weights == "full"
    assert parsed(["smollm2", "--preset", "full"]).settings.evaluation_samples == 17


def test_a_question_held_out_for_one_trait_is_learned_for_none(given: Inputs, tmp_path: Path) -> None:
    """One trait has the seeds of another among its own: what one holds out, the other must not learn."""
    first, *rest = given.traits.traits
    twins = replace(
        given.traits,
        traits=(first, replace(rest[0], questions=(*first.questions, *rest[0].questions)), *rest[1:]),
    )
    with Run.open(tmp_path, "gp", {}, {}, seed=0) as run:
        report = study(
            run, replace(SMALL, questions_each=40, policy_steps=1, snapshots=()), replace(given, traits=twins)
        )
    assert report.counts["questions that are held out for another trait, not learned from"] >= 1
    labels = [
        json.loads(line)
        for path in run.folder.glob("labels_*.jsonl")
        for line in path.read_text().splitlines()
    ]
    asked = [
        json.loads(line)
        for path in run.folder.glob("over_*_start.jsonl")
        for line in path.read_text().splitlines()
    ]
    held = {row["key"] for row in asked}
    assert labels and not held & {from_messages(row["prompt"]).key for row in labels}


def test_bad_input_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps({"colour": "red"}) + "\n")
    for words, said in (
        (["--judge", "smollm2"], "toy world brings its own"),
        (["smollm2", "--personas", str(file)], "line 1"),
    ):
        assert main(["run", "general_principles", *words]) == 2
        assert said in capsys.readouterr().err
