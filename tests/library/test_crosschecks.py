"""Every metric against somebody else's implementation of it, or against its formula written out a second
time.

Beside these: lm-eval's accuracy and ours on the same rows (test_edges.py), Jensen-Shannon against scipy and
BBQ's scores against tables by hand (test_measure.py), losses against TRL (test_parity.py), our posterior
against NUTS (test_sycophancy.py).
"""

import math
import random
from collections import Counter

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from solon.evaluation.measure import Outcome
from solon.evaluation.opinions import similarity
from solon.evaluation.scores import accuracy, behaviour_match, fit_temperature, gold_log_probability
from solon.evaluation.selective import risk_coverage
from solon.statistics.calibration import (
    auroc,
    brier_score,
    expected_calibration_error,
    fixed_bin_calibration_error,
    rms_calibration_error,
)
from solon.statistics.intervals import correlation, mcnemar, mean, paired_difference, wilson
from solon.statistics.paired import benjamini_hochberg, holm, sign_flip_test
from solon.studies.few_shot.scoring import grams

RNG = np.random.default_rng(0)


def rows(count: int, options: int = 4) -> list[Outcome]:
    logs = np.log(RNG.dirichlet(np.ones(options), size=count))
    return [
        Outcome(
            str(n),
            str(n),
            tuple("abcd"[:options]),
            int(RNG.integers(options)),
            tuple(map(float, logs[n])),
            (1,) * options,
        )
        for n in range(count)
    ]


def test_intervals_of_shares_and_means_equal_scipys() -> None:
    for right, n in ((0, 5), (3, 7), (40, 41), (137, 400)):
        own, other = wilson(right, n), stats.binomtest(right, n).proportion_ci(method="wilson")
        assert (own.low, own.high) == pytest.approx((other.low, other.high))
    values = RNG.normal(size=37)
    found = mean(values.tolist())
    assert (found.low, found.high) == pytest.approx(
        stats.t.interval(0.95, 36, loc=values.mean(), scale=stats.sem(values))
    )
    first, second = RNG.normal(size=50), RNG.normal(size=50)
    told, pair = (
        stats.ttest_rel(first, second).confidence_interval(),
        paired_difference(first.tolist(), second.tolist()),
    )
    assert (pair.low, pair.high) == pytest.approx((told.low, told.high))


def test_correlation_and_its_interval_equal_scipys() -> None:
    first = RNG.normal(size=60)
    second = first + RNG.normal(size=60)
    other = stats.pearsonr(first, second)
    found = correlation(first.tolist(), second.tolist())
    assert found.value == pytest.approx(other.statistic)
    assert (found.low, found.high) == pytest.approx(tuple(other.confidence_interval()))


def test_paired_tests_and_families_equal_scipys() -> None:
    differences = RNG.normal(0.4, 1.0, size=12)
    other = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_test(differences.tolist()) == pytest.approx(other.pvalue)
    p = RNG.uniform(size=9).tolist()
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p).tolist())
    stepped = [
        max(min(1.0, (9 - place) * own) for place, own in enumerate(sorted(p)[: sorted(p).index(value) + 1]))
        for value in p
    ]
    assert holm(p) == pytest.approx(stepped)
    first, second = (RNG.random(80) < 0.6).tolist(), (RNG.random(80) < 0.5).tolist()
    table = Counter(zip(first, second, strict=True))
    small, whole = min(table[True, False], table[False, True]), table[True, False] + table[False, True]
    assert mcnemar(first, second).p_value == pytest.approx(
        min(1.0, 2 * sum(math.comb(whole, k) for k in range(small + 1)) / 2**whole)
    )


def test_calibration_errors_equal_their_formulas() -> None:
    p = np.sort(RNG.random(200))
    y = (RNG.random(200) < p**2).astype(float)
    gaps = [abs(sum(p[20 * k : 20 * k + 20]) - sum(y[20 * k : 20 * k + 20])) / 20 for k in range(10)]
    mixed = RNG.permutation(200)
    assert expected_calibration_error(p[mixed].tolist(), y[mixed].tolist()) == pytest.approx(sum(gaps) / 10)
    assert rms_calibration_error(p[mixed].tolist(), y[mixed].tolist()) == pytest.approx(
        math.sqrt(sum(gap**2 for gap in gaps) / 10)
    )
    stated, came = [0.25, 0.25, 0.6, 0.6, 0.6, 1.0], [0.0, 1.0, 1.0, 1.0, 0.0, 1.0]
    assert fixed_bin_calibration_error(stated, came) == pytest.approx(
        (abs(0.25 - 0.5) + abs(0.6 - 2 / 3) + 0.0) / 3
    )


def test_scores_of_forecasts_equal_scikit_learns() -> None:
    p, y = RNG.random(150), RNG.random(150) < 0.4
    assert brier_score(p.tolist(), y.astype(float).tolist()) == pytest.approx(brier_score_loss(y, p))
    assert auroc(p.tolist(), y.tolist()).value == pytest.approx(roc_auc_score(y, p))
    some = rows(80)
    beliefs = np.array([row.belief for row in some])
    right = [row.right for row in some]
    assert gold_log_probability(some).value == pytest.approx(-log_loss(right, beliefs, labels=[0, 1, 2, 3]))
    assert accuracy(some).value == np.mean(beliefs.argmax(axis=1) == right)
    share, belief = behaviour_match(some)
    assert (share.value, belief.value) == pytest.approx(
        (np.mean(beliefs.argmax(axis=1) == right), beliefs[np.arange(80), right].mean())
    )


def test_one_temperature_equals_a_logistic_regression_on_log_odds() -> None:
    some = rows(400, options=2)
    odds = np.array([[row.logprobs[0] - row.logprobs[1]] for row in some])
    keyed = [
        Outcome(
            row.key,
            row.cluster,
            row.options,
            int(RNG.random() > 1 / (1 + math.exp(-own[0] / 2.5))),
            row.logprobs,
            row.tokens,
        )
        for row, own in zip(some, odds, strict=True)
    ]
    other = LogisticRegression(fit_intercept=False, C=1e9).fit(odds, [row.right == 0 for row in keyed])
    assert fit_temperature(keyed) == pytest.approx(1 / other.coef_[0, 0], rel=1e-3)


def test_risk_and_coverage_equal_the_definition() -> None:
    confidence, right = RNG.random(60).tolist(), (RNG.random(60) < 0.7).tolist()
    found = risk_coverage(confidence, right)
    order = sorted(range(60), key=lambda place: -confidence[place])
    risks = [sum(not right[place] for place in order[: count + 1]) / (count + 1) for count in range(60)]
    assert list(found.risk) == pytest.approx(risks) and found.area == pytest.approx(np.mean(risks))


def test_similarity_of_opinions_equals_entropies_written_out() -> None:
    p, q = RNG.dirichlet(np.ones(5)), RNG.dirichlet(np.ones(5))
    middle = (p + q) / 2
    divergence = stats.entropy(middle, base=2) - (stats.entropy(p, base=2) + stats.entropy(q, base=2)) / 2
    assert similarity(tuple(p), tuple(q)) == pytest.approx(1 - math.sqrt(divergence))


def test_n_grams_equal_a_sliding_window() -> None:
    rng = random.Random(0)
    words = [rng.choice("abc") for _ in range(50)]
    assert len(grams(" ".join(words), 4)) == len(
        set(zip(words, words[1:], words[2:], words[3:], strict=False))
    )
