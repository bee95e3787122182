"""Edges to other tools: lm-evaluation-harness on our engine with the harness's own numbers; Inspect's logs
written and read.
"""

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from solon.cli import main
from solon.data.evaluations import Evaluation, read_evaluation
from solon.data.published import ParsedFile
from solon.errors import InputError
from solon.evaluation.measure import Outcome, ReplyOutcome, choice_outcomes, reply_outcomes
from solon.evaluation.scores import accuracy
from solon.models.load import load_open
from solon.words.question import Problem
from tests.tiny import write_tiny_llama


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with a byte-level tokenizer, as a Hugging Face folder."""
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "colours.jsonl"
    things, colours = ("house", "tree", "river", "stone"), ("red", "green", "blue")
    made = [
        {
            "question": f"what is the colour of {number} {thing}?",
            "choices": list(colours),
            "answer": (number + place) % 3,
        }
        for place, thing in enumerate(things)
        for number in range(6)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def peers(folder: Path) -> tuple[Any, Any]:
    """(the harness's own model, ours), of the same weights."""
    huggingface = pytest.importorskip(
        "lm_eval.models.huggingface", reason="lm-eval is not installed: pip install 'solon[lm-eval]'"
    )
    ours = pytest.importorskip("solon.evaluation.lm_eval_model")
    load = load_open(str(folder), precision="float32")
    return huggingface.HFLM(
        pretrained=str(folder), dtype="float32", device="cpu", batch_size=3
    ), ours.SolonLM(load)


def instances(*arguments: Any) -> list[Any]:
    return [SimpleNamespace(args=own, arguments=own) for own in arguments]


@pytest.mark.extra
def test_log_likelihoods_greedy_flags_and_perplexities_equal_the_harness_own(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, ours = peers(folder)
    asked: list[tuple[str, str]] = [
        (f"what is the colour of a {a} ", f"{b} house")
        for a in ("red", "tree", "")
        for b in ("blue", "green", " two")
    ]
    asked += [
        ("", "red river"),
        ("how many", " one"),
        ("<s>what", " is"),
        ("one two " * 90, " three"),
        ("one two " * 200, " three red"),
        ("four " * 300, " blue"),
    ]
    found, expected = (
        ours.loglikelihood(instances(*asked), disable_tqdm=True),
        theirs.loglikelihood(instances(*asked), disable_tqdm=True),
    )
    assert [own for _, own in found] == [own for _, own in expected]
    assert [own for own, _ in found] == pytest.approx([own for own, _ in expected], abs=1e-3)
    # one of all tokens is the likeliest
    every = [(("", str(token)), [5, 6, 7], [token]) for token in range(theirs.tokenizer.vocab_size)]
    flags, others = (
        ours._loglikelihood_tokens(every, disable_tqdm=True),
        theirs._loglikelihood_tokens(every, disable_tqdm=True),
    )
    assert [own for _, own in flags] == [own for _, own in others] and sum(own for _, own in flags) == 1
    assert "contexts were cut" in caplog.text
    texts = instances(
        ("what is the colour of a red house ?",), ("one two three four " * 60,), ("red green blue " * 150,)
    )
    assert ours.loglikelihood_rolling(texts, disable_tqdm=True) == pytest.approx(
        theirs.loglikelihood_rolling(texts, disable_tqdm=True), abs=1e-2
    )


@pytest.mark.extra
def test_replies_equal_the_harness_own_and_stop_where_they_are_told(folder: Path) -> None:
    theirs, ours = peers(folder)
    asked = [
        (text, {"until": ["re"], "max_gen_toks": 12, "do_sample": False})
        for text in ("what is", "how many red", "the")
    ]
    found = ours.generate_until(instances(*asked), disable_tqdm=True)
    assert found == theirs.generate_until(instances(*asked), disable_tqdm=True) and not any(
        "re" in text for text in found
    )
    sampled = [("what is", {"until": [], "max_gen_toks": 8, "do_sample": True, "temperature": 1.0})] * 2
    first, second = ours.generate_until(instances(*sampled), disable_tqdm=True)
    assert first != second and [first, second] == ours.generate_until(instances(*sampled), disable_tqdm=True)
    with pytest.raises(InputError, match="num_beams"):
        ours.generate_until(instances(("a", {"until": [], "num_beams": 4})), disable_tqdm=True)


@pytest.mark.extra
def test_the_whole_harness_gives_equal_numbers_and_ours_on_the_same_rows_too(
    folder: Path, rows: Path, tmp_path: Path
) -> None:
    theirs, _ = peers(folder)
    (tmp_path / "tasks").mkdir()
    lines = [
        "Question: {{question}}",
        "Choices:",
        *(f" ({'ABC'[n]}) {{{{choices[{n}]}}}}" for n in range(3)),
        "Answer:",
    ]
    asked = "\\n".join(lines)
    (tmp_path / "tasks" / "colours.yaml").write_text(f"""
task: colours
dataset_path: json
dataset_kwargs:
  data_files: {{test: {rows}}}
  cache_dir: {tmp_path / "cache"}
test_split: test
output_type: multiple_choice
doc_to_text: "{asked}"
doc_to_choice: ["(A)", "(B)", "(C)"]
doc_to_target: answer
metric_list: [{{metric: acc}}]
""")
    told = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "solon",
                "lm-eval",
                "run",
                "--model",
                "solon",
                "--model_args",
                f"model={folder},precision=float32",
                "--tasks",
                "colours",
            ),
            *(
                "--include_path",
                str(tmp_path / "tasks"),
                "--output_path",
                str(tmp_path / "ours"),
                "--log_samples",
            ),
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert told.returncode == 0, told.stderr[-2000:]
    results = json.loads(next((tmp_path / "ours").rglob("results*.json")).read_text())
    ours = sorted(
        map(json.loads, next((tmp_path / "ours").rglob("samples*.jsonl")).read_text().splitlines()),
        key=lambda row: row["doc_id"],
    )
    manager = pytest.importorskip("lm_eval.tasks").TaskManager(include_path=str(tmp_path / "tasks"))
    peer = pytest.importorskip("lm_eval").simple_evaluate(theirs, tasks=["colours"], task_manager=manager)
    assert results["results"]["colours"]["acc,none"] == peer["results"]["colours"]["acc,none"]
    measured = choice_outcomes(
        load_open(str(folder), precision="float32").plain(), read_evaluation(rows).problems
    )
    assert accuracy(measured).value == pytest.approx(peer["results"]["colours"]["acc,none"])
    for row, other, own in zip(ours, peer["samples"]["colours"], measured, strict=True):
        expected = [float(resp[0][0]) for resp in other["resps"]]
        assert [float(resp[0][0]) for resp in row["resps"]] == pytest.approx(expected, abs=1e-3)
        assert own.logprobs == pytest.approx(expected, abs=1e-3)


def test_the_command_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["lm-eval", "--model", "solon"]) == 2
    assert "solon[lm-eval]" in capsys.readouterr().err


# Inspect


def logs() -> Any:
    pytest.importorskip("inspect_ai", reason="Inspect is not installed: pip install 'solon[inspect]'")
    return pytest.importorskip("solon.evaluation.inspect_logs")


@pytest.mark.extra
def test_a_log_that_was_written_is_read_back_with_the_same_accuracy(
    folder: Path, rows: Path, tmp_path: Path
) -> None:
    edge, evaluation = logs(), read_evaluation(rows)
    model = load_open(str(folder), precision="float32")
    own = choice_outcomes(model, evaluation.problems)
    edge.write_log(tmp_path / "a.eval", evaluation, evaluation.problems, own, model="tiny")
    found = edge.read_log(tmp_path / "a.eval")
    assert {row.key: row.correct for row in found.rows} == {
        f"{row.key} epoch 1": row.correct for row in own
    } and found.model == "solon/tiny"
    assert accuracy(found.rows).value == accuracy(own).value
    from_inspect = pytest.importorskip("inspect_ai.log").read_eval_log(str(tmp_path / "a.eval"))
    assert from_inspect.results.scores[0].metrics["accuracy"].value == accuracy(own).value
    sample = next(sample for sample in from_inspect.samples if sample.id == own[0].key)
    assert sample.choices == list(evaluation.problems[0].options) and sample.scores["solon"].metadata[
        "log_probabilities"
    ] == list(own[0].logprobs)
    free = tmp_path / "free.jsonl"
    free.write_text('{"question": "what is red?", "answers": ["blue", "green"]}\n')
    asked = read_evaluation(free)
    edge.write_log(
        tmp_path / "b.eval", asked, asked.problems, reply_outcomes(model, asked.problems), model="tiny"
    )
    assert edge.read_log(tmp_path / "b.eval").evaluation.problems[0].answers == ("blue", "green")


@pytest.mark.extra
def test_what_a_log_left_unscored_is_counted_and_bounds_the_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edge = logs()
    log, scorer = pytest.importorskip("inspect_ai.log"), pytest.importorskip("inspect_ai.scorer")
    error = log.EvalError(message="it broke", traceback="", traceback_ansi="")
    values: list[Any] = ["C", "C", "C", "I", 1.0, 0, True, "N", "P", math.nan, 0.4, {"a": 1}, None]
    samples = [
        log.EvalSample(
            id=f"s{place}",
            epoch=1,
            input="asked",
            target="x",
            scores=None if value is None else {"own": scorer.Score(value=value)},
        )
        for place, value in enumerate(values)
    ]
    samples.append(
        log.EvalSample(
            id="failed",
            epoch=1,
            input="asked",
            target="x",
            error=error,
            scores={"own": scorer.Score(value="C")},
        )
    )
    dataset = log.EvalDataset(name="d", samples=16, sample_ids=[*(own.id for own in samples), "gone", "lost"])
    spec = log.EvalSpec(
        created="2026-01-01T00:00:00+00:00", task="t", dataset=dataset, model="m", config=log.EvalConfig()
    )
    log.write_eval_log(log.EvalLog(status="cancelled", eval=spec, samples=samples), str(tmp_path / "a.eval"))
    found = edge.read_log(tmp_path / "a.eval")
    correct = {row.cluster: row.correct for row in found.rows}
    assert [correct[f"s{place}"] for place in range(13)] == [
        True,
        True,
        True,
        False,
        True,
        False,
        True,
        *[None] * 6,
    ]
    assert [correct[name] for name in ("failed", "gone", "lost")] == [None] * 3
    mean = accuracy(found.rows)
    assert mean.value == 5 / 16 and mean.high > 14 / 16 and "9 unjudged" in mean.method
    assert main(["measure", str(tmp_path / "a.eval"), "--runs", str(tmp_path / "runs"), "--json"]) == 0
    told = json.loads(next((tmp_path / "runs").rglob("report.json")).read_text())["counts"]
    assert (
        told["t: unscored: the log does not hold the sample"] == 2
        and told["t: unscored: the sample failed"] == 1
    )
    assert told["t: replies that could not be judged"] == 9
    capsys.readouterr()


@pytest.mark.extra
def test_two_logs_are_paired_by_sample_and_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs()
    log, scorer = pytest.importorskip("inspect_ai.log"), pytest.importorskip("inspect_ai.scorer")
    for name, right, count in (("first", 10, 30), ("second", 20, 32)):
        samples = [
            log.EvalSample(
                id=place,
                epoch=epoch,
                input=f"asked {place}",
                target="x",
                scores={"own": scorer.Score(value="C" if place <= right else "I")},
            )
            for place in range(1, count + 1)
            for epoch in (1, 2)
        ]
        spec = log.EvalSpec(
            created="2026-01-01T00:00:00+00:00",
            task="t",
            dataset=log.EvalDataset(),
            model=name,
            config=log.EvalConfig(epochs=2),
        )
        log.write_eval_log(
            log.EvalLog(status="success", eval=spec, samples=samples), str(tmp_path / f"{name}.eval")
        )
    paths = [str(tmp_path / f"{name}.eval") for name in ("first", "second")]
    assert main(["measure", *paths, "--runs", str(tmp_path / "runs"), "--json"]) == 0
    claim = json.loads(capsys.readouterr().out)["claims"][0]
    assert claim["found"] == pytest.approx(1 / 3) and claim["n"] == 60 and claim["holds"]
    counts = json.loads(next((tmp_path / "runs").rglob("report.json")).read_text())["counts"]
    assert counts["second: samples that not every log holds"] == 4
    assert main(["measure", paths[0], paths[0], "--runs", str(tmp_path / "runs")]) == 2
    assert main(["measure", *paths, "--limit", "5", "--runs", str(tmp_path / "runs")]) == 2
    assert "mean anything" in capsys.readouterr().err
    for task, words, told in (("other", "asked", "of different things"), ("t", "put", "in other words")):
        sample = log.EvalSample(
            id=1, epoch=1, input=f"{words} 1", target="x", scores={"own": scorer.Score(value="C")}
        )
        spec = log.EvalSpec(
            created="2026-01-01T00:00:00+00:00",
            task=task,
            dataset=log.EvalDataset(),
            model="third",
            config=log.EvalConfig(),
        )
        log.write_eval_log(
            log.EvalLog(status="success", eval=spec, samples=[sample]), str(tmp_path / "third.eval")
        )
        assert (
            main(["measure", paths[0], str(tmp_path / "third.eval"), "--runs", str(tmp_path / "runs")]) == 2
        )
        assert told in capsys.readouterr().err
    (tmp_path / "odd.eval").write_text("no log")
    assert main(["measure", str(tmp_path / "odd.eval"), "--runs", str(tmp_path / "runs")]) == 2
    assert "no log that Inspect can read" in capsys.readouterr().err


@pytest.mark.extra
def test_samples_that_one_log_lacks_take_no_part_in_a_pair(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edge, log, scorer = (
        logs(),
        pytest.importorskip("inspect_ai.log"),
        pytest.importorskip("inspect_ai.scorer"),
    )
    for name, count in (("whole", 100), ("cancelled", 40)):
        samples = [
            log.EvalSample(
                id=place,
                epoch=1,
                input=f"asked {place}",
                target="x",
                scores={"own": scorer.Score(value="C" if place % 5 else "I")},
            )
            for place in range(1, count + 1)
        ]
        dataset = log.EvalDataset(
            samples=100, sample_ids=list(range(1, 101)) if name == "cancelled" else None
        )
        spec = log.EvalSpec(
            created="2026-01-01T00:00:00+00:00",
            task="t",
            dataset=dataset,
            model=name,
            config=log.EvalConfig(),
        )
        log.write_eval_log(
            log.EvalLog(status="success", eval=spec, samples=samples), str(tmp_path / f"{name}.eval")
        )
    assert (
        main(
            [
                "measure",
                str(tmp_path / "whole.eval"),
                str(tmp_path / "cancelled.eval"),
                "--runs",
                str(tmp_path / "runs"),
                "--json",
            ]
        )
        == 0
    )
    claim = json.loads(capsys.readouterr().out)["claims"][0]
    assert (claim["found"], claim["n"]) == (0.0, 40)
    bare = log.EvalLog(
        status="cancelled",
        eval=spec.model_copy(update={"dataset": log.EvalDataset(samples=100)}),
        samples=samples,
    )
    log.write_eval_log(bare, str(tmp_path / "bare.eval"))
    # also where ids are not told
    assert sum(row.correct is None for row in edge.read_log(tmp_path / "bare.eval").rows) == 60


@pytest.mark.extra
def test_measuring_writes_logs_where_it_is_told(
    folder: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edge = logs()
    told = [
        "measure",
        str(rows),
        "--model",
        str(folder),
        "--inspect-logs",
        str(tmp_path / "logs"),
        "--runs",
        str(tmp_path / "runs"),
    ]
    assert main(told) == 0
    path = next((tmp_path / "logs").glob("*.eval"))
    assert len(edge.read_log(path).rows) == 24 and str(path) in capsys.readouterr().err


@pytest.mark.extra
def test_rows_without_a_right_answer_are_written_unscored(tmp_path: Path) -> None:
    edge, problem = logs(), Problem("Which?", ("x", "y"))
    evaluation = Evaluation("opinions", "own rows", "opinions", ParsedFile("nowhere", (problem,), ()))
    edge.write_log(
        tmp_path / "a.eval",
        evaluation,
        [problem],
        [Outcome("k", "k", ("x", "y"), None, (-1.0, -2.0), (1, 1))],
        model="m",
    )
    found = edge.read_log(tmp_path / "a.eval").rows[0]
    assert isinstance(found, ReplyOutcome) and found.correct is None and found.tags["unscored"] == "no score"
