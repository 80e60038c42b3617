"""Connectors against their definitions."""

from __future__ import annotations

import itertools

import numpy as np

from app.conformal.spaces import combinations, joint_labels, marginalise, multiply, project
from tests.unit.conformal.draws import problem

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
