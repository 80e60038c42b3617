"""The law of coverage, against all divisions of a pool and against many random ones."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

import app.conformal.calibration
from app.conformal.calibration import rank, threshold
from app.conformal.checks import as_alpha
from app.conformal.law import CoverageLaw, least_rate, of_groups
from app.conformal.resplits import divisions, resplits
from tests.unit.conformal.draws import problem

CLASSES = {"colour": 4, "type": 3}
ALPHAS = st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.5, 0.9])


@given(n=st.integers(1, 5), m=st.integers(1, 4), alpha=ALPHAS)
@settings(max_examples=60, deadline=None)
def test_it_counts_all_divisions_of_a_pool(n: int, m: int, alpha: float) -> None:
    pool = np.arange(n + m, dtype=np.float64) ** 3  # Any distinct scores.
    covered = []
    for rows in combinations(range(n + m), n):
        limit = threshold(pool[list(rows)], as_alpha(alpha))
        covered.append(int((np.delete(pool, rows) <= limit).sum()))
    law = CoverageLaw(n, m, alpha)
    share = [np.mean(np.array(covered) <= count) for count in range(-1, m + 1)]
    np.testing.assert_allclose(law.cdf(np.arange(-1, m + 1)), share, atol=1e-12)
    np.testing.assert_allclose(law.mean, np.mean(covered) / m)
    np.testing.assert_allclose(law.std, np.std(covered) / m, atol=1e-12)


@given(n=st.integers(1, 500), m=st.integers(1, 500), alpha=ALPHAS)
@settings(max_examples=60, deadline=None)
def test_its_mean_is_the_promise_and_its_interval_holds_the_rest(
    n: int, m: int, alpha: float
) -> None:
    law = CoverageLaw(n, m, alpha)
    assert 1 - alpha - 1e-12 <= law.mean <= 1 - alpha + 1 / (n + 1) + 1e-12
    low, high = law.interval(0.9)
    assert 0 <= low <= high <= 1
    below, above = law.cdf(round(low * m) - 1), 1 - law.cdf(round(high * m))
    assert below <= 0.05 + 1e-9 and above <= 0.05 + 1e-9
    # And it could not be shorter.
    assert (
        law.cdf(round(low * m)) >= 0.05 - 1e-9 and 1 - law.cdf(round(high * m) - 1) >= 0.05 - 1e-9
    )


SIZES = st.tuples(st.integers(1, 4), st.integers(1, 3))


@given(sizes=st.lists(SIZES, min_size=1, max_size=3), alpha=ALPHAS)
@settings(max_examples=30, deadline=None)
def test_of_groups_it_counts_all_divisions_of_all_pools(
    sizes: list[tuple[int, int]], alpha: float
) -> None:
    """Each group of n and m pictures is divided by itself: every choice of divisions counts one."""
    of_group = []
    for n, m in sizes:
        pool = np.arange(n + m, dtype=np.float64)
        of_group.append(
            [
                int((np.delete(pool, rows) <= threshold(pool[list(rows)], as_alpha(alpha))).sum())
                for rows in combinations(range(n + m), n)
            ]
        )
    together = [sum(covered) for covered in product(*of_group)]
    often = np.bincount(together, minlength=1 + sum(m for _, m in sizes))
    law = of_groups(CoverageLaw(n, m, alpha) for n, m in sizes)
    np.testing.assert_allclose(law, often / len(together), atol=1e-12)


def test_of_groups_of_many_pictures_it_is_quick() -> None:
    """From the law's sums it would take a minute: each number covered is a sum over all below."""
    law = of_groups([CoverageLaw(50_000, 50_000, 0.1), CoverageLaw(99, 100, 0.1)])
    assert len(law) == 50_101 and law.sum() == pytest.approx(1)
    assert law @ np.arange(50_101) == pytest.approx(45_090, 1e-4)


def test_too_few_scores_cover_everything() -> None:
    law = CoverageLaw(8, 20, 0.1)
    assert (law.mean, law.std, law.interval()) == (1.0, 0.0, (1.0, 1.0))
    assert CoverageLaw(9, 20, 0.1).std > 0


def covered(repeats: int, n: int, m: int, alpha: float) -> np.ndarray:
    """Of each random division of one pool, how many of its m test pictures ``type`` covers."""
    probs, labels = problem(np.random.default_rng(3), n + m, CLASSES)
    divided = list(divisions(n + m, n, repeats, seed=4))
    measured = resplits(probs, labels, CLASSES, "hinge", "task", [alpha], divided)
    return np.array([round(r.results["type"].coverage * m) for r in measured])


def test_many_divisions_of_one_pool_follow_it() -> None:
    """The divisions are independent given the pool, so Kolmogorov's test of them is exact.

    At 1e-6 a correct program fails for one seed in a million.
    """
    law = CoverageLaw(61, 40, 0.2)
    counts = covered(2000, 61, 40, 0.2)
    assert kstest(law.uniform(counts, np.random.default_rng(5)), "uniform").pvalue > 1e-6


def test_a_wrong_rank_would_not_follow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rank ceil(n (1 - alpha)) without its correction: 49 of 61 instead of 50."""
    monkeypatch.setattr(
        app.conformal.calibration, "rank", lambda n, alpha: rank(n, alpha) - (n == 61)
    )
    law = CoverageLaw(61, 40, 0.2)
    counts = covered(2000, 61, 40, 0.2)
    assert kstest(law.uniform(counts, np.random.default_rng(5)), "uniform").pvalue < 1e-6


@pytest.mark.parametrize("delta", [0.001, 0.05, 0.5])
@pytest.mark.parametrize(("n", "alpha"), [(9, 0.1), (300, 0.1), (1000, 0.02)])
def test_the_least_rate_is_missed_by_just_so_many_calibrations(
    n: int, alpha: float, delta: float
) -> None:
    least = least_rate([n], [1], alpha, delta)
    # Scores are uniform, so a threshold is its own coverage: the k-th smallest of n.
    k = rank(n, as_alpha(alpha))
    limits = np.partition(np.random.default_rng(0).random((5000, n)), k - 1)[:, k - 1]
    assert abs((limits < least).mean() - delta) < 5 * np.sqrt(delta / len(limits))


@pytest.mark.parametrize(
    ("sizes", "weights"),
    [([9, 300], [1, 1]), ([30] * 12, range(1, 13)), ([9, 15, 40, 3], [4, 3, 2, 1])],
)
def test_of_several_groups_the_least_rate_is_missed_as_often(sizes, weights) -> None:
    rng, alpha, delta = np.random.default_rng(1), 0.1, 0.02
    rate = np.zeros(200_000)
    for n, weight in zip(sizes, weights, strict=True):
        k = rank(n, as_alpha(alpha))
        rate += weight * (rng.beta(k, n + 1 - k, len(rate)) if k <= n else 1) / sum(weights)
    missed = [
        (rate < least_rate(sizes, list(weights), alpha, delta, seed)).mean() for seed in range(10)
    ]
    # Each bound is off by its draws' chance, their mean by hardly any.
    assert abs(np.mean(missed) - delta) < 5 * delta / np.sqrt(10 * delta * 10_000) + 0.0005


def test_without_thresholds_everything_is_covered() -> None:
    assert least_rate([0, 8], [1, 3], 0.1) == pytest.approx(1)


@pytest.mark.parametrize("weights", [[0, 0], [1], [1, -1]])
def test_groups_without_a_weight_are_refused(weights) -> None:
    with pytest.raises(ValueError, match="weights"):
        least_rate([10, 10], weights, 0.1)
