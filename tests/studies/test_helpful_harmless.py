"""HH-RLHF's instruments on planted truth, and the study from end to end on the toy world."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solon.alignment.feedback import ReplyPair
from solon.alignment.outliers import detector_aurocs, exposure_aurocs, fit_detector, prompt_states
from solon.alignment.overoptimisation import best_of_n_kl, expected_best_of_n, fit_sqrt_kl_law
from solon.alignment.preference import PreferenceModel, end_states, fit_preference_model, ridge_head
from solon.alignment.quality import (
    ScoredComparison,
    accuracy,
    accuracy_above_quantile,
    accuracy_by_turn,
    calibration_error,
    length_correlation,
)
from solon.cli import main
from solon.data import toy_world as toy
from solon.data.published import to_hh_pair
from solon.errors import InputError
from solon.models.scalar import ScalarModel
from solon.models.torch_model import TorchModel
from solon.records.report import markdown
from solon.records.run import Run
from solon.studies.helpful_harmless.inputs import Inputs
from solon.studies.helpful_harmless.settings import Settings
from solon.studies.helpful_harmless.study import study
from solon.studies.helpful_harmless.tournament import by_rule, elo_by_scores
from solon.study.stages import split_in_halves
from solon.study.toy_models import planted
from solon.training.optimiser import Plan
from solon.words.comparison import Comparison
from tests.toy import prompts, speaker


@pytest.fixture(scope="module")
def model() -> TorchModel:
    return speaker(0)


# the root law


def test_the_root_law_of_a_gaussian_bandit_is_recovered() -> None:
    """A policy N(m, 1) against N(0, 1) has a KL of m^2 / 2 and, on a reward w x, the mean w m = w sqrt(2 KL):
    b is w sqrt(2).
    """
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(40):
        shifts = np.linspace(0.1, 3.0, 30)
        found = fit_sqrt_kl_law(list(shifts**2 / 2), list(0.7 * shifts + rng.normal(0, 0.05, 30)))
        inside += found.b.low <= 0.7 * math.sqrt(2) <= found.b.high
        assert found.b.value == pytest.approx(0.7 * math.sqrt(2), abs=0.05)
    assert inside >= 34  # of 40 intervals of 95%


def test_the_end_of_the_line_is_found_and_only_where_there_is_one() -> None:
    rng = np.random.default_rng(1)
    root = np.linspace(0.1, 6.0, 40)
    bent = np.where(root < 3, root, 3 - 0.5 * (root - 3)) + rng.normal(0, 0.05, 40)
    found = fit_sqrt_kl_law(list(root**2), list(bent))
    assert found.bend_kl is not None and 2.5**2 < found.bend_kl < 4.2**2
    assert found.b.value == pytest.approx(1.0, abs=0.1)
    ends = [fit_sqrt_kl_law(list(root**2), list(root + rng.normal(0, 0.2, 40))).bend_kl for _ in range(20)]
    assert sum(end is not None for end in ends) <= 3
    for kl, reward in (([1.0] * 8, range(8)), (range(5), range(5)), ([-1.0, *range(8)], range(9))):
        with pytest.raises(InputError):
            fit_sqrt_kl_law([float(x) for x in kl], [float(y) for y in reward])


@given(st.lists(st.tuples(st.integers(-5, 5), st.floats(-3, 3)), min_size=1, max_size=7))
def test_best_of_n_is_the_mean_over_all_subsets(samples: list[tuple[int, float]]) -> None:
    scores, values = [float(score) for score, _ in samples], [value for _, value in samples]
    means = {tie: np.mean([v for s, v in zip(scores, values, strict=True) if s == tie]) for tie in scores}
    for count in range(1, len(samples) + 1):
        wanted = np.mean([means[max(chosen)] for chosen in itertools.combinations(scores, count)])
        assert expected_best_of_n(scores, values, [count])[0] == pytest.approx(wanted, abs=1e-9)
    with pytest.raises(InputError):
        expected_best_of_n(scores, values, [len(samples) + 1])


def test_both_forms_of_its_kl() -> None:
    assert best_of_n_kl(1, tight=True) == best_of_n_kl(1, tight=False) == 0
    assert best_of_n_kl(64, tight=False) == pytest.approx(4.16, abs=0.01)
    assert best_of_n_kl(64, tight=True) == pytest.approx(3.17, abs=0.01)


# strange prompts


def gaussian(count: int, seed: int, *, out_of_distribution: bool = False) -> np.ndarray:
    """(N, 2, 6): layer 0 tells nothing; in layer 1 two channels go together, but not in strange prompts."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(count, 2, 6))
    if not out_of_distribution:
        states[:, 1, 1] = states[:, 1, 0] + 0.1 * rng.normal(size=count)
    return states


def test_planted_outliers_are_told_apart_where_they_are_and_nowhere_else() -> None:
    blind, seeing = detector_aurocs(gaussian(300, 0), gaussian(200, 1, out_of_distribution=True))
    assert blind.mean == pytest.approx(0.5, abs=0.07)
    assert seeing.mean > 0.9
    assert len(seeing.aurocs) == 3 and seeing.standard_deviation < 0.05
    # a planted rate: of prompts that are strange half of the time, half can be told
    half = np.concatenate([gaussian(200, 2), gaussian(200, 3, out_of_distribution=True)])
    assert detector_aurocs(gaussian(300, 0), half)[1].mean == pytest.approx((0.5 + seeing.mean) / 2, abs=0.06)


def test_known_outliers_help() -> None:
    rng = np.random.default_rng(4)
    inside, outside = rng.normal(size=(200, 1, 20)), rng.normal(size=(100, 1, 20))
    outside[:, 0, 3] += 2.0  # a shift that no covariance shows
    distance, known = detector_aurocs(inside, outside)[0], exposure_aurocs(inside, outside)[0]
    assert known.mean > distance.mean + 0.1
    assert len(known.aurocs) == 5
    with pytest.raises(InputError, match="do not give 10"):
        exposure_aurocs(inside, outside[:10])


def test_fewer_prompts_than_channels_are_shrunk_and_too_few_refused() -> None:
    rng = np.random.default_rng(5)
    found = fit_detector(rng.normal(size=(20, 50)))
    assert 0 < found.shrinkage <= 1
    assert np.isfinite(found(rng.normal(size=(5, 50)))).all()
    with pytest.raises(InputError, match="at least 8"):
        fit_detector(rng.normal(size=(7, 50)))


def test_a_prompt_is_the_mean_of_its_own_tokens(model: TorchModel) -> None:
    asked = [model.dialogue.prompt(prompt) for prompt in prompts(toy.EVERYDAY, 6, 0)]
    together, alone = (
        prompt_states(model.module, asked),
        np.concatenate([prompt_states(model.module, [own]) for own in asked]),
    )
    assert together.shape == (6, 2, 80)
    np.testing.assert_allclose(together, alone, atol=1e-4)


# preference models


def rows(count: int, seed: int, *, scale: float = 2.0) -> list[ScoredComparison]:
    """A calibrated judge: the label follows its own odds."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        first, second = scale * rng.normal(size=2)
        label = float(rng.random() < 1 / (1 + math.exp(second - first)))
        found.append(
            ScoredComparison(
                float(first),
                float(second),
                label,
                1 + number % 6,
                f"d{number // 2}",
                int(rng.integers(-9, 9)),
                "helpful",
            )
        )
    return found


def test_quality_of_a_calibrated_judge() -> None:
    some = rows(2000, 0)
    error = calibration_error(some[:400])
    assert calibration_error(some).value < 0.04 and error.low <= error.value <= error.high
    stated = float(np.mean([row.confidence for row in some]))
    assert accuracy(some).low < stated < accuracy(some).high
    assert (
        list(accuracy_by_turn(some)) == [1, 2, 3, 4]
        and sum(own.n for own in accuracy_by_turn(some).values()) == 2000
    )
    # high ones lie close
    assert (
        set(accuracy_above_quantile(some)) == {0.0, 0.25, 0.5, 0.75}
        and accuracy_above_quantile(some)[0.75].value < accuracy(some).value
    )
    correlated = length_correlation(some)
    assert correlated is not None and correlated.low < 0 < correlated.high
    leaning = [replace(row, longer=round(3 * (row.first - row.second))) for row in some]
    turned = [replace(row, first=row.second, second=row.first, longer=-row.longer) for row in leaning]
    assert length_correlation(leaning) == length_correlation(turned) and length_correlation(leaning).low > 0.9  # type: ignore[union-attr]
    boastful = [replace(row, first=5 * row.first, second=5 * row.second) for row in some]
    assert calibration_error(boastful).low > 0.05


def test_a_preference_model_reaches_the_rate_of_noisy_labels(model: TorchModel) -> None:
    """A fifth of the labels are wrong: the best there is is right on 80% of them, and on all of the truth.
    Only comparisons of helping with declining: which tool goes with which deed takes a model of this size
    longer to learn from such labels.
    """

    def clear(seed: int, count: int) -> list[Comparison]:
        drawn = toy.comparisons(seed, 2 * count, noise=0.2)
        return [c for c in drawn if "sorry" in c.first + c.second][:count]

    pm = PreferenceModel("", ScalarModel(model.unfrozen().module), model.dialogue)
    learned, held = clear(0, 3200), clear(1, 1000)
    for _ in fit_preference_model(
        pm, learned, plan=Plan(100, 1e-3, warmup=10, schedule="linear"), size=32, seed=0
    ):
        pass
    differences = pm.differences(held)
    right = [(d > 0) == (c.p_first > 0.5) for d, c in zip(differences, held, strict=True)]
    true = [
        (d > 0) == (toy.gold_reward(c.prompt, c.first) > toy.gold_reward(c.prompt, c.second))
        for d, c in zip(differences, held, strict=True)
    ]
    assert sum(true) / 1000 > 0.97
    assert sum(right) / 1000 == pytest.approx(0.8, abs=0.04)


def test_weights_of_the_loss(model: TorchModel) -> None:
    """A weight of nothing is leaving out, and a weight of two is counting twice."""
    pm = PreferenceModel("", ScalarModel(model.module), model.dialogue)
    some = toy.comparisons(2, 60)
    states, labels = end_states(pm, some), np.array([c.p_first for c in some])
    kept = np.arange(60) < 30
    changed = np.where(kept, labels, 1 - labels)  # what counts for nothing may say anything
    np.testing.assert_allclose(
        ridge_head(states, labels, kept * 1.0, (1.0,)),
        ridge_head(states, changed, kept * 1.0, (1.0,)),
        atol=1e-9,
    )
    twice = np.concatenate([states, states[kept]]), np.concatenate([labels, labels[kept]])
    one, other = ridge_head(states, labels, 1.0 + kept, (1.0,)), ridge_head(*twice, None, (1.0,))
    assert np.corrcoef((states @ one).ravel(), (states @ other).ravel())[0, 1] > 0.999


def test_the_weight_of_an_axis_in_training(model: TorchModel) -> None:
    """With next to no weight on harmless comparisons, it does not matter that all of them are turned
    round.
    """
    found = []
    for turned in (False, True):
        pm = PreferenceModel("", ScalarModel(model.unfrozen().module), model.dialogue)
        some = [c.swapped() if turned and c.axis == "harmless" else c for c in toy.comparisons(3, 96)]
        some = [
            replace(c, first=c.second, second=c.first) if turned and c.axis == "harmless" else c for c in some
        ]
        steps = list(
            fit_preference_model(pm, some, plan=Plan(12, 1e-3), size=16, seed=0, weights={"harmless": 1e-6})
        )
        found.append(pm.differences([c for c in toy.comparisons(4, 20) if c.axis == "helpful"]))
        assert len(steps) == 12
    assert found[0] == pytest.approx(found[1], abs=1e-2)


# the tournament


def test_a_tournament_without_a_finite_maximum_is_reported_and_not_solved() -> None:
    scores = {"start": {"test_pm": [0.0, 0.0]}, "policy": {"test_pm": [1.0, 1.0]}}
    ratings, why = elo_by_scores(scores, "test_pm")
    assert not ratings and "no finite maximum" in why


# the study

SMALL = Settings(
    sizes=(40, 160),
    depths=(0.5, 1.0),
    draws=2,
    finetuned=False,
    measured=120,
    mixtures=(0.0, 0.5, 1.0),
    lambdas=(1.0, 10.0),
    weights="full",
    batch=16,
    preference_learning_rate=1e-3,
    method="rloo",
    max_tokens=10,
    policy_steps=10,
    policy_prompts=8,
    policy_epochs=1,
    policy_learning_rate=3e-4,  # at 1e-3 all policies become perfect, and no game has a winner
    best_of=8,
    rounds=2,
    round_pairs=64,
)


def inputs(model: TorchModel) -> Inputs:
    asked = prompts(toy.FORBIDDEN, 84, 7)
    return Inputs(
        start=model,
        comparisons=tuple(toy.comparisons(0, 480, noise=0.1)),
        prompts=asked[:24],
        held_out=asked[24:],
        in_distribution=prompts(toy.EVERYDAY, 60, 3),
        out_of_distribution=prompts(toy.FORBIDDEN, 40, 3),
        annotate=planted,
        annotator="the truth",
    )


def test_the_study_finds_what_was_planted(model: TorchModel, tmp_path: Path) -> None:
    with Run.open(tmp_path, "hh", {}, {}, seed=0) as run:
        report = study(run, SMALL, inputs(model))
    claims = {claim.name: claim for claim in report.claims}
    assert claims["accuracy"].found > 0.7 and claims["accuracy"].holds
    assert claims["helpful_alone_on_harmless"].holds or claims["helpful_alone_on_harmless"].found < 0.7
    assert claims["gain_train_pm"].holds and claims["gain_train_pm"].found > 0.3
    assert (
        claims["outliers_exposed"].found > 0.75 and claims["outliers_exposed"].holds
    )  # other things are asked about, which shifts the mean and not the covariance
    assert {"doubling_1", "calibration_test_pm", "law_train_pm", "online_over_once"} <= set(claims)
    again = tmp_path / "again"
    with (
        pytest.raises(KeyboardInterrupt),
        Run.open(
            again,
            "hh",
            {},
            {},
            seed=0,
            stop=lambda: (again / "hh" / run.folder.name / "policy.steps.jsonl").exists(),
        ) as half,
    ):
        study(half, SMALL, inputs(model))
    with Run.open(again, "hh", {}, {}, seed=0) as rest:
        assert markdown(study(rest, SMALL, inputs(model))) == markdown(report)


def test_what_is_not_given_is_not_studied_and_said(model: TorchModel, tmp_path: Path) -> None:
    given = inputs(model)
    alone = tuple(c for c in given.comparisons if c.axis == "harmless")
    tie = replace(alone[0], p_first=0.5, first="so", second="not")
    few = replace(
        given,
        comparisons=(*alone, tie),
        in_distribution=given.in_distribution[:5],
        annotate=None,
        annotator="",
    )
    with Run.open(tmp_path, "hh", {}, {}, seed=0) as run:
        report = study(run, replace(SMALL, sizes=(40,), measured=60, policy_steps=3, best_of=1), few)
    said = " ".join(report.warnings)
    assert (
        "mixtures and weights were not studied" in said
        and "No one compares" in said
        and "too few" in said
        and "could not be fitted" in said
    )
    assert report.counts["comparisons that were ties, left out"] == 1
    assert not {claim.name for claim in report.claims} & {
        "online_over_once",
        "outliers_far",
        "helpful_alone_on_harmless",
    }
    for broken, why in (
        (replace(few, comparisons=alone[:60]), "give"),
        (replace(given, comparisons=given.comparisons[:40]), "to measure with"),
    ):
        with (
            pytest.raises(InputError, match=why),
            Run.open(tmp_path, "few", {"n": len(broken.comparisons)}, {}, seed=0) as run,
        ):
            study(run, SMALL, broken)
    with (
        pytest.raises(InputError, match="give such as differ"),
        Run.open(tmp_path, "depths", {}, {}, seed=0) as run,
    ):
        study(run, replace(SMALL, depths=(0.3, 0.5)), given)


def test_empty_replies_lose_and_equal_ones_tie() -> None:
    prompt = prompts(toy.FORBIDDEN, 1, 0)[0]
    assert [
        by_rule(ReplyPair(prompt, *pair))
        for pair in (("a", " "), ("", "a"), ("", " "), ("a", "a"), ("a", "b"))
    ] == [1.0, 0.0, 0.5, 0.5, None]


def test_the_halves_share_no_dialogue() -> None:
    some = [
        replace(c, prompt=toy.requests(toy.FORBIDDEN)[place // 3])
        for place, c in enumerate(toy.comparisons(0, 60))
    ]
    first, second = split_in_halves(some)
    assert abs(len(first) - len(second)) <= 3
    assert not {c.prompt.key for c in first} & {c.prompt.key for c in second}


def test_bad_input_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = [to_hh_pair(c) for c in toy.comparisons(0, 12)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in some))
    for words, said in (
        (["smollm2"], "--comparisons"),
        (["--comparisons", str(file)], "toy world brings its own"),
        (["smollm2", "--comparisons", str(tmp_path / "none.jsonl")], "none.jsonl"),
    ):
        assert main(["run", "helpful_harmless", *words]) == 2
        assert said in capsys.readouterr().err
    for words, said in ((["--sizes", "4"], "at least 8"), (["--rounds", "50"], "16 a round")):
        with pytest.raises(SystemExit, match="2"):
            main(["run", "helpful_harmless", *words])
        assert said in " ".join(capsys.readouterr().err.split())
