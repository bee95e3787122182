"""Measuring: readers of published forms, scores against tables worked by hand, known answers, pairs of
models, bad input.
"""

import gzip
import io
import json
import math
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import brier_score_loss, roc_auc_score

from solon.cli import main
from solon.data.evaluations import read_evaluation, read_evaluations
from solon.errors import InputError
from solon.evaluation.bias import bias_scores, pronoun_correlation
from solon.evaluation.measure import Outcome, ReplyOutcome, choice_outcomes, reply_outcomes
from solon.evaluation.opinions import similarity, similarity_by_country
from solon.evaluation.scores import accuracy, behaviour_match, calibration, fit_temperature, with_temperature
from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.backbones.small_files import save_small
from solon.models.dialogue import WordDialogue
from solon.models.scripted import ScriptedModel
from solon.models.torch_model import TorchModel
from solon.records.page import page
from solon.statistics.calibration import auroc, brier_score, calibration_interval, expected_calibration_error
from solon.statistics.intervals import paired_difference
from solon.statistics.paired import benjamini_hochberg, detectable_difference, holm, sign_flip_test
from solon.study.comparing import compared, pairs
from solon.study.measurement import scores
from solon.study.outcomes import Suite
from solon.words.conversation import Conversation
from solon.words.question import Problem, choice_text, to_question
from tests.paths import PUBLISHED, ROOT

DATA = PUBLISHED
BBQ = {
    "example_id": 0,
    "question_index": "1",
    "question_polarity": "neg",
    "context_condition": "ambig",
    "category": "Age",
    "answer_info": {"ans0": ["aunt", "old"], "ans1": ["nephew", "nonOld"], "ans2": ["Not known", "unknown"]},
    "additional_metadata": {"stereotyped_groups": ["old"]},
    "context": "Two people came.",
    "question": "Who was slow?",
    "ans0": "The aunt",
    "ans1": "The nephew",
    "ans2": "Not known",
    "label": 2,
}


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


FORMS: list[tuple[str, dict[str, Any], str, str | None]] = [
    ("own", {"question": "1 + 1?", "choices": ["1", "2", "3"], "answer": "B"}, "Solon rows", " (B)"),
    ("number", {"question": "1 + 1?", "choices": ["x", "y"], "answer": 1}, "Solon rows", " (B)"),
    ("digits", {"question": "3 + 3?", "choices": ["1", "2", "3", "6"], "answer": 3}, "Solon rows", " (D)"),
    ("free", {"question": "Who?", "answers": ["Ann", "Anne"]}, "Solon rows", "Ann"),
    ("nq", {"question": "who", "answer": ["Ann"]}, "NQ-open", "Ann"),
    ("gsm", {"question": "how many", "answer": "1+1=2\n#### 1,002"}, "GSM8K or question and answer", "1002"),
    (
        "mwe",
        {"question": "Would you?", "answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"},
        "model-written evaluation",
        "Yes",
    ),
    (
        "hhh",
        {"prompt": "Which?\n (A) x\n (B) y\n\nAnswer:", "corrects": [" (B)"], "incorrects": [" (A)"]},
        "HHH comparisons",
        " (B)",
    ),
    ("bbq", BBQ, "BBQ", " (C)"),
    (
        "aqua",
        {"question": "2x=4", "options": ["A)1", "B)2"], "correct": "B", "rationale": ""},
        "AQuA",
        " (B)",
    ),
    (
        "csqa",
        {
            "question": {
                "stem": "Where?",
                "choices": [{"label": "A", "text": "here"}, {"label": "B", "text": "there"}],
            },
            "answerKey": "A",
        },
        "CommonsenseQA or ARC",
        " (A)",
    ),
    (
        "arc",
        {"question": "Where?", "choices": {"text": ["here", "there"], "label": ["1", "2"]}, "answerKey": "2"},
        "CommonsenseQA or ARC",
        " (B)",
    ),
    ("svamp", {"Body": "Ann has 3.", "Question": "How many?", "Answer": 3.0}, "SVAMP", "3.0"),
    ("lambada", {"text": "She opened the door"}, "LAMBADA", "door"),
    (
        "opinions",
        {"country": "Chile", "question": "Good?", "options": ["Yes", "No"], "distribution": [0.7, 0.3]},
        "GlobalOpinionQA",
        None,
    ),
    (
        "survey",
        {
            "question": "Good?",
            "options": "['Yes', 'No']",
            "selections": "defaultdict(<class 'list'>, {'Chile': [0.7, 0.3]})",
        },
        "GlobalOpinionQA",
        None,
    ),
]


@pytest.mark.parametrize(("name", "row", "kind", "answer"), FORMS, ids=[form[0] for form in FORMS])
def test_published_forms_are_recognised(
    name: str, row: dict[str, Any], kind: str, answer: str | None, tmp_path: Path
) -> None:
    found = read_evaluation(written(tmp_path / f"{name}.jsonl", row))
    assert found.kind == kind
    assert to_question(found.problems[0]).answer == answer


def test_mmlu_in_each_of_its_forms_is_one_evaluation(tmp_path: Path) -> None:
    headed, bare = (
        "question,choice0,choice1,choice2,choice3,answer\nWhat?,3,1,2,0,1\n",
        'What?,3,1,2,0,B\n"Why, then?",a,b,c,d,D\n',
    )
    with tarfile.open(tmp_path / "test.tar.gz", "w:gz") as archive:
        for name, text in (("a_test.csv", headed), ("b_test.csv", bare)):
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    problems = read_evaluation(tmp_path / "test.tar.gz").problems
    # a number is the option's place, not its text
    assert [(p.tags["subject"], p.right) for p in problems] == [("a", 1), ("b", 1), ("b", 3)]
    assert (
        to_question(problems[0]).prompt.turns[0].text
        == "Question: What?\nChoices:\n (A) 3\n (B) 1\n (C) 2\n (D) 0"
    )


def test_what_cannot_be_used_is_counted_and_the_rest_read(tmp_path: Path) -> None:
    good = {"question": "q", "choices": ["a", "b"], "answer": 0}
    bad = [
        {**good, "choices": ["a", "a"]},
        {**good, "choices": ["a", ""]},
        {**good, "answer": None},
        {**good, "answer": "z"},
    ]
    found = read_evaluation(written(tmp_path / "a.jsonl", good, *bad)).reading
    assert len(found.rows) == 1
    assert found.counts() == {
        "two equal options": 1,
        "an empty option": 1,
        "no answer key": 1,
        "an answer that is no option": 1,
    }
    with pytest.raises(InputError, match="no usable row"):
        read_evaluation(written(tmp_path / "b.jsonl", *bad))
    with pytest.raises(InputError, match="match no known format; expected"):
        read_evaluation(written(tmp_path / "c.jsonl", {"fish": 1}))
    with pytest.raises(InputError, match="mixes problems"):
        read_evaluation(written(tmp_path / "e.jsonl", good, {"question": "q", "answers": ["x"]}))
    shares = {"country": "Chile", "question": "Good?", "options": ["Yes", "No"]}
    rows = [{**shares, "distribution": own} for own in ([0.5, 0.1], [0.0, 0.0])]
    survey = read_evaluation(
        written(tmp_path / "d.jsonl", {**shares, "country": "Peru", "distribution": [0.5, 0.51]}, *rows)
    ).reading
    assert survey.counts() == {"shares that do not add up to 1": 2}
    assert sum(json.loads(survey.rows[0].tags["shares"])["Peru"]) == pytest.approx(1.0)


def by_text(likes: Callable[[Problem, int], float], problems: list[Problem]) -> ScriptedModel:
    """Likes an option of a problem as much as told."""
    table = {
        (to_question(own).prompt.key, choice_text(own, place)): likes(own, place)
        for own in problems
        for place in range(len(own.options))
    }
    return ScriptedModel("scripted", lambda prompt, rng: "", lambda prompt, reply: table[prompt.key, reply])


def problems(count: int, options: int = 4) -> list[Problem]:
    return [
        Problem(f"q{n}", tuple(f"o{k}" for k in range(options)), (f"o{n % options}",)) for n in range(count)
    ]


def test_gold_scores_one_wrong_scores_none_and_chance_scores_chance() -> None:
    own = problems(400)
    rng = np.random.default_rng(0)
    gold = choice_outcomes(by_text(lambda p, place: 0.0 if place == p.right else -9.0, own), own)
    wrong = choice_outcomes(by_text(lambda p, place: -9.0 if place == p.right else -1.0, own), own)
    guess = choice_outcomes(by_text(lambda p, place: float(rng.normal()), own), own)
    assert accuracy(gold).value == 1.0
    assert accuracy(wrong).value == 0.0
    assert accuracy(guess).low < 0.25 < accuracy(guess).high
    assert behaviour_match(gold)[1].value > 0.99
    even = choice_outcomes(by_text(lambda p, place: -1.0, own), own)
    assert all(row.tied and row.chosen == 0 for row in even)


def test_free_replies_are_graded_and_what_cannot_be_judged_bounds_the_mean() -> None:
    own = [Problem(f"q{n}", (), ("12",), opening="The answer is", grade="number") for n in range(10)]
    said = {
        own[n].text: words
        for n, words in enumerate(
            ["12. He had 8 and 4", " $12.00", "11", "twelve", "no", "12", "12", "12", "12", "12"]
        )
    }
    rows = reply_outcomes(ScriptedModel("s", lambda prompt, rng: said[prompt.turns[0].text]), own)
    assert [row.correct for row in rows] == [True, True, False, None, None, True, True, True, True, True]
    found = accuracy(rows)
    assert found.value == pytest.approx(0.7)
    assert found.high > 0.9 and "2 unjudged" in found.method


def calibrated(count: int, sharpness: float, seed: int) -> list[Outcome]:
    """Outcomes whose probabilities come true, then sharpened."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.2, (count, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    right = (rng.random(count)[:, None] < p.cumsum(axis=1)).argmax(axis=1)
    logs = np.log(p) * sharpness
    return [
        Outcome(str(n), str(n), ("a", "b", "c", "d"), int(right[n]), tuple(logs[n]), (1,) * 4)
        for n in range(count)
    ]


def test_a_calibrated_model_is_found_calibrated_and_planted_overconfidence_measured_and_repaired() -> None:
    honest, sharp = calibration(calibrated(2000, 1.0, 0)), calibration(calibrated(2000, 2.5, 1))
    assert honest.error.low == 0.0
    planted = calibration(calibrated(100_000, 2.5, 2)).error.value
    assert sharp.error.low > 0.1 and sharp.error.low <= planted <= sharp.error.high
    rows = calibrated(4000, 2.5, 3)
    temperature = fit_temperature(rows[::2])
    assert temperature == pytest.approx(2.5, rel=0.15)
    assert calibration([with_temperature(row, temperature) for row in rows[1::2]]).error.low == 0.0


def test_the_interval_of_the_error_of_a_calibrated_model_holds_zero() -> None:
    held = 0
    for seed in range(100):
        rows = calibrated(300, 1.0, seed)
        held += (
            calibration_interval(
                [max(row.belief) for row in rows], [float(bool(row.correct)) for row in rows], draws=300
            ).low
            == 0.0
        )
    assert held >= 90


def test_metrics_agree_with_an_independent_library() -> None:
    rng = np.random.default_rng(0)
    p, y = rng.random(500), rng.integers(0, 2, 500)
    assert brier_score(p.tolist(), y.astype(float).tolist()) == pytest.approx(
        brier_score_loss(y, p), abs=1e-12
    )
    assert auroc(p.tolist(), (y > 0).tolist()).value == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    order = np.argsort(p)  # ten bins of fifty
    assert expected_calibration_error(p.tolist(), y.astype(float).tolist()) == pytest.approx(
        np.abs(p[order].reshape(10, 50).mean(axis=1) - y[order].reshape(10, 50).mean(axis=1)).mean()
    )


def bbq_row(condition: str, chosen: int, *, biased: str = "0", cluster: str = "1") -> Outcome:
    logprobs = tuple(0.0 if place == chosen else -5.0 for place in range(3))
    right = 2 if condition == "ambig" else 1
    tags = {"condition": condition, "polarity": "neg", "category": "Age", "biased": biased, "unknown": "2"}
    return Outcome("k", cluster, ("a", "b", "u"), right, logprobs, (1, 1, 1), 0, tags)


def test_bias_scores_equal_tables_worked_by_hand() -> None:
    ambiguous = [
        bbq_row("ambig", chosen, cluster=str(n)) for n, chosen in enumerate([0, 0, 0, 1, 2, 2, 2, 2, 2, 2])
    ]
    decided = [bbq_row("disambig", chosen, cluster=str(n)) for n, chosen in enumerate([0, 1, 1, 1, 2])]
    excluded = [bbq_row("ambig", 0, biased=""), bbq_row("disambig", 0, biased="")]
    found = bias_scores([*ambiguous, *decided, *excluded])
    # ambiguous: 4 not unknown, 3 of them biased, 6 of 10 right; decided: 4 not unknown, 1 biased
    assert found.ambiguous is not None and found.ambiguous.value == pytest.approx((1 - 0.6) * (2 * 3 / 4 - 1))
    assert found.disambiguated is not None and found.disambiguated.value == pytest.approx(2 * 1 / 4 - 1)
    assert found.unscored == 2
    silent = bias_scores([bbq_row("ambig", 2), bbq_row("disambig", 2)])
    assert silent.ambiguous is None and silent.disambiguated is None


def test_rows_without_a_known_biased_answer_are_paired_in_accuracy_and_not_in_bias(tmp_path: Path) -> None:
    evaluation = read_evaluation(written(tmp_path / "a.jsonl", BBQ))
    first = [bbq_row("ambig", 0, cluster=str(n)) for n in range(4)] + [
        bbq_row("ambig", 0, biased="", cluster=str(n)) for n in range(4, 12)
    ]
    second = [bbq_row("ambig", 2, cluster=str(n)) for n in range(4)] + [
        bbq_row("ambig", 2, biased="", cluster=str(n)) for n in range(4, 12)
    ]
    found = {own.name: own.difference for own in pairs(evaluation, first, second)}
    assert (
        found["biased"].value == -1.0
        and found["biased"].n == 4
        and found["right"].value == 1.0
        and found["right"].n == 12
    )


def test_a_model_that_always_says_one_thing_gets_no_verdict(tmp_path: Path) -> None:
    rows = [
        {
            "question": f"Is {n} so?",
            "answer_matching_behavior": " Yes" if n % 3 else " No",
            "answer_not_matching_behavior": " No" if n % 3 else " Yes",
        }
        for n in range(60)
    ]
    evaluation = read_evaluation(written(tmp_path / "a.jsonl", *rows))
    habit, mixed = (
        [
            Outcome(p.text, p.text, p.options, p.right, (-3.0, -1.0) if n % every else (-1.0, -3.0), (1, 1))
            for n, p in enumerate(evaluation.problems)
        ]
        for every in (100, 3)
    )
    assert [own.border for own in scores(evaluation, habit)] == [None, None] and scores(evaluation, habit)[
        0
    ].found.low > 0.5
    assert [own.border for own in scores(evaluation, mixed)] == [0.5, 0.5]
    told = compared(
        ["a", "b"], Suite((evaluation,)), {("a", evaluation.name): mixed, ("b", evaluation.name): habit}
    )
    assert all(claim.holds is None for claim in told.claims)


def test_the_biased_answer_follows_polarity_and_the_authors_table_where_it_is_given(tmp_path: Path) -> None:
    kind = {**BBQ, "example_id": 1, "question_polarity": "nonneg", "question": "Who was quick?"}
    both = {
        **BBQ,
        "example_id": 2,
        "additional_metadata": {"stereotyped_groups": ["old", "nonOld"]},
        "question": "Who else?",
    }
    path = written(tmp_path / "Age.jsonl", BBQ, kind, both)
    assert [p.tags["biased"] for p in read_evaluation(path).problems] == ["0", "1", ""]
    (tmp_path / "additional_metadata.csv").write_text(
        "category,example_id,target_loc,label_type\nAge,0,1.0,label\nAge,2,0.0,name\n"
    )
    found = read_evaluation(path).problems
    assert [p.tags["biased"] for p in found] == ["1", "", "0"]
    assert found[2].tags["category"] == "Age (names)"


def test_opinions_are_compared_by_jensen_shannon_in_base_two() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        p, q = rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(5))
        assert similarity(p.tolist(), q.tolist()) == pytest.approx(1 - jensenshannon(p, q, base=2), abs=1e-9)
    assert similarity([0.2, 0.8], [0.2, 0.8]) == 1.0
    with pytest.raises(InputError, match="add up to 1"):
        similarity([0.5, 0.6], [0.5, 0.5])
    shares = json.dumps({"Chile": [0.5, 0.5], "Peru": [1.0, 0.0]})
    rows = [
        Outcome(str(n), str(n), ("y", "n"), None, (0.0, 0.0), (1, 1), 0, {"shares": shares})
        for n in range(12)
    ]
    found, left = similarity_by_country(rows, at_least=10)
    assert found["Chile"].value == 1.0 and list(found) == ["Chile", "Peru"] and left == 0


def test_pronouns_that_follow_the_statistics_correlate_with_them() -> None:
    rows = [
        Outcome(
            str(n),
            str(n),
            ("he", "she", "they"),
            None,
            (math.log(1 - n / 21), math.log(n / 21), -9.0),
            (1, 1, 1),
            0,
            {"occupation": f"o{n}", "women": str(5 * n)},
        )
        for n in range(1, 20)
    ]
    assert pronoun_correlation(rows).value > 0.99
    assert (
        abs(
            pronoun_correlation(
                [
                    Outcome(
                        r.key,
                        r.cluster,
                        r.options,
                        None,
                        (-1.0, -1.0 + 0.01 * (int(r.key) % 2), -1.0),
                        r.tokens,
                        0,
                        r.tags,
                    )
                    for r in rows
                ]
            ).value
        )
        < 0.3
    )


def test_paired_tests_against_what_is_known() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal(0.2, 1, 12)
    exact = [abs((differences * (1 - 2 * ((n >> np.arange(12)) & 1))).sum()) for n in range(4096)]
    assert sign_flip_test(differences.tolist()) == pytest.approx(
        np.mean(np.array(exact) >= abs(differences.sum()) - 1e-9)
    )
    assert sign_flip_test(differences.tolist(), draws=4000, seed=1) == pytest.approx(
        sign_flip_test(differences.tolist()), abs=0.03
    )
    assert sign_flip_test([1.0, 1.0, -1.0, -1.0], clusters=["a", "a", "b", "b"]) == 1.0
    assert holm([0.01, 0.02, 0.03, 0.5]) == [0.04, 0.06, 0.06, 0.5]
    assert benjamini_hochberg([0.01, 0.02, 0.03, 0.5]) == [0.04, 0.04, 0.04, 0.5]
    found = paired_difference(rng.normal(0, 1, 400).tolist(), rng.normal(0, 1, 400).tolist())
    sure = (
        sum(
            abs(np.mean(noise := rng.normal(detectable_difference(found), math.sqrt(2), 400)))
            > 1.966 * noise.std(ddof=1) / 20
            for _ in range(400)
        )
        / 400
    )
    assert sure == pytest.approx(0.8, abs=0.08)  # the effect that is found four times in five


WORDS = ("Question:", "Choices:", "Answer:", "(A)", "(B)", "what", "is", "red", "blue", "why", "not", "who")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("measured")
    for seed in range(3):
        dialogue = WordDialogue(WORDS)
        save_small(
            TorchModel(
                f"m{seed}",
                SmallTransformer(Shape(dialogue.size, width=16, layers=1, heads=2, context=64), seed=seed),
                dialogue,
            ),
            folder / f"m{seed}",
        )
    return [str(folder / f"m{seed}") for seed in range(3)]


def quiz(path: Path) -> Path:
    rows = [
        {"question": f"{a} is {b}", "choices": ["red", "blue"], "answer": n % 2}
        for n, (a, b) in enumerate((a, b) for a in WORDS[5:] for b in WORDS[5:])
    ]
    return written(path, *rows, {"question": "what", "choices": ["red", "red"], "answer": 0})


def test_measure_and_compare_through_the_door(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quiz(tmp_path / "quiz.jsonl")
    assert main(["measure", "quiz.jsonl", "--model", models[0], "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out.splitlines()[-1])
    assert {claim["name"] for claim in found["claims"]} == {
        "quiz/accuracy",
        "quiz/log_probability",
        "quiz/calibration_error",
    }
    assert found["claims"][0]["n"] == 49 and "saved" in told.err
    report = json.loads((Path(found["run"]) / "report.json").read_text())
    assert report["counts"]["quiz: left out while reading: two equal options"] == 1
    kept = next(Path("runs/measured").glob("*/rows.jsonl"))
    before = kept.read_bytes()
    assert set(json.loads(before.splitlines()[0])) == {
        "key",
        "item",
        "cluster",
        "options",
        "right",
        "logprobs",
        "tokens",
        "cut",
        "tags",
    }
    kept.write_bytes(before[: len(before) // 2])  # as if killed while it wrote
    assert main(["compare", *models, "--on", "quiz.jsonl", "--json"]) == 0
    assert kept.read_bytes() == before  # gone on with, and never computed twice
    assert "read back" not in told.err
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(found["claims"]) == 4  # two numbers, each of two models against the first
    shown = (Path(found["run"]) / "report.html").read_text()
    assert "McNemar" in shown and "over the models" in shown and "<script" not in shown
    assert main(["compare", models[0], models[0], "--on", "quiz.jsonl"]) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["measure", "quiz.jsonl"], "--model"),
        (["measure", "none.jsonl", "--model", "{model}"], "does not exist"),
        (["measure", "odd.jsonl", "--model", "{model}"], "match no known format"),
        (["measure", "torn.jsonl", "--model", "{model}"], "not JSON"),
        (["measure", "quiz.jsonl", "--model", "{model}", "--shots", "60"], "too few for 60 examples"),
        (["compare", "{model}", "--on", "quiz.jsonl"], "two models"),
        (["compare", "{model}", "{model}"], "either --on"),
    ],
)
def test_bad_input_is_told(
    words: list[str],
    says: str,
    models: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    quiz(tmp_path / "quiz.jsonl")
    written(tmp_path / "odd.jsonl", {"fish": 1})
    (tmp_path / "torn.jsonl").write_text('{"question": "a", ')
    assert main([word.format(model=models[0]) for word in words]) == 2
    assert says in capsys.readouterr().err


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        choice_outcomes(
            ScriptedModel("nan", lambda prompt, rng: "", lambda prompt, reply: float("nan")), problems(1)
        )


@pytest.mark.slow
def test_a_model_without_log_probabilities_cannot_be_asked_to_choose(tmp_path: Path) -> None:
    """The type checker says so, before anything runs."""
    snippet = tmp_path / "snippet.py"
    snippet.write_text(
        "from solon.models.choice import choose\nfrom solon.models.remote import "
        "RemoteModel\nchoose(RemoteModel('http://a/v1', 'm'), [])\n"
    )
    words = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", str(snippet)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode and 'expected "LanguageModel"' in done.stdout


def test_items_that_flip_are_shown_the_largest_change_first(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.jsonl", *({"question": f"q{n}", "choices": ["x", "y"], "answer": 0} for n in range(6))
    )
    wanted = Suite(tuple(read_evaluations([path])))
    asked_of = wanted.drawn(wanted.evaluations[0])[1]

    def made(leanings: list[float]) -> list[Outcome | ReplyOutcome]:
        return [
            Outcome(own.text, own.text, own.options, own.right, (leaning, 0.0), (1, 1))
            for own, leaning in zip(asked_of, leanings, strict=True)
        ]

    rows = {("m", "a"): made([1, 1, 1, 1, -1, -1]), ("n", "a"): made([1, -1, -5, 1, 1, -1])}
    found = compared(["m", "n"], wanted, rows)
    assert len(found.gallery) == 3
    assert "q2" in found.gallery[0].title and all(exhibit.folded for exhibit in found.gallery)
    assert "+1 -2" in found.tables[0].rows[0][4]
    assert "<details" in page(found)


def test_published_files_are_all_read() -> None:
    if not DATA.exists():
        pytest.skip("the published evaluations are not beside this checkout")
    counts = {
        "mmlu/test.tar.gz": 4310,
        "truthfulqa/TruthfulQA.csv.gz": 790,
        "bbq/Religion.jsonl.gz": 1200,
        "winogender/templates.tsv": 60,
        "globalopinionqa/rows.jsonl.gz": 649,
        "nq_open/NQ-open.dev.jsonl.gz": 3610,
        "zero_shot_cot_sets/AQuA/test.json.gz": 247,
    }
    assert {name: len(read_evaluation(DATA / name).problems) for name in counts} == counts
    assert len(read_evaluations([DATA / "anthropic_evals" / "persona"])) == 30
    with gzip.open(DATA / "bbq/Religion.jsonl.gz", "rt") as file:
        assert json.loads(file.readline())["category"] == "Religion"


def test_a_prompt_in_plain_text_ends_where_the_answer_begins() -> None:
    example, own = Problem("Question: a", ("x", "y"), ("y",)), Problem("Question: b", ("x", "y"), ("x",))
    talk = to_question(own, [example]).prompt
    assert [turn.text for turn in talk.turns][1] == "Answer: (B)"
    assert talk.turns[-1].text == "Answer:" and isinstance(talk, Conversation)
