"""Every statistic against a hand-computed value, another implementation, or its own coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from solon.errors import InputError
from solon.statistics.calibration import (
    auroc,
    brier_score,
    expected_calibration_error,
    fixed_bin_calibration_error,
)
from solon.statistics.elo import ELO_PER_NAT, elo_ratings, win_counts, win_rate
from solon.statistics.intervals import (
    bootstrap,
    correlation,
    mcnemar,
    mean,
    paired_difference,
    proportion,
    wilson,
)


def test_wilson_against_the_textbook() -> None:
    found = wilson(15, 50)
    # computed by hand from Wilson's formula
    assert (round(found.low, 4), round(found.high, 4)) == (0.1910, 0.4375)
    assert wilson(0, 10).low == pytest.approx(0.0)
    assert wilson(10, 10).high == pytest.approx(1.0)


@given(st.integers(1, 200), st.floats(0, 1))
def test_wilson_holds_its_share(n: int, share: float) -> None:
    found = wilson(share * n, n)
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1


def coverage(intervals: list[tuple[float, float]], truth: float) -> float:
    return sum(low <= truth <= high for low, high in intervals) / len(intervals)


def test_the_mean_interval_covers_and_clusters_widen_it() -> None:
    rng = np.random.default_rng(0)
    plain, clustered, naive = [], [], []
    for _ in range(300):
        x = rng.normal(size=40)
        plain.append((mean(list(x)).low, mean(list(x)).high))
        y = np.repeat(rng.normal(size=20), 5) + 0.1 * rng.normal(size=100)
        found = mean(list(y), clusters=[i // 5 for i in range(100)])
        clustered.append((found.low, found.high))
        naive.append((mean(list(y)).low, mean(list(y)).high))
    assert 0.91 <= coverage(plain, 0.0) <= 0.98
    assert 0.91 <= coverage(clustered, 0.0) <= 0.98
    assert coverage(naive, 0.0) < 0.8


def test_a_proportion_in_clusters_covers() -> None:
    rng = np.random.default_rng(3)
    wide, naive = [], []
    for _ in range(300):
        # four rows of a cluster go the same way
        flags = [bool(flag) for flag in np.repeat(rng.random(30) < 0.6, 4)]
        found, alone = proportion(flags, clusters=[i // 4 for i in range(120)]), wilson(sum(flags), 120)
        wide.append((found.low, found.high))
        naive.append((alone.low, alone.high))
    assert 0.92 <= coverage(wide, 0.6) <= 0.985
    assert coverage(naive, 0.6) < 0.8
    assert proportion([True, False] * 20, clusters=range(40)) == wilson(20, 40)
    alone = proportion([True] * 60 + [False] * 40, clusters=[0] * 100)
    assert (alone.low, alone.high) == (0.0, 1.0)
    few = [
        proportion(
            [bool(flag) for flag in np.repeat(rng.random(5) < 0.5, 20)],
            clusters=[i // 20 for i in range(100)],
        )
        for _ in range(300)
    ]
    assert coverage([(found.low, found.high) for found in few], 0.5) >= 0.9


def test_cluster_bootstrap_agrees_with_the_robust_error() -> None:
    rng = np.random.default_rng(1)
    y = list(np.repeat(rng.normal(size=40), 4) + 0.2 * rng.normal(size=160))
    names = [i // 4 for i in range(160)]
    robust, drawn = mean(y, clusters=names), bootstrap(y, clusters=names)
    assert drawn.high - drawn.low == pytest.approx(robust.high - robust.low, rel=0.15)
    assert drawn.clusters == robust.clusters == 40


def test_pairs_cancel_what_they_share() -> None:
    rng = np.random.default_rng(2)
    item = rng.normal(size=100)
    a, b = item + 0.1 * rng.normal(size=100) + 0.1, item + 0.1 * rng.normal(size=100)
    found = paired_difference(list(a), list(b))
    assert found.low > 0
    assert found.high - found.low < 0.1


def test_mcnemar_without_disagreement_is_one() -> None:
    assert mcnemar([True, False], [True, False]).p_value == 1.0


def test_calibration_of_a_calibrated_and_an_overconfident_forecaster() -> None:
    rng = np.random.default_rng(3)
    p = rng.uniform(0.5, 1, size=20000)
    y = rng.uniform(size=20000) < p
    assert expected_calibration_error(list(p), list(y)) < 0.015
    over = np.clip(p + 0.1, 0, 1)
    assert expected_calibration_error(list(over), list(y)) == pytest.approx(
        float(np.mean(over - p)), abs=0.02
    )


def test_calibration_by_hand() -> None:
    assert expected_calibration_error([0.6, 0.8, 0.9, 0.7], [1, 0, 1, 1], count=2) == pytest.approx(
        (abs(0.65 - 1) + abs(0.85 - 0.5)) / 2
    )
    assert fixed_bin_calibration_error([0.25, 0.8, 0.8], [0, 1, 1]) == pytest.approx((0.25 + 0.2) / 2)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=60))
def test_brier_and_auroc_equal_scikit_learn(pairs: list[tuple[float, bool]]) -> None:
    p, y = [a for a, _ in pairs], [b for _, b in pairs]
    if len(set(y)) < 2:
        with pytest.raises(InputError, match="both classes"):
            auroc(p, y)
        return
    assert brier_score(p, [float(b) for b in y]) == pytest.approx(brier_score_loss(y, p))
    assert auroc(p, y).value == pytest.approx(roc_auc_score(y, p))


def test_elo_recovers_planted_strengths() -> None:
    rng = np.random.default_rng(4)
    truth = {"a": 0.0, "b": 100.0, "c": -150.0, "d": 250.0}
    inside, total = 0, 0
    for _ in range(40):
        wins: dict[tuple[str, str], float] = {}
        for one in truth:
            for other in truth:
                if one < other:
                    count = rng.binomial(200, win_rate(truth[one] - truth[other]))
                    wins[one, other], wins[other, one] = float(count), float(200 - count)
        found = elo_ratings(wins, reference="a")
        assert found["a"].low == found["a"].high == 0.0
        inside += sum(found[name].low <= truth[name] <= found[name].high for name in "bcd")
        total += 3
    assert 0.88 <= inside / total <= 0.99


def test_two_players_have_the_elo_of_their_win_rate() -> None:
    found = elo_ratings({("x", "y"): 75.0, ("y", "x"): 25.0}, reference="y")["x"]
    assert found.elo == pytest.approx(400 * math.log10(3), abs=1e-3)
    assert found.elo == pytest.approx(math.log(3) * ELO_PER_NAT, abs=1e-3)


def test_elo_without_a_maximum_is_refused() -> None:
    with pytest.raises(InputError, match="no finite maximum"):
        elo_ratings({("x", "y"): 3.0}, reference="y")
    assert win_counts([("x", "y", 0.75)]) == {("x", "y"): 0.75, ("y", "x"): 0.25}


def test_nothing_is_dropped_in_silence() -> None:
    with pytest.raises(InputError, match="NaN"):
        mean([1.0, float("nan")])
    with pytest.raises(InputError, match="at least one"):
        mean([])
    with pytest.raises(InputError, match="same items"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(InputError, match="constant"):
        correlation([1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean([1.0]).high == math.inf
