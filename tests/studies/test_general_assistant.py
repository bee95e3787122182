"""A General Language Assistant on planted truth: its objectives, its readers, and the study from end to end
on the toy world.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from solon.alignment.objectives import discrimination_loss, mutual_information
from solon.alignment.preference import PreferenceModel
from solon.cli import main
from solon.data import toy_world as toy
from solon.data.exchange import read_public_comparisons
from solon.errors import InputError
from solon.models.scalar import ScalarModel
from solon.models.scripted import ScriptedModel
from solon.models.torch_model import TorchModel
from solon.records.report import markdown
from solon.records.run import Run
from solon.studies.general_assistant.inputs import Inputs, Task, public_comparisons, read
from solon.studies.general_assistant.settings import Settings
from solon.studies.general_assistant.study import STUDY, study
from solon.study.fingerprint import Keyed
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation
from tests.toy import prompts, speaker

# objectives


def test_discrimination_is_cross_entropy_of_each_reply_alone() -> None:
    model = speaker(0, steps=1)
    pm = PreferenceModel("", ScalarModel(model.module), model.dialogue)
    with torch.no_grad():
        pm.scalar.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    some = toy.comparisons(0, 6)
    rows = [(pm.group(c), c.p_first, 1.0 + place) for place, c in enumerate(some)]
    scores = torch.tensor(
        pm.score(
            [c.prompt for c in some for _ in range(2)], [text for c in some for text in (c.first, c.second)]
        )
    ).view(-1, 2)
    good = torch.tensor([[c.p_first, 1 - c.p_first] for c in some])
    each = torch.nn.functional.binary_cross_entropy_with_logits(scores, good, reduction="none").mean(dim=1)
    found = discrimination_loss(pm.scalar)(rows)
    assert found.loss.item() == pytest.approx(float((each * torch.arange(1.0, 7.0)).sum()), rel=1e-4)
    assert found.weight == 21.0


def test_information_takes_off_what_a_reply_is_worth_alone() -> None:
    """A model to which length is all there is has no information; one that knows the answer has its own."""

    def likes(prompt: Conversation, reply: str) -> float:
        return -float(len(reply)) + (3.0 if prompt.last and prompt.last in reply else 0.0)

    model = ScriptedModel("m", lambda prompt, rng: "", likes)
    asked = [Conversation().human("tea"), Conversation().human("tea"), Conversation().human("ink")]
    assert mutual_information(model, asked, ["a long cup of tea", "no", "no ink"]) == [3.0, 0.0, 3.0]
    assert mutual_information(
        model, asked[:1], ["tea"], context=Conversation().human("x").assistant("y")
    ) == [3.0]


# readers


def test_edits_and_annotations_are_public_comparisons(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"

    def write(*rows: dict[str, object]) -> None:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    write(
        {"prompt": "rivers", "kept": "They flow.", "reverted": "lol"},
        {"prompt": "seas", "kept": "same", "reverted": "same"},
    )
    found = read_public_comparisons(file)
    assert [(c.prompt.last, c.first, c.second, c.p_first) for c in found.rows] == [
        ("rivers", "They flow.", "lol", 1.0)
    ]
    assert found.counts() == {"both sides are equal, or neither is preferred": 1}
    rows = [{"instruction": "q", "output_1": "a", "output_2": "b", "preference": p} for p in (1, 1.9, None)]
    write(*rows, {"instruction": "q", "output_1": " ", "output_2": "b", "preference": 1})
    found = read_public_comparisons(file)
    assert [c.p_first for c in found.rows] == [1.0, pytest.approx(0.1)]
    assert found.counts() == {"both sides are equal, or neither is preferred": 1, "one side is empty": 1}
    write({"question": "how?", "answers": [{"text": "so", "votes": 7}, {"text": "no", "votes": 0}]})
    assert [(c.first, c.second) for c in read_public_comparisons(file).rows] == [("so", "no")]
    for rows, said in (
        ([{"instruction": "q", "output_1": "a", "output_2": "b", "preference": 3}], "line 1.*from 1"),
        ([{"prompt": "p", "kept": "a", "reverted": "b"}, {"prompt": "p", "kept": "a"}], "line 2.*reverted"),
        ([{"colour": "red"}], "needs answers, or kept"),
    ):
        write(*rows)
        with pytest.raises(InputError, match=said):
            read_public_comparisons(file)


def test_the_toy_public_has_votes_by_degrees() -> None:
    rows = public_comparisons(0, 40)
    assert {c.judge for c in rows} == {"votes"} and all(
        c.p_first == 1.0 and c.first != c.second for c in rows
    )
    assert all(toy.gold_reward(c.prompt, c.first) >= toy.gold_reward(c.prompt, c.second) for c in rows)
    # by degrees, not right and wrong alone
    assert any(toy.gold_reward(c.prompt, c.first) == toy.gold_reward(c.prompt, c.second) for c in rows)


# the study

SMALL = Settings(
    weights="full",
    batch=16,
    max_tokens=10,
    distil_epochs=2.0,
    distil_learning_rate=1e-3,
    distil_held_out=40,
    depths=(0.5, 1.0),
    task_rows=64,
    objective_learning_rate=1e-3,
    sizes=(24, 64),
    draws=1,
    pretraining_learning_rate=1e-3,
    preference_learning_rate=1e-3,
    measured=60,
)

TRUTH = Keyed("the planted truth", toy.gold_reward)


def given(model: TorchModel) -> Inputs:
    asked = prompts((*toy.FORBIDDEN, *toy.EVERYDAY), 200, 3)
    human = tuple(c for c in toy.comparisons(0, 240) if c.prompt not in asked[160:])
    texts = tuple((prompt, toy.good_reply(prompt)) for prompt in asked[:160])
    tasks = (Task("votes", True, tuple(public_comparisons(1, 60))),)
    public = tuple(public_comparisons(0, 30))
    return Inputs((model,), toy.example_dialogues(0), texts, (), asked[160:], tasks, public, human, TRUTH)


@pytest.fixture(scope="module")
def model() -> TorchModel:
    return speaker(0, steps=80, words=("GOOD:", "BAD:"), in_context_share=0.4, unprompted_share=0.05)


def test_a_killed_study_ends_on_the_same_report(model: TorchModel, tmp_path: Path) -> None:
    with Run.open(tmp_path, "ga", {}, {}, seed=0) as run:
        report = study(run, SMALL, given(model))
    claims = {claim.name: claim for claim in report.claims}
    assert claims["distilled"].holds and claims["distilled"].found > 0.3
    assert {
        "ranked_over_imitation_votes",
        "binary_pretraining_24",
        "ranked_pretraining_64",
        "distilled_over_prompted",
    } <= set(claims)
    again = tmp_path / "again"
    with (
        pytest.raises(KeyboardInterrupt),
        Run.open(
            again,
            "ga",
            {},
            {},
            seed=0,
            stop=lambda: (again / "ga" / run.folder.name / "pretrained_ranked.steps.jsonl").exists(),
        ) as half,
    ):
        study(half, SMALL, given(model))
    with Run.open(again, "ga", {}, {}, seed=0) as rest:
        assert markdown(study(rest, SMALL, given(model))) == markdown(report)


def test_replies_of_the_prompted_model_are_distilled_where_there_are_no_texts_and_a_model_judges(
    model: TorchModel, tmp_path: Path
) -> None:
    own = given(model)
    without = replace(own, texts=(), prompts=prompts(toy.EVERYDAY, 60, 9), worth=None)
    with Run.open(tmp_path, "ga", {}, {}, seed=0) as run:
        report = study(run, replace(SMALL, sizes=(24, 10_000), depths=(1.0,), distil_epochs=0.5), without)
    assert any("prompted model's own replies" in words for words in report.deviations)
    assert report.counts["numbers of comparisons over those that there are, left out"] == 1
    assert all(math.isfinite(claim.found) for claim in report.claims)
    for broken, why in (
        (replace(own, texts=own.texts[:20]), "at least 8"),
        (replace(own, human=own.human[:30]), "to measure with"),
    ):
        with (
            pytest.raises(InputError, match=why),
            Run.open(tmp_path, "few", {"n": len(broken.texts)}, {}, seed=0) as run,
        ):
            study(run, SMALL, broken)


@pytest.mark.slow
def test_pretraining_helps_at_100_and_stops_mattering_at_10_000(tmp_path: Path) -> None:
    """The planted world of `solon run general_assistant`: distillation closes the gap, and the public's votes
    are worth most where people's comparisons are few.
    """
    options = STUDY.defaults("toy")
    with Run.open(tmp_path, "ga", {}, {}, seed=0) as run:
        report = study(run, options.settings, read(options))
    claims = {claim.name: claim for claim in report.claims}
    assert claims["distilled"].low > 0.9
    assert (
        claims["prompt_worth"].holds
        and claims["distilled_worth"].holds
        and claims["distilled_over_prompted"].holds is None
    )
    assert claims["ranked_pretraining_100"].holds and claims["ranked_pretraining_100"].found > 0.05
    assert not claims["ranked_pretraining_10000"].holds and claims["ranked_pretraining_10000"].high < 0.03


def test_ties_cannot_be_measured_and_are_counted(model: TorchModel, tmp_path: Path) -> None:
    own = given(model)
    tie = Comparison(own.human[0].prompt, "so", "not", 0.5, "people")
    with Run.open(tmp_path, "ga", {}, {}, seed=0) as run:
        report = study(run, replace(SMALL, depths=(1.0,), sizes=(24,)), replace(own, human=(*own.human, tie)))
    assert report.counts["people's comparisons that were ties or too long, left out"] == 1


def test_bad_input_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"colour": "red"}) + "\n")
    for words, said in (
        (["smollm2"], "--public: comparisons of the public"),
        (["--comparisons", str(file)], "toy world brings its own"),
        (["smollm2", "--comparisons", str(file), "--public", str(file)], "line 1"),
    ):
        assert main(["run", "general_assistant", *words]) == 2
        assert said in capsys.readouterr().err
