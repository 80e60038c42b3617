"""Connectors against their definitions."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom

from app.conformal import calibrate_simultaneously
from app.conformal.calibration import rank
from app.conformal.checks import as_alpha
from app.conformal.spaces import (
    combinations,
    joint_labels,
    likeliest,
    marginalise,
    multiply,
    project,
)
from tests.unit.conformal.draws import problem, softmax

CLASSES = {"a": 3, "b": 2, "c": 4}


def test_multiply_and_marginalise() -> None:
    probs, _ = problem(np.random.default_rng(0), 5, CLASSES)
    joint = multiply(probs)
    assert joint.shape == (5, combinations(CLASSES)) == (5, 24)
    for number, (a, b, c) in enumerate(itertools.product(range(3), range(2), range(4))):
        product = probs["a"][:, a] * probs["b"][:, b] * probs["c"][:, c]
        np.testing.assert_allclose(joint[:, number], product, rtol=1e-12)
    back = marginalise(joint, CLASSES)
    for task in CLASSES:
        np.testing.assert_allclose(back[task], probs[task], rtol=1e-12)


def test_project_is_the_best_combination_of_each_class() -> None:
    joint = np.random.default_rng(1).random((6, 24))
    cells = list(itertools.product(range(3), range(2), range(4)))
    for axis, (task, count) in enumerate(CLASSES.items()):
        for c in range(count):
            best = np.max([joint[:, i] for i, cell in enumerate(cells) if cell[axis] == c], axis=0)
            assert (project(joint, CLASSES)[task][:, c] == best).all()


def test_joint_labels_number_the_columns_of_multiply() -> None:
    labels = {"a": np.array([2, 0, -1]), "b": np.array([1, 0, 1]), "c": np.array([3, 0, 0])}
    assert joint_labels(labels, CLASSES).tolist() == [23, 0, -1]


@given(seed=st.integers(0, 10_000), count=st.integers(1, 30), sharpness=st.sampled_from([0.5, 30]))
@settings(max_examples=100, deadline=None)
def test_likeliest_are_the_best_of_all_combinations(
    seed: int, count: int, sharpness: float
) -> None:
    rng = np.random.default_rng(seed)
    probs = {t: softmax(sharpness * rng.normal(size=(4, c))) for t, c in CLASSES.items()}
    best, mass = likeliest(probs, count)
    joint = multiply(probs)
    order = np.argsort(-joint, axis=1, kind="stable")[:, :count]
    assert mass.shape == order.shape == (4, min(count, 24))
    # In each row, for ``joint_labels`` takes one combination a picture.
    for i in range(4):
        numbers = joint_labels({task: c[i] for task, c in best.items()}, CLASSES)
        assert numbers.tolist() == order[i].tolist()
        np.testing.assert_allclose(mass[i], joint[i, order[i]], rtol=1e-12)


@pytest.mark.parametrize("count", [0, -1, 1.5, None, "2"])
def test_likeliest_asks_for_at_least_one(count) -> None:
    with pytest.raises(ValueError, match="count must be a whole number of at least 1, not"):
        likeliest({"a": np.ones((1, 1))}, count)


def test_marginals_of_many_combinations_sum_to_one() -> None:
    """Half a million float32 added one to another would be off by a hundredth."""
    joint = np.full((1, 1_000_000), 1e-6, np.float32)
    for task, p in marginalise(joint, {"many": 500_000, "few": 2}).items():
        assert p.sum() == pytest.approx(1, abs=1e-6), task


def test_ten_tasks_of_fifty_classes_work_in_bounded_memory() -> None:
    """1e17 combinations: the likeliest and the sets that hold all truths come from the factors."""
    classes = {f"task {i}": 50 for i in range(10)}
    probs, labels = problem(np.random.default_rng(0), 1500, classes, signal=6)
    calib, new = (
        {t: p[rows] for t, p in probs.items()} for rows in (slice(1000), slice(1000, None))
    )
    bytes_given = sum(p.nbytes for p in probs.values())

    tracemalloc.start()
    together = calibrate_simultaneously(calib, {t: y[:1000] for t, y in labels.items()})
    sets = together.predict(new, 0.1)
    best, mass = likeliest(new, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 4 * bytes_given  # 24 MB; one picture's joint space would take 8e17
    covered = np.all([sets[t][np.arange(500), labels[t][1000:]] for t in classes], axis=0)
    law = betabinom(500, rank(500, as_alpha(0.1)), 501 - rank(500, as_alpha(0.1)))
    assert law.cdf(covered.sum()) > 1e-6
    top = np.prod([p.max(axis=1) for p in new.values()], axis=0)
    np.testing.assert_allclose(mass[:, 0], top, rtol=1e-12)
    assert (np.diff(mass, axis=1) <= 0).all()
    assert len({tuple(c[0, j] for c in best.values()) for j in range(100)}) == 100

    with pytest.raises(ValueError, match=r"97656250000000000 combinations .*simultaneously"):
        multiply(new)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: marginalise(np.ones((2, 23)), CLASSES), r"joint of shape \(2, 23\) .* \(n, 24\)"),
        (lambda: project(np.ones(24), CLASSES), r"joint of shape \(24,\)"),
        (lambda: likeliest({"a": np.full((1, 2), np.nan)}, 1), r"probs\['a'\] .* finite"),
        (lambda: marginalise(None, CLASSES), r"joint of shape \(\) must hold real numbers"),  # type: ignore[arg-type]
        (lambda: project([0.5], CLASSES), r"joint of shape \(1,\)"),  # type: ignore[type-var]
        (lambda: multiply({}), "probs must hold at least one task"),
        (lambda: multiply([0.5]), "probs must map each task to its array, not be a list"),  # type: ignore[arg-type]
        (lambda: multiply({"a": np.ones(2)}), r"probs\['a'\] of shape \(2,\)"),
        (lambda: multiply({"a": np.ones((1, 1)), "b": np.ones((3, 1))}), "the same pictures"),
        (lambda: multiply({"a": np.full((1, 2), np.nan)}), r"probs\['a'\] .* finite"),
        (lambda: joint_labels([0], {"a": 3}), "labels must map each task to its array"),  # type: ignore[arg-type]
        (lambda: joint_labels({"a": None}, {"a": 3}), r"labels\['a'\] of shape \(\)"),  # type: ignore[dict-item]
        (
            lambda: joint_labels({"a": [0], "b": [0, 0]}, {"a": 3, "b": 3}),  # type: ignore[dict-item]
            r"\['b'\] of shape \(2,\)",
        ),
        (lambda: joint_labels({"a": np.array([3])}, {"a": 3}), r"labels\['a'\] .* 0\.\.2"),
        (lambda: joint_labels({"a": np.array([0])}, {"b": 3}), "labels must hold the tasks"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        call()
