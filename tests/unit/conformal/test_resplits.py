"""Random divisions: what stays together, what is drawn, what is measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.conformal.method import Method
from app.conformal.resplits import PRODUCT, Division, divisions, fewest_labelled, resplits
from app.conformal.spaces import JOINT, multiply
from tests.unit.conformal.draws import problem

CLASSES = {"colour": 4, "type": 3}

sizes = st.integers(2, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1)))


@given(size=sizes, seed=st.integers(0, 99))
def test_a_division_has_the_size_that_was_asked_for(size: tuple[int, int], seed: int) -> None:
    n, calib = size
    for rows in divisions(n, calib, 3, seed):
        assert len(rows.calib) == calib
        assert sorted([*rows.calib, *rows.test]) == list(range(n))
        assert (np.diff(rows.calib) > 0).all() and (np.diff(rows.test) > 0).all()


@given(
    ties=st.lists(st.integers(0, 9), min_size=2, max_size=30).filter(lambda t: len(set(t)) > 1),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_ties_stay_together_and_no_side_is_empty(
    ties: list[int], seed: int, data: st.DataObject
) -> None:
    calib = data.draw(st.integers(1, len(ties) - 1))
    tied = np.array(ties)
    largest = np.bincount(tied).max()
    for rows in divisions(len(ties), calib, 3, seed, tied):
        assert len(rows.calib) and len(rows.test)
        assert not set(tied[rows.calib]) & set(tied[rows.test])
        assert sorted([*rows.calib, *rows.test]) == list(range(len(ties)))
        assert abs(len(rows.calib) - calib) < largest


def test_they_follow_from_the_seed_and_more_leave_the_first_as_they_were() -> None:
    def drawn(repeats: int, seed: int) -> list[tuple[list[int], int]]:
        return [(d.calib.tolist(), d.seed) for d in divisions(50, 20, repeats, seed)]

    assert drawn(3, 7) == drawn(5, 7)[:3]
    assert drawn(3, 7) != drawn(3, 8)
    several = drawn(5, 7)
    assert len({str(rows) for rows, _ in several}) == len({seed for _, seed in several}) == 5


def test_every_picture_is_as_likely_to_calibrate() -> None:
    counts = np.zeros(20)
    for rows in divisions(20, 5, 4000, seed=1):
        counts[rows.calib] += 1
    deviation = np.sqrt(4000 * 0.25 * 0.75)
    assert (np.abs(counts - 1000) < 5 * deviation).all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((10, 0, 1, 0), "calib must be at least 1"),
        ((10, 10, 1, 0), "less than the 10 pictures, not 10"),
        ((4, 2, 1, 0, np.zeros(4, int)), "at least two parts"),
        ((4, 2, 1, 0, np.arange(3)), r"ties of shape \(3,\) must have shape \(4,\)"),
    ],
)
def test_bad_arguments(arguments: tuple, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        list(divisions(*arguments))


@pytest.mark.parametrize("space", ["taskwise", JOINT])
def test_each_is_one_calibration_and_one_measurement(space: str) -> None:
    probs, labels = problem(np.random.default_rng(0), 200, CLASSES)
    labels["type"][:30] = -1
    if space == JOINT:
        probs = {JOINT: multiply(probs)}
    divided = list(divisions(200, 120, 2, seed=3))
    alphas = [0.1, 0.3]
    measured = list(resplits(probs, labels, CLASSES, "aps", "cluster", alphas, divided))
    assert [(r.division, r.alpha) for r in measured] == [(0, 0.1), (0, 0.3), (1, 0.1), (1, 0.3)]
    for resplit in measured:
        rows = divided[resplit.division]
        method = Method.calibrate(
            {name: p[rows.calib] for name, p in probs.items()},
            {task: y[rows.calib] for task, y in labels.items()},
            *(CLASSES, "aps", "cluster", rows.seed),
        )
        answers = method.answer({name: p[rows.test] for name, p in probs.items()}, resplit.alpha)
        truths = {task: y[rows.test] for task, y in labels.items()}
        results = dict(resplit.results)
        product = results.pop(PRODUCT, None)
        assert results == answers.measure(truths, resplit.alpha)
        if space == JOINT:
            assert product is None
            continue
        assert product is not None
        known = (truths["type"] >= 0) & (truths["colour"] >= 0)
        sizes = [answers.sets[task][known].sum(axis=1) for task in CLASSES]
        assert product.avg_set_size == pytest.approx((sizes[0] * sizes[1]).mean())
        held = [answers.sets[task][known, truths[task][known]] for task in CLASSES]
        assert product.coverage == pytest.approx((held[0] & held[1]).mean())


def test_the_fewest_that_are_labelled_for_every_task() -> None:
    labels = {"a": np.array([0, 0, -1, 0, 0, -1]), "b": np.array([1, -1, 1, 1, 1, -1])}
    halves = [
        Division(np.array([0, 3, 4]), np.array([1, 2, 5]), 0),
        Division(np.array([0, 1, 5]), np.array([2, 3, 4]), 0),
    ]
    assert fewest_labelled(labels, halves) == (1, 0)
    assert fewest_labelled(labels, halves[1:]) == (1, 2)
