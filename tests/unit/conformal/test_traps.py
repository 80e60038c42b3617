"""Mistakes that public code makes, each made here beside ours to show that it matters.

What else is easily got wrong is tested where it belongs: PIP's own rank, a task of one class, and
randomised scores in ``test_scores``; a missing correction of n in ``test_coverage``; the pictures
that find clusters in ``test_taxonomies``; empty sets in ``test_metrics``; bad arguments in
``test_calibration``.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from app.conformal import SCORES, TAXONOMIES, calibrate
from app.conformal.calibration import fewest_scores, rank
from tests.unit.conformal.draws import problem


def truths(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sorted hinge scores of the truth, as in the papers."""
    return np.sort(1 - probs[np.arange(len(labels)), labels])


def test_rank_is_exact_for_every_two_decimal_alpha() -> None:
    for percent in range(1, 100):
        alpha = Fraction(str(percent / 100))
        for n in range(0, 1200):
            assert rank(n, alpha) == -(-(n + 1) * (100 - percent) // 100)


def test_the_fewest_scores_are_those_with_a_rank_among_them() -> None:
    for percent in range(1, 100):
        alpha = Fraction(percent, 100)
        n = fewest_scores(alpha)
        assert rank(n, alpha) <= n and rank(n - 1, alpha) > n - 1


def test_a_float_ceil_is_one_too_high_for_many_n() -> None:
    assert math.ceil(100 * (1 - 0.03)) == 97
    wrong = {
        percent
        for percent in range(1, 100)
        for n in range(1, 300)
        if math.ceil((n + 1) * (1 - percent / 100)) != rank(n, Fraction(str(percent / 100)))
    }
    assert len(wrong) > 20


def test_a_rank_put_through_a_quantile_function_is_one_too_high() -> None:
    """n = 564 at alpha 0.1: rank 509 as a fraction of n comes back as 510."""
    probs, labels = problem(np.random.default_rng(0), 564, {"t": 5})
    own = truths(probs["t"], labels["t"])
    by_quantile = np.quantile(own, np.ceil(565 * 0.9) / 564, method="higher")
    assert by_quantile == own[510 - 1]
    assert calibrate(probs, labels).thresholds(0.1)["t"][0] == own[509 - 1]


@pytest.mark.parametrize(("n", "finite"), [(8, False), (9, True)])
def test_with_too_few_scores_the_largest_of_them_is_no_threshold(n: int, finite: bool) -> None:
    probs, labels = problem(np.random.default_rng(1), n, {"t": 3})
    calibration = calibrate(probs, labels)
    assert np.isfinite(calibration.thresholds(0.1)["t"]).all() == finite
    assert finite or calibration.predict(probs, 0.1)["t"].all()


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 30), name=st.sampled_from(sorted(SCORES)))
@settings(max_examples=200, deadline=None)
def test_the_picture_at_the_threshold_is_in(seed: int, n: int, name: str) -> None:
    """p >= 1 - q, where 1 - p <= q is meant, loses it: 1 - (1 - p) is not always p."""
    probs, labels = problem(np.random.default_rng(seed), n, {"t": 4})
    calibration = calibrate(probs, labels, name)
    sets = calibration.predict(probs, 0.5)["t"][np.arange(n), labels["t"]]
    assert sets.sum() >= min(n, rank(n, Fraction(1, 2)))
    assert ((calibration.p_values(probs)["t"] > 0.5) == calibration.predict(probs, 0.5)["t"]).all()


def test_one_minus_the_threshold_would_lose_it() -> None:
    p = np.random.default_rng(0).random(1000) ** 8
    assert (p < 1 - (1 - p)).any()


@pytest.fixture(scope="module")
def saturated() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, float32 probabilities and labels of a network that is far too sure of 100 classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 100, 6000)
    logits = rng.normal(size=(6000, 100))
    logits[np.arange(6000), labels] += 3
    logits = (20 * logits).astype(np.float32)
    return logits, softmax(logits, axis=1), labels


def test_saturated_lac_keeps_its_ranking(
    saturated: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """1 - p in float32 answers with all 100 classes; the same sets in log space have 13."""
    logits, probs, labels = saturated
    assert probs.dtype == np.float32
    k = rank(2000, Fraction("0.02"))
    naive = (1 - probs[2000:]) <= truths(probs[:2000], labels[:2000])[k - 1]
    assert naive.all()

    strange = -log_softmax(logits.astype(np.float64), axis=1)
    own = np.sort(strange[np.arange(2000), labels[:2000]])
    in_log_space = strange[2000:] <= own[k - 1]
    ours = calibrate({"t": probs[:2000]}, {"t": labels[:2000]}).predict({"t": probs[2000:]}, 0.02)
    assert 12 < in_log_space.sum(axis=1).mean() < 14
    # float32 itself has fewer digits for a probability than for its logarithm.
    assert (ours["t"] != in_log_space).mean() < 1e-4


def test_saturated_aps_keeps_its_coverage(
    saturated: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Cumulated in float32 the score is 1 from the second class on, and nearly all are in."""
    _, probs, labels = saturated
    k = rank(2000, Fraction("0.02"))
    order = np.argsort(-probs, axis=1, kind="stable")
    naive = np.empty_like(probs)
    np.put_along_axis(
        naive, order, np.cumsum(np.take_along_axis(probs, order, axis=1), axis=1), axis=1
    )
    own = np.sort(naive[np.arange(2000), labels[:2000]])
    assert (naive[2000:] <= own[k - 1]).sum(axis=1).mean() > 90

    calibration = calibrate({"t": probs[:2000]}, {"t": labels[:2000]}, "aps")
    sets = calibration.predict({"t": probs[2000:]}, 0.02)["t"]
    assert sets.sum(axis=1).mean() < 45
    # Five deviations of coverage among 4000 new pictures, given 2000 calibration scores.
    assert abs(sets[np.arange(4000), labels[2000:]].mean() - 0.98) < 5 * np.sqrt(
        0.98 * 0.02 * (1 / 2000 + 1 / 4000)
    )


def test_a_class_unseen_in_calibration_is_always_in() -> None:
    """Thresholds by the classes that were seen would be one short, and shift the rest."""
    probs, labels = problem(np.random.default_rng(2), 200, {"t": 4})
    labels["t"][labels["t"] == 1] = 0
    calibration = calibrate(probs, labels, taxonomy="class")
    thresholds = calibration.thresholds(0.1)["t"]
    assert len(np.unique(labels["t"])) == 3 and thresholds.shape == (4,)
    assert np.isinf(thresholds).tolist() == [False, True, False, False]
    assert calibration.p_values(probs)["t"][:, 1].min() == 1.0


@pytest.mark.parametrize("taxonomy", TAXONOMIES)
@pytest.mark.parametrize("n", [0, 1, 18, 30])
def test_there_is_no_n_without_clusters(taxonomy: str, n: int) -> None:
    """Half the scores of the rarest class, the papers' number of clusters, may be none."""
    probs, labels = problem(np.random.default_rng(3), n, {"t": 2, "alone": 1})
    calibration = calibrate(probs, labels, taxonomy=taxonomy)
    assert calibration.thresholds(0.1)["t"].shape == (2,)
    for task, p in calibration.p_values(probs).items():
        assert p.shape == probs[task].shape


@pytest.mark.parametrize("alpha", [1e-12, 1e-300, 5e-324])
def test_an_alpha_too_small_for_any_threshold_leaves_everything_in(alpha: float) -> None:
    probs, labels = problem(np.random.default_rng(4), 500, {"t": 3})
    calibration = calibrate(probs, labels)
    assert np.isposinf(calibration.thresholds(alpha)["t"]).all()
    assert calibration.predict(probs, alpha)["t"].all()


def test_an_alpha_next_to_one_keeps_the_strictest_threshold() -> None:
    probs, labels = problem(np.random.default_rng(5), 500, {"t": 3})
    threshold = calibrate(probs, labels).thresholds(1 - 1e-9)["t"][0]
    assert threshold == truths(probs["t"], labels["t"])[0]


def test_the_same_pictures_in_another_order_calibrate_alike() -> None:
    """But for those taxonomies that draw which pictures find the clusters."""
    probs, labels = problem(np.random.default_rng(6), 300, {"t": 3})
    order = np.random.default_rng(7).permutation(300)
    for name in SCORES:
        a = calibrate(probs, labels, name, "class").thresholds(0.1)["t"]
        b = calibrate({"t": probs["t"][order]}, {"t": labels["t"][order]}, name, "class")
        assert a.tolist() == b.thresholds(0.1)["t"].tolist()
