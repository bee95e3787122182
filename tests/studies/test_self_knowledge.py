"""Self-knowledge: planted knowledge recovered without leaks, guarantees that hold, prompts as they should be,
a killed run, and the tool.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from solon.cli import main
from solon.errors import InputError
from solon.evaluation.knowledge import (
    build_knowledge_model,
    fit_knowledge_model,
    hard_labels,
    init_head,
    label_questions,
)
from solon.evaluation.measure import choice_outcomes
from solon.evaluation.scores import fit_temperature
from solon.evaluation.selective import certified_threshold, conformal_threshold, risk_coverage
from solon.evaluation.self_knowledge import (
    SampledAnswers,
    addition,
    agreement,
    fixed_examples,
    hidden_options,
    none_of_the_above,
    propose_answer,
    propose_sample,
    sample_answers,
    true_or_false,
    with_source,
)
from solon.models.backbones.small_files import save_small
from solon.models.dialogue import PlainText
from solon.models.scalar import ScalarModel, last_hidden_states
from solon.models.scripted import ScriptedModel
from solon.models.torch_model import TorchModel
from solon.statistics.calibration import auroc
from solon.statistics.logistic import fit_ridge
from solon.studies.know_what_they_know import toy_facts
from solon.studies.know_what_they_know.inputs import Inputs, Task
from solon.studies.know_what_they_know.settings import Settings, toy
from solon.studies.know_what_they_know.study import halves, study
from solon.studies.know_what_they_know.toy_models import sharpened
from solon.tools.knows.study import shown_with
from solon.training.optimiser import Plan
from solon.words.conversation import Conversation
from solon.words.question import Problem, human_turn, to_question
from tests.killed import survived
from tests.toy import facts, is_planted, knower


@pytest.fixture(scope="module")
def taught() -> TorchModel:
    """Knows half of the facts; neither judges nor reads sources."""
    return knower()


def test_planted_knowledge_is_recovered_on_questions_that_nothing_was_learned_from(
    taught: TorchModel,
) -> None:
    problems = [problem for task in toy_facts.TASKS for problem in facts(task)]
    drawn = sample_answers(taught, problems, examples=(), samples=30, seed=1)
    planted = [is_planted(problem) for problem in problems]
    share = np.array([own.share for own in drawn])
    assert share[planted].mean() > 0.9 and share[~np.array(planted)].mean() < 0.2
    learned, held = halves(problems, seed=0)
    assert not {problems[p].cluster for p in learned} & {problems[p].cluster for p in held}
    for method in ("probe", "lora"):
        head = build_knowledge_model(taught, method)  # type: ignore[arg-type]
        rows = label_questions(head, [problems[p] for p in learned], share[learned].tolist())
        init_head(head, rows)
        for _ in (
            fit_knowledge_model(head, rows, plan=Plan(10, 1e-3, warmup=2), size=32, seed=0)
            if method == "lora"
            else ()
        ):
            pass
        found = auroc(head([problems[p] for p in held]), [planted[p] for p in held])
        assert found.value >= 0.95, (method, found)
    assert all(own.is_floating_point() for own in taught.module.state_dict().values())


def test_states_behind_a_shared_beginning_are_those_of_whole_rows(taught: TorchModel) -> None:
    rows = [taught.dialogue.prompt(to_question(own, facts("town")[:3]).prompt) for own in facts("colour")[:5]]
    with torch.inference_mode():
        whole = torch.cat([ScalarModel(taught.module).reply_states([(row, [()])]) for row in rows])
    assert torch.allclose(last_hidden_states(taught.module, rows), whole, atol=1e-4)


def test_a_soft_row_is_thirty_hard_ones() -> None:
    rng = np.random.default_rng(0)
    x, share = rng.normal(size=(12, 3)), rng.integers(0, 31, 12) / 30
    soft = fit_ridge(x, share, np.full(12, 30.0), 1.0, intercept=True)
    hard = hard_labels([((place,), own) for place, own in enumerate(share)], 30)
    assert len(hard) == 360 and np.mean([own for _, own in hard]) == pytest.approx(share.mean())
    copies = fit_ridge(
        np.array([x[tokens[0]] for tokens, _ in hard]),
        np.array([own for _, own in hard]),
        np.ones(360),
        1.0,
        intercept=True,
    )
    np.testing.assert_allclose(soft, copies, atol=1e-4)


def test_questions_of_one_share_teach_nothing_and_are_refused(taught: TorchModel) -> None:
    with pytest.raises(InputError, match="easier and harder"):
        init_head(build_knowledge_model(taught, "probe"), [((1, 2), 0.0), ((1, 3), 0.0)])


def test_the_guaranteed_error_rate_holds_in_nearly_all_draws() -> None:
    """Confidences that mean something but are not calibrated; 200 calibration sets; the true error of what
    would be answered.
    """
    rng = np.random.default_rng(0)

    def truth(score: np.ndarray) -> np.ndarray:
        return 0.98 / (1 + np.exp(-10 * (score - 0.45)))

    grid = np.linspace(0, 1, 20_001)
    held, answered = 0, []
    for _ in range(200):
        scores = rng.random(300)
        right = rng.random(300) < truth(scores)
        found = certified_threshold(
            scores.tolist(), right.tolist(), target=0.15, reference=rng.random(300).tolist()
        )
        kept = grid[grid >= found.value]
        held += not len(kept) or 1 - truth(kept).mean() <= 0.15
        answered.append(len(kept) / len(grid))
    assert held >= 190
    assert np.mean(answered) > 0.3  # not by never answering


def test_conformal_risk_is_held_in_the_mean() -> None:
    rng = np.random.default_rng(1)
    losses = []
    for _ in range(300):
        scores = rng.random(101)
        right = rng.random(101) < scores
        found = conformal_threshold(scores[:100].tolist(), right[:100].tolist(), target=0.1)
        losses.append(float(scores[100] >= found.value and not right[100]))
    assert np.mean(losses) <= 0.1 + 3 * np.sqrt(0.09 / 300)
    assert certified_threshold([0.5] * 10, [False] * 10, target=0.1, reference=[0.5]).value == float("inf")
    with pytest.raises(InputError):
        certified_threshold([0.5], [True], target=1.5, reference=[0.5])


def test_risk_and_coverage_against_a_table_worked_by_hand() -> None:
    found = risk_coverage([0.9, 0.7, 0.7, 0.2], [True, False, True, False])
    assert found.coverage == (0.25, 0.75, 1.0) and found.risk == pytest.approx((0.0, 1 / 3, 0.5))
    assert found.area == pytest.approx((0 + 1 / 3 + 1 / 3 + 0.5) / 4) and found.random == 0.5
    assert found.oracle == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4)


def test_prompts_say_what_the_paper_says() -> None:
    own = Problem("Question: 1 + 1?", ("1", "2", "3"), ("3",))
    assert none_of_the_above(own).answers == ("none of the above",) and none_of_the_above(own).options == (
        "1",
        "2",
        "none of the above",
    )
    right, wrong = true_or_false(own, seed=0)
    assert (right.answers, wrong.answers) == (("True",), ("False",)) and right.cluster == wrong.cluster
    drawn = SampledAnswers(
        ("a", "b", "c", "b", "d", "e"),
        (True, False, None, False, False, False),
        (0.0,) * 6,
        (1,) * 6,
        "a",
        True,
        0.0,
        1,
    )
    for seed in range(20):
        put, place = propose_sample(Problem("Question: q", (), ("a",)), drawn, ideas=5, seed=seed)
        ideas = [line[2:] for line in put.text.splitlines() if line.startswith("- ")]
        assert (
            len(ideas) == 5
            and drawn.texts[place] in ideas
            and f"Proposed Answer: {drawn.texts[place]}" in put.text
        )
        assert put.answers == (("True",) if drawn.right[place] else ("False",))
        # the same sample, alone
        assert propose_sample(Problem("Question: q", (), ("a",)), drawn, ideas=0, seed=seed)[1] == place
    assert human_turn(propose_answer(own, "2", right=True)).endswith(
        "Is the proposed answer:\nChoices:\n (A) True\n (B) False"
    )
    assert sum(example.answers == ("True",) for example in fixed_examples(ideas=True)) == 5
    assert drawn.share == pytest.approx(1 / 6) and agreement(
        Problem("Question: q", (), ("a",)), drawn
    ) == pytest.approx(2 / 6)
    sums = Problem(
        "Question: 3 + 4?", (), ("7",), opening="Step by step:", grade="number", tags={"worked": "so 7"}
    )
    said = ("First 3.\nThen 4.\nThe answer is 7.", "It is 7", "3 and 4\nmake 8", "3 and 4\nmake 9")
    worked = SampledAnswers(said, (True, True, False, False), (0.0,) * 4, (1,) * 4, "7", True, 0.0, 1)
    assert agreement(sums, worked) == 0.5  # by what they end on, not by how they begin
    assert (
        "Proposed Answer: First 3. Then 4. The answer is 7.\n"
        in propose_sample(sums, worked, ideas=2, seed=0, index=0)[0].text
    )
    sums_of = addition(60, seed=0)
    assert len({s.text for s in sums_of}) == 60
    assert all(
        str(sum(map(int, s.text.removeprefix("Question: What is ").rstrip("?").split(" + ")))) == s.answers[0]
        for s in sums_of
    )


def test_plain_text_is_a_line_for_each_side_and_a_blank_one_between() -> None:
    class Letters:
        all_special_tokens = ()

        def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
            return [ord(letter) for letter in text]

    talk = to_question(Problem("Question: b", (), ("y",)), [Problem("Question: a", (), ("x",))]).prompt
    plain = PlainText(Letters(), frozenset(), (), (), ())
    assert "".join(map(chr, plain.prompt(talk))) == "Question: a\nAnswer: x\n\nQuestion: b\nAnswer:"


def test_a_planted_sharpness_is_undone_by_its_temperature(taught: TorchModel) -> None:
    problems = [hidden_options(toy_facts.with_options(own)) for own in facts("colour")[:40]]
    plain, sharp = (
        fit_temperature(choice_outcomes(model, problems)) for model in (taught, sharpened(taught, 2.5))
    )
    assert sharp / plain == pytest.approx(2.5, rel=0.02)


def small_inputs(taught: TorchModel) -> Inputs:
    tasks = tuple(
        Task(
            name,
            tuple(toy_facts.questions(name)),
            {own.text: (toy_facts.source(own),) for own in toy_facts.questions(name)},
        )
        for name in ("colour", "town")
    )
    choices = (("colours", tuple(toy_facts.with_options(own) for own in toy_facts.questions("colour"))),)
    return Inputs((taught,), tasks, choices, sharpened(taught, 2.5), fixed_prompt=False)


def small_settings() -> Settings:
    return Settings(
        samples=8,
        shots=0,
        judged_shots=0,
        questions=40,
        choices=40,
        hidden_options=True,
        form="dialogue",
        method="lora",
        batch=16,
        epochs=2.0,
        learning_rate=1e-3,
    )


def test_a_killed_study_ends_on_the_same_report(taught: TorchModel, tmp_path: Path) -> None:
    inputs, settings = small_inputs(taught), small_settings()

    whole = survived(tmp_path, lambda own: study(own, settings, inputs), patience=(1, 6))
    assert "one temperature for all" in whole
    assert "not the paper's 800M to 52B" in whole and "another question's" in whole


@pytest.mark.slow
def test_the_toy_study_finds_what_was_planted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "know_what_they_know", "--json"]) == 0
    claims = {
        claim["name"]: claim for claim in json.loads(capsys.readouterr().out.splitlines()[-1])["claims"]
    }
    for task in toy_facts.TASKS:
        assert claims[f"{task}/p_ik"]["found"] >= 0.95
        assert claims[f"{task}/p_true"]["holds"]
    assert claims["crossed/toy0"]["holds"] and claims["crossed/toy1"]["holds"]
    assert toy().method == "full"


@pytest.fixture(scope="module")
def folder(taught: TorchModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("knows") / "toy"
    save_small(taught, found)
    return found


def written(path: Path) -> Path:
    rows = [
        {"question": own.text.removeprefix("Question: "), "answers": list(own.answers)}
        for task in toy_facts.TASKS
        for own in facts(task)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_fitted_model_answers_what_it_knows_and_declines_the_rest(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    questions = written(tmp_path / "facts.jsonl")

    def last(*words: str) -> dict[str, Any]:
        assert main(["knows", *words, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return found

    asking = [
        str(folder),
        "--questions",
        str(questions),
        "--shots",
        "0",
        "--ideas",
        "0",
        "--samples",
        "8",
        "--target",
        "0.45",
        "--seed",
        "4",
    ]
    found = last(*asking)
    claims = {claim["name"]: claim for claim in found["claims"]}
    assert claims["auroc"]["found"] > 0.85 and 0 < claims["coverage"]["found"] < 1
    kept = Path(found["run"]) / "model"
    told = [last(str(kept), "--ask", own.text.removeprefix("Question: ")) for own in facts("colour")[:12]]
    assert {row["answers"] for row in told} == {True, False}  # survives reload, and both happen
    rows = [
        json.loads(line) for line in (Path(found["run"]) / "confidence_p_ik.jsonl").read_text().splitlines()
    ]
    known = {round(row["value"], 4) for row in rows}
    assert all(round(row["confidence"], 4) in known for row in told)
    ended = last(str(kept), "--questions", str(questions))
    assert (
        ended["questions"] == 300
        and 0 < ended["answered"] < 300
        and ended["wrong"] / ended["answered"] < 0.45
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "needs a model"),
        (["{folder}"], "--questions or"),
        (["{folder}", "--ask", "what"], "not fitted yet"),
        (["{folder}", "--questions", "{options}"], "no questions with free replies"),
        (["{folder}", "--questions", "{few}"], "at least 40"),
        (["{folder}", "--questions", "{few}", "--target", "2"], "between 0 and 1"),
    ],
)
def test_bad_input_is_told(
    words: list[str], says: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "few.jsonl").write_text('{"question": "what colour has c0 ?", "answers": ["red"]}\n')
    (tmp_path / "options.jsonl").write_text('{"question": "a", "choices": ["x", "y"], "answer": 0}\n')
    names = {
        "folder": str(folder),
        "few": str(tmp_path / "few.jsonl"),
        "options": str(tmp_path / "options.jsonl"),
    }
    try:
        status = main(["knows", *(word.format(**names) for word in words)])
    except SystemExit as error:  # flags that a dataclass refuses
        status = int(error.code or 0)
    assert status == 2
    assert says in capsys.readouterr().err


def test_a_source_goes_before_the_question_and_a_script_can_be_drawn_from() -> None:
    own = with_source(Problem("Question: q", (), ("x",)), "Source: it is x.")
    assert own.text.startswith("Source: it is x.\n\nQuestion")
    model = ScriptedModel("s", lambda prompt, rng: rng.choice(["x", "y"]))
    found = sample_answers(model, [own] * 1, examples=(), samples=200, seed=0)[0]
    assert 0.35 < found.share < 0.65 and isinstance(to_question(own).prompt, Conversation)


def test_a_judged_sample_is_shown_once_among_the_ideas_and_worked_examples_reason() -> None:
    own = SampledAnswers(("x", "y", "z"), (True, False, False), (0.0,) * 3, (1,) * 3, "x", True, 0.0, 1)
    assert (
        shown_with(own, 1, 2) == ["y", "x"]
        and shown_with(own, 0, 3) == ["x", "y", "z"]
        and shown_with(own, 0, 0) == []
    )
    example = Problem(
        "Question: 1 + 1?",
        (),
        ("2",),
        opening="Let's think.",
        grade="number",
        tags={"worked": "One and one are two."},
    )
    assert (
        to_question(Problem("Question: b"), [example]).prompt.turns[1].text
        == "Let's think. One and one are two.\nThe answer is 2."
    )
