"""Thresholds, sets and p-values: by brute force, at their boundaries, and on bad arguments."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.conformal import SCORES, TAXONOMIES, Calibration, calibrate, calibrate_simultaneously
from tests.unit.conformal.draws import problem, totals

CLASSES = {"colour": 4, "type": 3}


def less_ceiling(score: str, probs: np.ndarray) -> np.ndarray:
    return SCORES[score].of_classes(probs, totals(probs))


@given(
    n=st.integers(0, 40),
    seed=st.integers(0, 10_000),
    percent=st.integers(1, 99),
    score=st.sampled_from(sorted(SCORES)),
    taxonomy=st.sampled_from(["global", "task", "class"]),
    ties=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_equals_brute_force(
    n: int, seed: int, percent: int, score: str, taxonomy: str, ties: bool
) -> None:
    """Every threshold and p-value from its definition, and sets by both are the same sets."""
    rng = np.random.default_rng(seed)
    probs, labels = problem(rng, n + 5, CLASSES)
    if ties:
        coarse = {t: np.ceil(p * 4) for t, p in probs.items()}
        probs = {t: p / p.sum(axis=1, keepdims=True) for t, p in coarse.items()}
    labels["type"][rng.random(n + 5) < 0.3] = -1
    calib = {t: p[:n] for t, p in probs.items()}, {t: y[:n] for t, y in labels.items()}
    new = {t: p[n:] for t, p in probs.items()}
    alpha = percent / 100
    calibration = calibrate(*calib, score=score, taxonomy=taxonomy)
    thresholds = calibration.thresholds(alpha)
    sets, p_values = calibration.predict(new, alpha), calibration.p_values(new)

    def group(task: str, c: int) -> object:
        return {"global": None, "task": task, "class": (task, c)}[taxonomy]

    for task, count in CLASSES.items():
        scores = less_ceiling(score, new[task])
        for c in range(count):
            own = sorted(
                less_ceiling(score, calib[0][t])[i, y]
                for t in CLASSES
                for i, y in enumerate(calib[1][t])
                if y >= 0 and group(t, y) == group(task, c)
            )
            k = math.ceil((len(own) + 1) * (1 - Fraction(percent, 100)))
            limit = own[k - 1] if k <= len(own) else math.inf
            assert thresholds[task][c] == limit + SCORES[score].ceiling
            for row in range(5):
                s = scores[row, c]
                at_least = sum(o >= s for o in own)
                p = Fraction(1 + at_least, len(own) + 1)
                assert p_values[task][row, c] == (1 + at_least) / (len(own) + 1)
                assert sets[task][row, c] == (s <= limit) == (p > Fraction(percent, 100))


def test_an_empty_set_can_have_the_top_class_instead() -> None:
    probs, labels = problem(np.random.default_rng(7), 300, CLASSES, signal=6)
    calibration = calibrate(probs, labels)
    as_they_are = calibration.predict(probs, 0.4)
    filled = calibration.predict(probs, 0.4, nonempty=True)
    for task, sets in as_they_are.items():
        empty = ~sets.any(axis=1)
        assert empty.sum() > 50
        assert (filled[task][~empty] == sets[~empty]).all()
        assert (filled[task][empty].sum(axis=1) == 1).all()
        assert (filled[task].argmax(axis=1) == probs[task].argmax(axis=1))[empty].all()


def test_unknown_labels_are_left_out_of_their_task_alone() -> None:
    probs, labels = problem(np.random.default_rng(3), 100, CLASSES)
    labels["type"][:40] = -1
    some = calibrate(probs, labels)
    colour = calibrate({"colour": probs["colour"]}, {"colour": labels["colour"]})
    known = calibrate({"type": probs["type"][40:]}, {"type": labels["type"][40:]})
    assert some.thresholds(0.1)["colour"].tolist() == colour.thresholds(0.1)["colour"].tolist()
    assert some.thresholds(0.1)["type"].tolist() == known.thresholds(0.1)["type"].tolist()


@pytest.mark.parametrize("taxonomy", TAXONOMIES)
def test_saved_and_loaded_it_is_the_same_to_the_byte(taxonomy: str, tmp_path: Path) -> None:
    probs, labels = problem(np.random.default_rng(4), 300, CLASSES)
    calibration = calibrate(probs, labels, "aps", taxonomy, seed=5)
    calibration.save(tmp_path / "a")
    loaded = Calibration.load(tmp_path / "a")
    loaded.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (loaded.score, loaded.taxonomy) == (SCORES["aps"], taxonomy)
    for task in CLASSES:
        assert (loaded.p_values(probs)[task] == calibration.p_values(probs)[task]).all()


GOOD = np.array([[0.5, 0.5], [0.1, 0.9]])


@pytest.mark.parametrize(
    ("probs", "labels", "options", "names"),
    [
        ({}, {}, {}, "probs"),
        (GOOD, [0, 1], {}, "probs must map each task to its array"),
        ({"t": GOOD}, [0, 1], {}, "labels must map each task to its array"),
        ({"t": GOOD}, {"t": [[0], [0, 1]]}, {}, r"labels\['t'\] must have rows of one length"),
        ({"t": GOOD}, {"t": ["a", "b"]}, {}, r"labels\['t'\] .* numbers"),
        ({"t": GOOD[0]}, {"t": [0, 1]}, {}, r"probs\['t'\] of shape \(2,\)"),
        ({"t": np.zeros((2, 0))}, {"t": [0, 1]}, {}, r"shape \(2, 0\)"),
        ({"t": np.zeros((0, 0))}, {"t": []}, {}, r"shape \(0, 0\)"),
        ({"t": GOOD * [[np.inf, 1]]}, {"t": [0, 1]}, {}, "finite"),
        ({"t": [["a", "b"]]}, {"t": [0]}, {}, r"probs\['t'\] .* numbers"),
        ({"t": [[1.0], [0.5, 0.5]]}, {"t": [0, 0]}, {}, r"probs\['t'\] must have rows"),
        ({"t": GOOD * np.nan}, {"t": [0, 1]}, {}, "finite"),
        ({"t": GOOD * 2}, {"t": [0, 1]}, {}, "sum to 1"),
        ({"t": [[1 + 1e-6, -1e-6]]}, {"t": [0]}, {}, "at least 0"),
        ({"t": GOOD * 1.002}, {"t": [0, 1]}, {}, "sum to 1"),
        ({"t": GOOD - [[1, -1]]}, {"t": [0, 1]}, {}, "at least 0"),
        ({"t": GOOD, "u": GOOD[:1]}, {"t": [0, 1], "u": [0]}, {}, "same pictures"),
        ({"t": GOOD * 1j}, {"t": [0, 1]}, {}, r"probs\['t'\] .* real numbers, not complex"),
        ({"t": [[np.inf, -np.inf]]}, {"t": [0]}, {}, "finite"),
        ({"t": GOOD}, {"t": np.array([0, 1], "m8[s]")}, {}, r"labels\['t'\] .* real numbers"),
        ({"t": GOOD}, {"t": [0, None]}, {}, r"labels\['t'\] .* real numbers, not object"),
        ({"t": GOOD}, {"t": [True, False]}, {}, "whole numbers, not bool"),
        ({"t": GOOD}, {"t": np.array([0, 2**63], np.uint64)}, {}, "0..1"),
        ({"t": GOOD}, {"t": [0, 1], 3: [0, 1]}, {}, "labels must hold the tasks"),
        ({"t": GOOD}, {"u": [0, 1]}, {}, "labels must hold the tasks"),
        ({"t": GOOD}, {"t": [0]}, {}, r"labels\['t'\] of shape \(1,\)"),
        ({"t": GOOD}, {"t": [0, 2]}, {}, "0..1"),
        ({"t": GOOD}, {"t": [0, -2]}, {}, "-1 where unknown"),
        ({"t": GOOD}, {"t": [0.0, 1.0]}, {}, "whole numbers"),
        ({"t": GOOD}, {"t": [0, 1]}, {"score": "softmax"}, "score must be one of hinge"),
        ({"t": GOOD}, {"t": [0, 1]}, {"score": None}, "score must be one of hinge"),
        ({"t": GOOD}, {"t": [0, 1]}, {"score": ["aps"]}, "score must be one of hinge"),
        ({"t": GOOD}, {"t": [0, 1]}, {"taxonomy": ["task"]}, "taxonomy must be one of global"),
        ({"t": GOOD}, {"t": [0, 1]}, {"seed": -1}, "seed must be a whole number of at least 0"),
        ({"t": GOOD}, {"t": [0, 1]}, {"seed": None}, "seed must be .*, not None"),
        ({"t": GOOD}, {"t": [0, 1]}, {"taxonomy": "all"}, "taxonomy must be one of global"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_bad_arguments_are_named(probs, labels, options, names) -> None:
    for function in (calibrate, calibrate_simultaneously):
        with pytest.raises(ValueError, match=names):
            function(probs, labels, **options)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, math.nan, "0.1", None, 1j, np.array([0.1])])
def test_alpha_must_be_an_error_rate(alpha) -> None:
    calibration = calibrate({"t": GOOD}, {"t": [0, 1]})
    with pytest.raises(ValueError, match="alpha"):
        calibration.thresholds(alpha)


def test_rows_are_divided_by_a_sum_that_rounding_explains() -> None:
    exact, off = (
        calibrate({"t": GOOD}, {"t": [0, 1]}),
        calibrate({"t": GOOD * 0.9995}, {"t": [0, 1]}),
    )
    np.testing.assert_allclose(off.thresholds(0.5)["t"], exact.thresholds(0.5)["t"], atol=1e-12)


def test_new_probabilities_must_fit_the_calibration() -> None:
    calibration = calibrate({"t": GOOD}, {"t": [0, 1]})
    with pytest.raises(ValueError, match="2 columns"):
        calibration.predict({"t": np.full((1, 4), 0.25)}, 0.1)
    with pytest.raises(ValueError, match="tasks"):
        calibration.predict({"u": GOOD}, 0.1)
