"""Paired differences over divisions that overlap: honest p-values, of one and of many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from app.conformal.calibration import threshold
from app.conformal.checks import as_alpha
from app.conformal.paired import differences, holm, may_be_best, overlap
from app.conformal.resplits import divisions

Floats = np.ndarray


def test_uncorrected_it_is_the_t_test() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, (7, 3))
    ours, theirs = differences(values, 0), ttest_1samp(values, 0)
    assert np.allclose(ours.p, theirs.pvalue)
    above = ttest_1samp(values, 0, alternative="greater")
    assert np.allclose(ours.p_above, above.pvalue)
    interval = theirs.confidence_interval()
    assert np.allclose(ours.interval(), (interval.low, interval.high))


def test_equal_parts_are_corrected_as_by_nadeau_and_bengio() -> None:
    values = np.random.default_rng(1).normal(size=(5, 2))
    expected = np.sqrt((1 / 5 + 360 / 360) * values.var(axis=0, ddof=1))
    assert np.allclose(differences(values, overlap(360, 360)).error, expected)
    assert overlap(300, 100) == overlap(100, 300) == 0.75


@pytest.mark.parametrize("constant", [0, 0.1, 1 / 360, np.inf])
def test_without_spread_or_without_a_number_nothing_is_claimed(constant: float) -> None:
    found = differences(np.full((5, 1), constant), 0.5)
    assert found.p.tolist() == [1] and found.p_above.tolist() == [0.5]


def test_one_division_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two divisions"):
        differences(np.zeros((1, 2)), 0.5)


def measured(pool: Floats, calib: int, repeats: int, seed: int) -> Floats:
    """Mean sizes of the sets by two networks as good as each other, (repeats, 2).

    ``pool`` (n, 2, C) are scores whose first class is the truth, alike for both networks.
    """
    sizes = []
    for rows in divisions(len(pool), calib, repeats, seed):
        limits = [
            threshold(np.sort(pool[rows.calib, network, 0]), as_alpha(0.1)) for network in (0, 1)
        ]
        sizes.append((pool[rows.test] <= np.array(limits)[:, None]).sum(axis=2).mean(axis=0))
    return np.array(sizes)


@pytest.mark.parametrize(("calib", "repeats"), [(100, 5), (100, 20), (150, 5)])
def test_two_networks_as_good_as_each_other_differ_by_chance(calib: int, repeats: int) -> None:
    """Their errors are drawn alike, so the true difference is 0: a plain t test finds it often."""
    rng = np.random.default_rng(2)
    trials, n, classes = 300, 200, 6
    plain, corrected = 0, 0
    for trial in range(trials):
        hard = rng.gamma(2, 0.5, (n, 1, 1))
        logits = hard * (rng.normal(size=(n, 1, classes)) + 0.4 * rng.normal(size=(n, 2, classes)))
        logits[:, :, 0] += 2
        probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
        first, second = measured(-probs, calib, repeats, trial).T
        difference = (first - second)[:, None]
        plain += int(differences(difference, 0).p[0] < 0.05)
        corrected += int(differences(difference, overlap(calib, n - calib)).p[0] < 0.05)
    assert plain > 0.15 * trials
    assert corrected < 0.08 * trials  # 0.05 and 2.4 deviations.


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_just_what_its_steps_do(p: list[float]) -> None:
    """Step by step: the smallest at 0.05 / k, the next at 0.05 / (k - 1), until one is kept."""
    adjusted = holm(np.array(p))
    kept = False
    for step, i in enumerate(np.argsort(p, kind="stable")):
        bound = p[i] * (len(p) - step)
        kept = kept or bound > 0.05
        assert (adjusted[i] > 0.05) == kept
        assert min(1, bound) <= adjusted[i] <= 1


def test_the_truly_smallest_is_seldom_missed_and_the_clearly_larger_are_left_out() -> None:
    rng = np.random.default_rng(3)
    missed = kept = 0
    for _ in range(400):
        # Of independent divisions no correction is due.
        values = rng.normal([1, 1, 1, 1, 1, 9], 0.1, (6, 6))
        found = may_be_best(values, 0)
        missed += not found[0]
        kept += found[5]
        assert found[values.mean(axis=0).argmin()]
    assert missed < 0.05 * 400 and kept == 0


def test_one_method_is_the_best() -> None:
    assert may_be_best(np.array([[1.0], [2.0]]), 0.5).tolist() == [True]
