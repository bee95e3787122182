"""The study of sparse autoencoders end to end on small worlds, its page, and what moved between two
models.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from solon.cli import main
from solon.data.texts import read_texts
from solon.errors import InputError
from solon.interpretability.autoencoder import Autoencoder
from solon.interpretability.dictionary_files import read_autoencoder
from solon.interpretability.labels import describe_features, rate_labels
from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.base import Tokens
from solon.models.dialogue import WordDialogue
from solon.models.scripted import ScriptedModel
from solon.models.torch_model import TorchModel
from solon.records.dashboard import dashboard
from solon.records.run import Run
from solon.scaling.frontier import TrainingRun, compute_frontier, fit_power_law
from solon.studies.monosemanticity import toy_language
from solon.studies.monosemanticity.inputs import Inputs
from solon.studies.monosemanticity.report import half_point
from solon.studies.monosemanticity.settings import Settings
from solon.studies.monosemanticity.study import study
from solon.studies.monosemanticity.toy_language import FIRST
from solon.tools.features.report import report as moved_report
from solon.tools.features.study import Inputs as MovedInputs
from solon.tools.features.study import Settings as MovedSettings
from solon.tools.features.study import compare
from tests.killed import survived


def small_model(seed: int = 0) -> TorchModel:
    body = SmallTransformer(Shape(65, width=16, layers=2, heads=2, context=12), seed=seed)
    for parameter in body.parameters():
        if parameter.ndim == 2:
            parameter.data *= 5
    return TorchModel("small <b>", body, WordDialogue(toy_language.words()))


def small_inputs() -> Inputs:
    words = toy_language.words()
    predicates = {name: (lambda text, name=name: text.startswith(name)) for name in toy_language.CLASSES[:2]}
    steered = {
        name: frozenset(range(FIRST + 10 * place + 10, FIRST + 10 * place + 20))
        for place, name in enumerate(predicates)
    }
    return Inputs(
        small_model(),
        tuple(toy_language.rows(0, 90, 12)),
        lambda token: f"{words[token - FIRST]} <b>",
        predicates,
        steered,
    )


SMALL = Settings(
    layer=1,
    features=(12, 20),
    l1_coefficients=(3.0, 1.0),
    steps=12,
    batch=16,
    length=12,
    chunk=8,
    held_out=20,
    shown=10,
    prompts=3,
    planted=True,
    planted_steps=10,
    sweep_features=(8, 12, 16),
    sweep_steps=(4, 8, 16),
)


def test_the_study_survives_being_killed_and_its_page_is_whole(tmp_path: Path) -> None:
    def work(run: Run):  # type: ignore[no-untyped-def]
        return study(run, SMALL, small_inputs())

    survived(tmp_path, work, patience=(2, 8))
    pages = sorted(tmp_path.rglob("features.html"))
    assert len(pages) == 2 and pages[0].read_bytes() == pages[1].read_bytes()
    html = pages[0].read_text()
    told = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[0])
    # text is data, never markup
    assert "<b>" not in html.replace("&lt;b&gt;", "") and any("<b>" in word for word in told["words"])
    for feature in told["features"]:
        assert (
            sum(feature["histogram"]) >= 5
            and feature["levels"][0]["examples"][0]["values"][feature["levels"][0]["examples"][0]["hot"]] > 0
        )
    own, config = read_autoencoder(pages[0].parent / "dictionary")
    twin, _ = read_autoencoder(pages[0].parent / "dictionary_sparsify")
    x_BD = torch.randn(20, 16)
    assert config["metadata"]["hook_name"] == "blocks.0" and torch.allclose(own(x_BD), twin(x_BD), atol=1e-4)


def test_a_layer_or_text_that_is_not_there_is_said(tmp_path: Path) -> None:
    for settings, words in (
        (Settings(layer=3, length=12), "there are 1 to 2"),
        (Settings(layer=1, length=40), "context of 12"),
        (Settings(layer=1, length=12), "give more text"),
    ):
        with (
            Run.open(tmp_path, words.replace(" ", "_"), {}, {}, seed=0) as run,
            pytest.raises(InputError, match=words),
        ):
            study(run, settings, small_inputs())


def test_a_feature_that_one_model_uses_more_is_found(tmp_path: Path) -> None:
    before, after = small_model(), small_model()
    own = Autoencoder(16, 24, seed=3, norm=1.0)
    with torch.no_grad():  # the second model's stream is moved along one feature's direction
        own.encoder_bias_F.fill_(-0.2)
    direction = own.decoder_FD.detach()[7]
    block = after.module.get_submodule("blocks.0")
    block.register_forward_hook(lambda owner, given, output: (output[0] + 3.0 * direction, *output[1:]))
    rows: list[Tokens] = toy_language.rows(1, 30, 12)
    inputs = MovedInputs(
        before,
        after,
        own,
        1,
        tuple(rows),
        tuple(f"row {n}" for n in range(30)),
        tuple(f"prompt {n // 2}" for n in range(30)),
        str,
    )
    settings = MovedSettings(top=3, examples=1)
    whole = survived(tmp_path, lambda run: moved_report(settings, compare(run, inputs)), patience=(1, 3))
    first = next(line for line in whole.splitlines() if line.startswith("| Feature "))
    assert first.startswith("| Feature 7 rose") and "| holds |" in first
    with Run.open(tmp_path, "same", {}, {}, seed=0) as run:
        same = moved_report(MovedSettings(), compare(run, replace(inputs, after=before)))
    assert not [claim for claim in same.claims if claim.name.startswith("moved/")]
    narrow = replace(inputs, dictionary=Autoencoder(8, 4, seed=0))
    with Run.open(tmp_path, "other", {}, {}, seed=0) as run, pytest.raises(InputError, match="channels"):
        compare(run, narrow)


def test_labels_are_said_and_rated() -> None:
    speaker = ScriptedModel("speaker", lambda prompt, rng: "\n  rivers  \nand more")
    assert describe_features(speaker, [["a <<b>>", "c"], ["d"]]) == ["rivers", "rivers"]
    judge = ScriptedModel(
        "judge", lambda prompt, rng: "3", lambda prompt, reply: 0.0 if reply == "3" else -20.0
    )
    assert rate_labels(judge, ["rivers"], ["the <<Rhine>>"])[0] == pytest.approx(3.0, abs=0.5)


def test_frontiers_and_power_laws() -> None:
    rng = np.random.default_rng(0)
    compute = np.logspace(0, 4, 9)
    law = fit_power_law(compute.tolist(), (7 * compute**-0.3 * np.exp(rng.normal(0, 0.01, 9))).tolist())
    assert (
        law.exponent.value == pytest.approx(-0.3, abs=0.01)
        and law.exponent.low < -0.3 < law.exponent.high
        and law.r_squared > 0.99
    )
    attempts = [TrainingRun(1, 1, float(c), float(c**-0.5 + extra)) for c in compute for extra in (0.0, 0.5)]
    assert [own.loss for own in compute_frontier(attempts)] == pytest.approx([c**-0.5 for c in compute])
    with pytest.raises(InputError, match="three points"):
        fit_power_law([1.0, 2.0], [1.0, 2.0])


def test_the_middle_of_a_planted_curve_is_found() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-4, 4, 600)
    rows = [(float(own), bool(rng.random() < 1 / (1 + np.exp(-3 * (own - 0.7))))) for own in x]
    middle, low, high = half_point(rows)
    assert low < np.exp(0.7) < high and middle == pytest.approx(np.exp(0.7), rel=0.2)
    assert all(np.isnan(own) for own in half_point([(1.0, True), (2.0, True), (3.0, True)]))


def test_a_dictionary_that_never_fires_is_said(tmp_path: Path) -> None:
    settings = replace(SMALL, planted=False, l1_coefficients=(1e6,), steps=40, learning_rate=0.5)
    with (
        Run.open(tmp_path, "dead", {}, {}, seed=0) as run,
        pytest.raises(InputError, match="lower --l1-coefficients"),
    ):
        study(run, settings, small_inputs())


def test_texts_are_read_from_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo")
    (tmp_path / "b.jsonl").write_text('{"text": "three"}\n{"text": "four"}\n')
    (tmp_path / "c.md").write_text("  \n")
    assert [text for _, text in read_texts([tmp_path])] == ["one\ntwo", "three", "four"]
    with pytest.raises(InputError, match="does not exist"):
        list(read_texts([tmp_path / "none"]))
    (tmp_path / "d.jsonl").write_text('{"question": "x"}\n')
    with pytest.raises(InputError, match="is a text"):
        list(read_texts([tmp_path / "d.jsonl"]))
    (tmp_path / "e.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match="zip"):
        list(read_texts([tmp_path / "e.zip"]))


def test_a_page_holds_no_markup_from_words() -> None:
    html = dashboard("a </script><b>", ["<i>"], ["</script><script>alert(1)"], [])
    assert "<script>alert" not in html and "<i>" not in html and html.count("</script>") == 2


def test_bad_flags_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["run", "monosemanticity", "smollm2"], "--texts: what the model reads"),
        (
            ["run", "monosemanticity", "smollm2", "--texts", str(tmp_path), "--predicate", "x=["],
            "no regular expression",
        ),
        (["features"], "needs a run"),
        (["features", str(tmp_path), "--dictionary", str(tmp_path)], "names 0 runs"),
    ):
        assert main([*words, "--runs", str(tmp_path)]) == 2
        assert told in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_directions_are_recovered_and_steering_steers(tmp_path: Path, seed: int) -> None:
    assert main(["run", "monosemanticity", "--runs", str(tmp_path), "--seed", str(seed)]) == 0
    text = next(tmp_path.glob("monosemanticity/*/report.md")).read_text()
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    for name in (
        "Planted directions that a feature meets with a cosine of 0.9 (0.8 asked for)",
        "Correlation of attribution with ablation over a prompt's features, mean over prompts (the paper: "
        "0.81)",
    ):
        assert "| holds |" in lines[name]
    steering = [line for name, line in lines.items() if name.startswith("Clamped to 10")]
    assert len(steering) == 6 and sum("| holds |" in line for line in steering) >= 4
