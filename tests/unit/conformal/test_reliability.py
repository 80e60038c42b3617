"""Calibration error and Brier score by brute force from their definitions, and at their bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.conformal.reliability import brier_score, reliability_curve
from tests.unit.conformal.draws import probabilities, softmax


@given(probs=probabilities(max_rows=30), data=st.data())
def test_equals_brute_force(probs: np.ndarray, data: st.DataObject) -> None:
    n, classes = probs.shape
    labels = np.array(data.draw(st.lists(st.integers(-1, classes - 1), min_size=n, max_size=n)))
    known = [i for i in range(n) if labels[i] >= 0]
    if not known:
        with pytest.raises(ValueError, match="at least one known label"):
            reliability_curve(probs, labels)
        return
    curve = reliability_curve(probs, labels)
    error = 0.0
    for m in range(15):
        low, high = m / 15, (m + 1) / 15
        inside = [i for i in known if low < probs[i].max() <= high]
        assert curve.correct.n[m] == len(inside)
        if not inside:
            assert math.isnan(curve.confidence[m])
            continue
        confidence = sum(probs[i].max() for i in inside) / len(inside)
        accuracy = sum(probs[i].argmax() == labels[i] for i in inside) / len(inside)
        assert curve.confidence[m] == pytest.approx(confidence)
        assert curve.correct.rate[m] == accuracy
        error += len(inside) / len(known) * abs(accuracy - confidence)
    assert curve.expected_calibration_error == pytest.approx(error, abs=1e-12)
    squares = [sum((probs[i, c] - (c == labels[i])) ** 2 for c in range(classes)) for i in known]
    assert brier_score(probs, labels) == pytest.approx(sum(squares) / len(squares), abs=1e-12)


def test_bins_hold_their_right_edge() -> None:
    """As in Guo et al. (2017): bin m is ((m - 1) / M, m / M]."""
    for thirtieths in range(16, 31):
        top = thirtieths / 30
        curve = reliability_curve(np.array([[top, 1 - top]]), np.array([0]))
        assert np.flatnonzero(curve.correct.n).tolist() == [-(-thirtieths // 2) - 1]


def test_by_hand() -> None:
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.5, 0.5]])
    labels = np.array([0, 1, 1, -1])
    curve = reliability_curve(probs, labels)
    assert curve.expected_calibration_error == pytest.approx((2 * 0.4 + 0.3) / 3)
    assert brier_score(probs, labels) == pytest.approx((0.02 + 2 * 0.81 + 2 * 0.09) / 3)


def test_the_brier_score_lies_between_certain_and_right_and_certain_and_wrong() -> None:
    certain = np.eye(3)
    assert brier_score(certain, np.array([0, 1, 2])) == 0
    assert brier_score(certain, np.array([1, 2, 0])) == 2


def test_probabilities_that_mean_what_they_say_have_no_error() -> None:
    """Labels drawn from the probabilities: what is left is chance, here of 40,000 pictures."""
    rng = np.random.default_rng(0)
    probs = softmax(rng.normal(size=(40_000, 4)) * 2)
    labels = (probs.cumsum(axis=1) < rng.random((len(probs), 1))).sum(axis=1)
    assert reliability_curve(probs, labels).expected_calibration_error < 0.01
    too_sure = probs**3 / (probs**3).sum(axis=1, keepdims=True)
    assert reliability_curve(too_sure, labels).expected_calibration_error > 0.1
    assert brier_score(too_sure, labels) > brier_score(probs, labels)


def test_a_rounding_error_above_one_is_in_the_last_bin() -> None:
    probs = np.array([[1 + 1e-7, 0]], np.float32)
    assert reliability_curve(probs, np.array([0])).correct.n.tolist() == [0] * 14 + [1]


@pytest.mark.parametrize("of", [reliability_curve, brier_score])
def test_bad_arguments_are_named(of) -> None:
    with pytest.raises(ValueError, match=r"labels of shape \(3,\).* probs of shape \(2, 4\)"):
        of(np.full((2, 4), 0.25), np.zeros(3, int))
    with pytest.raises(ValueError, match="labels must hold at least one known label"):
        of(np.full((2, 4), 0.25), np.full(2, -1))
