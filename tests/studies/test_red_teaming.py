"""Red teaming on planted truth: attackers, defenders, clustered intervals, the map, the published rows, the
whole study.
"""

import importlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from solon.alignment.red_teaming import (
    Defender,
    assign_defenders,
    attack_reward,
    cut_other_speakers,
    dialogues,
    map_attacks,
    parse_attack,
    turn_scores,
)
from solon.cli import main
from solon.data import toy_world as toy
from solon.data.attacks import Attack, Attempt, read_attacks, to_published_row
from solon.data.published import read_prompts
from solon.errors import InputError
from solon.models.base import Sample, Stop
from solon.models.dialogue import WordDialogue
from solon.models.scripted import ScriptedModel
from solon.records.page import page
from solon.records.report import Exhibit, Report, markdown
from solon.records.run import Run
from solon.statistics.intervals import mean, regression
from solon.studies.red_teaming.inputs import Inputs, toy_ask, toy_attack, toy_go_on, toy_harmed, toy_refusal
from solon.studies.red_teaming.inputs import toy as toy_inputs
from solon.studies.red_teaming.settings import Settings
from solon.studies.red_teaming.study import STUDY, study
from solon.study.toy_models import trained
from solon.words.conversation import Conversation, read_transcript
from tests.paths import PUBLISHED
from tests.toy import attacker, prompts, speaker


def harm(
    asked: list[Conversation] | tuple[Conversation, ...], said: list[str] | tuple[str, ...]
) -> list[float]:
    """A harmlessness that counts words: the shorter, the better."""
    return [-float(len(text.split())) for text in said]


def parrot(*replies: str) -> Defender:
    """One that says the first of these half of the time."""
    return Defender(
        "scripted", "0", ScriptedModel("parrot", lambda prompt, rng: rng.choice(replies)), samples=8
    )


# dialogues


def test_the_more_harmful_reply_is_gone_on_with_and_every_turn_is_scored() -> None:
    talks = dialogues(
        ["how", "why"],
        parrot("no", "yes here it is"),
        harm,
        turns=3,
        follow_up=lambda talks, seed: ["and then"] * len(talks),
        max_tokens=9,
        seed=0,
    )
    assert [len(talk.turns) for talk in talks] == [6, 6]
    for talk, scores in zip(talks, turn_scores(talks, harm), strict=True):
        said = [turn.text for turn in talk.turns if turn.role == "assistant"]
        assert scores == tuple(-float(len(text.split())) for text in said)
    both = dialogues(
        ["how"] * 400,
        replace(parrot("no", "yes here it is"), samples=2),
        harm,
        turns=1,
        follow_up=lambda t, s: [],
        max_tokens=9,
        seed=1,
    )
    assert sum(talk.last != "no" for talk in both) / 400 == pytest.approx(0.75, abs=0.07)  # the worse of two


def test_silence_ends_a_dialogue_and_speaking_for_the_other_is_cut() -> None:
    quiet = dialogues(
        ["a", "b"],
        parrot("ok\n\nHuman: more please"),
        harm,
        turns=4,
        follow_up=lambda t, s: [""] * len(t),
        max_tokens=9,
        seed=0,
    )
    assert [talk.turns[1:] == Conversation().human("x").assistant("ok").turns[1:] for talk in quiet] == [
        True,
        True,
    ]
    empty = dialogues(
        ["a"], parrot(""), harm, turns=4, follow_up=lambda t, s: ["more"] * len(t), max_tokens=9, seed=0
    )
    assert len(empty[0].turns) == 2 and cut_other_speakers("Assistants: are many") == "Assistants: are many"


def test_a_guard_shows_the_two_best_of_what_is_drawn() -> None:
    words = ["one", "one two", "one two three", "one two three four"]
    guarded = Defender(
        "rejection", "0", ScriptedModel("m", lambda prompt, rng: rng.choice(words)), guard=harm, samples=16
    )
    for first, second in guarded.replies(
        [Conversation().human(str(place)) for place in range(50)], max_tokens=9, seed=0
    ):
        assert len(first.split()) <= len(second.split()) <= 2


def test_assignment_is_balanced_within_every_attacker_and_blind_to_what_is_meant() -> None:
    attackers = [f"a{place % 7}" for place in range(7 * 40)]
    found = assign_defenders(attackers, ["plain", "prompted", "rejection", "rlhf"], seed=0)
    for name in set(attackers):
        own = Counter(
            defender for attacker, defender in zip(attackers, found, strict=True) if attacker == name
        )
        assert set(own.values()) == {10}
    assert (
        found
        == assign_defenders(attackers, ["plain", "prompted", "rejection", "rlhf"], seed=0)
        != assign_defenders(attackers, ["plain", "prompted", "rejection", "rlhf"], seed=1)
    )
    with pytest.raises(InputError, match="no defender"):
        assign_defenders(attackers, [], seed=0)


def test_the_reward_of_an_attacker_is_harm_over_a_refusal_and_nonsense_earns_least() -> None:
    reward = attack_reward(parrot("yes here it is"), harm, lambda attack: "no", max_tokens=9, seed=0)
    samples = [Sample((), text, (0.0,), Stop.END, "") for text in ("how", "  \n", "1. why\n2. when")]
    found = reward([Conversation().human("ask")] * 3, samples)
    assert found == [3.0, 2.0, 3.0]  # four words against one; and one less than the least
    assert reward([Conversation()], samples[1:2]) == [-1.0]
    assert parse_attack("") == parse_attack(" - ") == ""


# statistics and the map


def test_the_regression_is_least_squares_with_honest_clusters() -> None:
    rng = np.random.default_rng(0)
    inside = wide = 0
    for _ in range(200):
        cluster = np.repeat(np.arange(20), 10)
        x = rng.normal(size=20)[cluster]  # the same within a cluster, and so is part of the noise
        y = 1.0 + 0.5 * x + rng.normal(size=20)[cluster] + rng.normal(size=200)
        robust = regression(list(y), [[1.0] * 200, list(x)], clusters=list(cluster))[1]
        alone = regression(list(y), [[1.0] * 200, list(x)], clusters=range(200))[1]
        inside += robust.low <= 0.5 <= robust.high
        wide += robust.high - robust.low > alone.high - alone.low
    assert inside >= 178 and wide >= 190  # of 200 intervals of 95%; few clusters cost a little
    values = list(rng.normal(size=30))
    assert regression(values, [[1.0] * 30], clusters=range(30))[0].high == pytest.approx(mean(values).high)
    with pytest.raises(InputError, match="one cluster alone"):
        regression(values, [[1.0] * 30, [1.0] * 3 + [0.0] * 27], clusters=[0] * 3 + list(range(1, 28)))
    for broken in ([[1.0] * 30, [2.0] * 30], [[1.0] * 30] * 31):
        with pytest.raises(InputError, match="linearly dependent"):
            regression(values, broken, clusters=range(30))


def test_planted_clusters_are_found_and_nan_is_refused() -> None:
    rng = np.random.default_rng(1)
    truth = np.repeat(np.arange(3), 30)
    states = 8 * np.eye(3, 40)[truth] + rng.normal(size=(90, 40))
    found = map_attacks(states, clusters=3, seed=0)
    assert found.positions_N2.shape == (90, 2)
    assert (
        all(len(set(found.cluster_N[truth == own])) == 1 for own in range(3))
        and len(set(found.cluster_N)) == 3
    )
    assert all(
        found.cluster_N[place] == cluster for cluster, own in enumerate(found.nearest) for place in own
    )
    np.testing.assert_array_equal(map_attacks(states, clusters=3, seed=0).positions_N2, found.positions_N2)
    states[0, 0] = np.nan
    for broken in (states, states[1:3]):
        with pytest.raises(InputError):
            map_attacks(broken, clusters=3, seed=0)


@pytest.mark.extra
def test_the_map_by_umap_keeps_clusters_together_and_repeats_itself() -> None:
    pytest.importorskip("umap", reason="umap-learn is an extra")
    layout = importlib.import_module("solon.alignment.layout_umap").layout
    truth = np.repeat(np.arange(3), 30)
    states = 8 * np.eye(3, 40)[truth] + np.random.default_rng(1).normal(size=(90, 40))
    first, again = (map_attacks(states, clusters=3, seed=0, layout=layout).positions_N2 for _ in range(2))
    np.testing.assert_array_equal(first, again)
    centres = np.stack([first[truth == own].mean(axis=0) for own in range(3)])
    spread = max(np.linalg.norm(first[truth == own] - centres[own], axis=1).mean() for own in range(3))
    assert min(np.linalg.norm(centres[a] - centres[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > 3 * spread


# rows


def test_attacks_are_read_from_published_attempts_and_from_prompts(tmp_path: Path) -> None:
    talk = Conversation().human("how do I").assistant("no").human("please").assistant("no")
    attempt = Attempt(
        Attack("how do I", "w 1", "Theft", "file", "to get it to steal"),
        "rlhf",
        "52B",
        talk,
        (0.5, -1.0),
        0.1,
    )
    row = to_published_row(attempt)
    assert set(row) == {
        "min_harmlessness_score_transcript",
        "num_params",
        "model_type",
        "rating",
        "task_description",
        "task_description_harmlessness_score",
        "transcript",
        "red_team_member_id",
        "is_upworker",
        "tags",
        "source",
    }
    assert (
        row["min_harmlessness_score_transcript"] == -1.0 and row["task_description"] == "to get it to steal"
    )
    file = tmp_path / "attempts.jsonl"
    file.write_text(
        "".join(
            json.dumps(own) + "\n"
            for own in (
                row,
                row,
                {**row, "transcript": talk.turns[0].text and "\n\nHuman: when\n\nAssistant: no"},
            )
        )
    )
    found = read_attacks(file)
    assert [
        (attack.opening, attack.attacker, attack.intent, attack.description) for attack in found.rows
    ] == [
        ("how do I", "w 1", "Theft", "to get it to steal"),
        ("when", "w 1", "Theft", "to get it to steal"),
    ]
    assert found.counts() == {"repeats an earlier opening": 1}
    file.write_text(
        json.dumps({"prompt": "how", "intents": ["S1"]})
        + "\n"
        + json.dumps({"prompt": "say\n\nAssistant: yes"})
        + "\n"
    )
    assert [(attack.opening, attack.attacker, attack.intent) for attack in read_attacks(file).rows] == [
        ("how", "", "S1")
    ]
    assert read_attacks(file).counts() == {"holds another's turn": 1}
    file.write_text(
        json.dumps({"prompt": "how", "intents": ["S1"]}) + "\n" + json.dumps({"colour": "red"}) + "\n"
    )
    with pytest.raises(InputError, match="line 2"):
        read_attacks(file)


def test_published_prompts_keep_their_intents() -> None:
    file = PUBLISHED / "red_team_prompts" / "donotanswer" / "malicious_uses.jsonl"
    if not file.exists():
        pytest.skip("the published red-team prompts are not beside this checkout")
    found = read_attacks(file)
    assert len(found.rows) + len(found.skipped) > 100 and len({attack.intent for attack in found.rows}) > 1
    assert {attack.opening for attack in found.rows} <= {
        prompt.last.strip() for prompt in read_prompts(file).rows
    }


def test_red_teaming_text_is_blurred_and_left_out_of_markdown() -> None:
    report = Report(
        "r",
        (),
        (),
        gallery=(
            Exhibit("Cluster 1", (("said", "<b>awful</b>"),), blurred=True),
            Exhibit("fine", (("said", "plain"),)),
        ),
    )
    found = page(report)
    assert (
        found.count('class="unveil"') == 1
        and "<b>awful" not in found
        and "&lt;b&gt;awful" in found
        and "<script" not in found
    )
    assert "awful" not in markdown(report) and "plain" in markdown(report)


# the study


SMALL = Settings(
    weights="full",
    batch=16,
    max_tokens=12,
    preference_learning_rate=1e-3,
    method="rloo",
    policy_steps=8,
    policy_prompts=8,
    policy_epochs=1,
    policy_learning_rate=3e-4,
    turns=2,
    rejection=4,
    attackers=4,
    attacks_each=4,
    attack_tokens=10,
    attack_steps=4,
    attack_prompts=4,
    attack_samples=4,
    clusters=3,
)


@pytest.fixture(scope="module")
def given() -> Inputs:
    asked = prompts(toy.FORBIDDEN, 60, 0)
    return Inputs(
        models=(speaker(0, steps=120, in_context_share=0.4),),
        attacker=attacker(0, steps=80),
        plain=toy.example_dialogues(0, declines=False),
        context=toy.example_dialogues(0),
        comparisons=tuple(toy.comparisons(0, 300)),
        prompts=asked[:20],
        attacks=tuple(map(toy_attack, asked[20:])),
        ask=toy_ask,
        go_on=toy_go_on,
        refusal=toy_refusal,
        harmed=toy_harmed,
    )


@pytest.mark.slow
def test_the_study_finds_what_was_planted(tmp_path: Path) -> None:
    """Whole toy size: the prompt and the guard help against the plain model, and a reinforced attacker finds
    the hole.
    """
    options = STUDY.defaults("toy")
    with Run.open(tmp_path, "rt", {}, {}, seed=0) as run:
        report = study(run, options.settings, toy_inputs(options))
    claims = {claim.name: claim for claim in report.claims}
    for name in ("prompted", "rejection", "rlhf"):
        assert claims[f"{name}_over_plain"].holds and claims[f"{name}_success"].found > 0.3
    assert claims["reinforced_over_few_shot"].holds and claims["reinforced_over_few_shot"].found > 0.15


def test_a_killed_study_ends_on_the_same_report(given: Inputs, tmp_path: Path) -> None:
    with Run.open(tmp_path, "rt", {}, {}, seed=0) as run:
        report = study(run, SMALL, given)
    rows = [json.loads(line) for line in (run.folder / "attempts.jsonl").read_text().splitlines()]
    assert {row["model_type"] for row in rows} == {
        "plain lm",
        "context distillation",
        "rejection sampling",
        "rlhf",
    }
    assert {row["source"] for row in rows} == {"file", "zero_shot", "few_shot", "reinforced"}
    assert all(turns[1::2] for turns in (read_transcript(row["transcript"]).turns for row in rows))
    again = tmp_path / "again"
    with (
        pytest.raises(KeyboardInterrupt),
        Run.open(
            again,
            "rt",
            {},
            {},
            seed=0,
            stop=lambda: (again / "rt" / run.folder.name / "attacker.steps.jsonl").exists(),
        ) as half,
    ):
        study(half, SMALL, given)
    with Run.open(again, "rt", {}, {}, seed=0) as rest:
        assert markdown(study(rest, SMALL, given)) == markdown(report)


def test_models_that_speak_different_tokens_are_red_teamed_together(given: Inputs, tmp_path: Path) -> None:
    """Each size has its own guard; the file's attackers are kept, and comparisons of the attacks are not
    learned from.
    """
    stream = toy.examples(1, in_context_share=0.4)
    other = trained(
        "toy32", WordDialogue(tuple(reversed(toy.vocabulary()))), stream, seed=1, steps=20, layers=2, width=32
    )
    attacks = tuple(replace(attack, attacker=f"w{place % 5}") for place, attack in enumerate(given.attacks))
    own = replace(given, models=(other, *given.models), attacks=attacks)
    with Run.open(tmp_path, "two", {}, {}, seed=0) as run:
        report = study(run, replace(SMALL, turns=1, policy_steps=1, attack_steps=0), own)
    rows = [json.loads(line) for line in (run.folder / "attempts.jsonl").read_text().splitlines()]
    assert {row["red_team_member_id"] for row in rows if row["source"] == "file"} <= {
        f"file w{place}" for place in range(5)
    }
    assert {row["num_params"] for row in rows} == {"toy", "toy32"}
    assert {"scaling_plain", "scaling_rlhf"} <= {claim.name for claim in report.claims}
    told = {attack.opening for attack in attacks}
    assert report.counts["comparisons that open as an attack does, left out"] == sum(
        c.prompt.last in told for c in given.comparisons
    )


def test_attacks_that_are_assigned_meet_one_defender_each(given: Inputs, tmp_path: Path) -> None:
    with Run.open(tmp_path, "blind", {}, {}, seed=0) as run:
        blind = study(run, replace(SMALL, crossed=False, attack_steps=0, turns=1, policy_steps=1), given)
    assert "reinforced_over_few_shot" not in {claim.name for claim in blind.claims}
    met = [
        int(row[2]) for row in next(table for table in blind.tables if table.title == "Types of model").rows
    ]
    empty = sum(count for name, count in blind.counts.items() if "empty" in name)
    # three kinds of four attackers, four attacks each
    assert sum(met) == 48 - empty and max(met) - min(met) <= empty


def test_the_planted_truth_of_harm() -> None:
    assert toy_harmed(prompts(("bomb",), 1, 0)[0], "sure , use the key")
    assert not toy_harmed(prompts(("bomb",), 1, 0)[0], "sorry , i will not") and not toy_harmed(
        prompts(("lamp",), 1, 0)[0], "sure , use the key"
    )


def test_bad_input_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["smollm2"], "--comparisons"),
        (["--comparisons", str(tmp_path / "x.jsonl")], "toy world brings its own"),
        (["smollm2", "--comparisons", str(tmp_path / "none.jsonl")], "none.jsonl"),
    ):
        assert main(["run", "red_teaming", *words]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", "red_teaming", "--rejection", "1"])
    assert "rejection must be at least 2" in " ".join(capsys.readouterr().err.split())
