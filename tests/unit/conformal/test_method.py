"""One method in both spaces: answers that agree with their parts, and survive saving."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.conformal.method import Method
from app.conformal.spaces import JOINT, multiply
from tests.unit.conformal.draws import problem

CLASSES = {"colour": 4, "type": 3}


@pytest.fixture(params=["taskwise", "joint"])
def case(request: pytest.FixtureRequest):
    probs, labels = problem(np.random.default_rng(0), 400, CLASSES)
    used = probs if request.param == "taskwise" else {JOINT: multiply(probs)}
    return used, labels, Method.calibrate(used, labels, CLASSES, "hinge", "task", 0)


def test_sets_follow_from_p_values(case) -> None:
    probs, _, method = case
    for alpha in (0.05, 0.2):
        answers = method.answer(probs, alpha)
        for task in CLASSES:
            assert (answers.sets[task] == (answers.p_values[task] > alpha)).all()


def test_joint_size_counts_combinations(case) -> None:
    probs, _, method = case
    answers = method.answer(probs, 0.1)
    box = answers.joint_sets["colour"].sum(axis=1) * answers.joint_sets["type"].sum(axis=1)
    if answers.combinations is None:
        assert (answers.joint_sizes == box).all()
    else:
        assert (answers.joint_sizes <= box).all()
        assert (answers.joint_sizes == answers.combinations.sum(axis=1)).all()


def test_measures_only_known_labels(case) -> None:
    probs, labels, method = case
    labels = {task: values.copy() for task, values in labels.items()}
    labels["type"][:100] = -1
    results = method.answer(probs, 0.1).measure(labels, 0.1)
    assert {task: m.n_test for task, m in results.items()} == {
        "colour": 400,
        "type": 300,
        JOINT: 300,
    }


def test_measured_joint_coverage_by_hand(case) -> None:
    probs, labels, method = case
    answers = method.answer(probs, 0.1)
    hits = 0
    for i in range(400):
        a, b = labels["colour"][i], labels["type"][i]
        if answers.combinations is not None:
            hits += answers.combinations[i, a * 3 + b]
        else:
            hits += answers.joint_sets["colour"][i, a] and answers.joint_sets["type"][i, b]
    assert answers.measure(labels, 0.1)[JOINT].coverage == hits / 400


def test_saved_and_loaded(case, tmp_path: Path) -> None:
    probs, _, method = case
    method.save(tmp_path / "m")
    again = Method.load(tmp_path / "m", CLASSES).answer(probs, 0.1)
    first = method.answer(probs, 0.1)
    for task in CLASSES:
        assert (again.p_values[task] == first.p_values[task]).all()
        assert (again.joint_sets[task] == first.joint_sets[task]).all()


def test_more_combinations_than_any_integer_holds() -> None:
    classes = {f"t{i}": 10 for i in range(30)}
    probs, labels = problem(np.random.default_rng(1), 80, classes)
    method = Method.calibrate(probs, labels, classes, "hinge", "task", 0)
    answers = method.answer(probs, 0.001)
    np.testing.assert_allclose(answers.joint_sizes, 1e30)
    assert answers.measure(labels, 0.001)[JOINT].coverage == 1.0
