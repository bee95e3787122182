"""Runs, reports and the index: what is kept, what is made again, what a person reads."""

import errno
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from solon.errors import InputError
from solon.records import index
from solon.records.files import temporary, write_text
from solon.records.page import page
from solon.records.progress import spoken
from solon.records.report import Claim, Exhibit, Figure, Line, Report, Table, markdown, terminal
from solon.records.run import Run, digest
from solon.statistics.intervals import wilson
from solon.training.fit import fit, reply_cross_entropy
from solon.training.optimiser import Plan
from solon.training.steps import Diverged, State, Step
from tests.library.test_training import batch, parameters, rows, same
from tests.models.test_models import model


def double(made: list[int]) -> Any:
    def make(some: Any) -> list[dict[str, Any]]:
        made.extend(some)
        return [{"value": 2 * item} for item in some]

    return make


def test_rows_are_made_once_and_a_torn_file_is_mended(tmp_path: Path) -> None:
    made: list[int] = []
    with Run.open(tmp_path, "s", {}, {}, seed=0) as run:
        first = run.rows("r", range(10), str, double(made), size=4)
        whole = (run.folder / "r.jsonl").read_bytes()
        assert run.rows("r", range(10), str, double(made), size=4) == first
        assert made == list(range(10))
        for cut in (len(whole) - 1, len(whole) // 2, 3, 0):
            (run.folder / "r.jsonl").write_bytes(whole[:cut])
            assert run.rows("r", range(10), str, double(made), size=4) == first
            assert (run.folder / "r.jsonl").read_bytes() == whole
        (run.folder / "r.jsonl").write_bytes(whole.replace(b'"key": "5"', b'"key": "x"'))
        assert run.rows("r", range(10), str, double([]), size=4) == first


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    def full(some: Any) -> list[dict[str, Any]]:
        if 8 in some:
            raise OSError(errno.ENOSPC, "No space left on device")
        return [{"value": 2 * item} for item in some]

    with Run.open(tmp_path, "s", {}, {}, seed=0) as run:
        with pytest.raises(OSError, match="No space"):
            run.rows("r", range(12), str, full, size=4)
        made: list[int] = []
        run.rows("r", range(12), str, double(made), size=4)
        assert made == [8, 9, 10, 11]
        with pytest.raises(OSError, match="No space"), temporary(run.folder / "x") as partial:
            partial.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")
        assert not list(run.folder.glob("x*"))


def test_the_folder_is_named_by_settings_inputs_and_seed(tmp_path: Path) -> None:
    folders = set()
    for settings, inputs, seed in (
        ({}, {}, 0),
        ({"a": 1}, {}, 0),
        ({}, {"f": "x"}, 0),
        ({}, {}, 1),
        ({}, {}, 0),
    ):
        with Run.open(tmp_path, "s", settings, inputs, seed=seed) as run:
            folders.add(run.folder)
    assert len(folders) == 4
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        Run.open(tmp_path, "s", {}, {}, seed=0),
        pytest.raises(InputError, match="another process"),
        Run.open(tmp_path, "s", {}, {}, seed=0),
    ):
        pass


def test_training_stops_where_it_is_asked_and_goes_on(tmp_path: Path) -> None:
    plan = Plan(8, 1e-2)

    def loop(speaker: Any, state: State | None) -> Iterator[Step]:
        return fit(speaker.module, batch(rows()), reply_cross_entropy(speaker.module), plan=plan, state=state)

    start = model()
    before = parameters(start)
    with Run.open(tmp_path / "whole", "s", {}, {}, seed=0) as run:
        whole = run.trained("t", start, loop, steps=8)
        wanted = (run.folder / "t.steps.jsonl").read_bytes()
    calls = iter([False, False, True])
    with Run.open(tmp_path / "cut", "s", {}, {}, seed=0, stop=lambda: next(calls, False)) as run:
        with pytest.raises(KeyboardInterrupt):
            run.trained("t", start, loop, steps=8)
        assert (run.folder / "t.checkpoint.safetensors").exists()
        again = run.trained("t", start, loop, steps=8)
        assert (run.folder / "t.steps.jsonl").read_bytes() == wanted
        assert not (run.folder / "t.checkpoint.safetensors").exists()
        third = run.trained("t", start, loop, steps=8)
    assert same(parameters(whole), parameters(again))
    assert same(parameters(whole), parameters(third))
    assert same(parameters(start), before)


def test_divergence_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    kept: list[list[torch.Tensor]] = []

    def loop(speaker: Any, state: State | None) -> Iterator[Step]:
        for step in fit(
            speaker.module,
            batch(rows()),
            reply_cross_entropy(speaker.module),
            plan=Plan(8, 1e-2),
            state=state,
        ):
            if step.number == 4 and state is None:
                raise Diverged("the loss at step 4 is nan")
            kept.append(parameters(speaker))
            yield step

    with Run.open(tmp_path, "s", {}, {}, seed=0) as run:
        with pytest.raises(Diverged, match="step 4"):
            run.trained("t", model(), loop, steps=8)
        assert (run.folder / "t.checkpoint.safetensors").exists()
        assert not (run.folder / "t.safetensors").exists()


def full_report() -> Report:
    claim = Claim.of("rate", "it <b>wins</b> | often", wilson(8, 10), True)
    figure = Figure(
        "A curve",
        "x",
        "y",
        (Line("one", (0.0, 1.0), (0.0, 1.0), (0.0, 0.9), (0.1, 1.1)), Line("two", (0.0,), (1.0,), dots=True)),
    )
    exhibit = Exhibit("prompt <1>", (("prompt", "<script>alert(1)</script>"), ("final", "a\nb")))
    return Report(
        "T <i>",
        ("said & done",),
        (claim,),
        ("careful <x>",),
        (Table("t", ("a",), (("<td>",),), "n"),),
        (figure,),
        (exhibit,),
        {"lost": 2},
        ("differs",),
        {"k": "v"},
    )


def test_model_text_is_never_markup() -> None:
    html = page(full_report())
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<b>wins" not in html
    assert "http" not in html.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert html.count("<svg") == 1
    assert page(full_report()) == html


def test_the_other_forms_hold_the_same(tmp_path: Path) -> None:
    text = markdown(full_report())
    assert "0.800" in text
    assert "\\| often" in text
    assert "    <script>" in text  # in an indented block
    assert "careful" in terminal(full_report())
    assert json.loads(json.dumps(full_report().as_dict()))["claims"][0]["n"] == 10
    assert full_report().claims[0].row().keys() == {"name", "found", "low", "high", "n", "holds"}


def test_the_index_migrates_and_refuses_what_is_newer(tmp_path: Path) -> None:
    index.began(tmp_path, tmp_path / "s/a", study="s", preset="quick", seed=0, model="m", started=1.0)
    index.began(tmp_path, tmp_path / "s/b", study="s", preset="quick", seed=1, model="m", started=2.0)
    index.ended(tmp_path, tmp_path / "s/a", seconds=3.0, claims=[{"name": "x"}])
    index.began(tmp_path, tmp_path / "s/a", study="s", preset="quick", seed=0, model="m", started=4.0)
    found = index.runs(tmp_path)
    assert [row["folder"] for row in found] == ["s/a", "s/b"]
    assert found[0]["claims"] == [{"name": "x"}]
    assert found[1]["claims"] is None
    with sqlite3.connect(tmp_path / "index.sqlite") as db:
        db.execute("insert into migrations values ('m999_future')")
    with pytest.raises(InputError, match="newer Solon"):
        index.runs(tmp_path)


def test_progress_says_how_long_is_left(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as stream:
        meter = spoken(stream, every=0.0)("stage", 4, 0)
        meter(1, {"loss": 2.0})
        meter(4)
        spoken(stream)("done before", 2, 2)
        stream.seek(0)
        text = stream.read()
    assert "1/4" in text
    assert "left" in text
    assert "loss 2" in text
    assert "read back" in text


def test_text_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "one")
    write_text(tmp_path / "a", "two")
    assert (tmp_path / "a").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
