"""So many tasks that no float counts the combinations of their classes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from app.conformal.evaluation import evaluate
from app.conformal.method import Method
from app.pipeline.evaluate import as_json, print_table
from app.pipeline.predict import Classifier, Reading

TASKS = {f"t{i}": ["a", "b", "c", "never seen"] for i in range(600)}


@pytest.fixture(scope="module")
def probs() -> dict[str, np.ndarray]:
    """30 pictures of which the network knows nothing."""
    return {task: np.full((30, len(names)), 1 / len(names)) for task, names in TASKS.items()}


@pytest.fixture(scope="module")
def labels() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {task: rng.integers(0, 3, 30) for task in TASKS}


@pytest.fixture(scope="module")
def method(probs: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> Method:
    classes = {task: len(names) for task, names in TASKS.items()}
    return Method.calibrate(probs, labels, classes, "hinge", "task", 0)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_metrics_are_strict_json(probs, labels, method, capsys: pytest.CaptureFixture[str]) -> None:
    measured = evaluate(method, probs, labels, 0.2)
    text = json.dumps(as_json(measured, TASKS, {}, {"total": 1.0}), allow_nan=False)
    metrics = json.loads(text, parse_constant=refuse)
    assert metrics["joint"]["avg_set_size"] is None
    assert metrics["joint"]["coverage"] == 1
    assert [stratum["sizes"] for stratum in metrics["joint"]["by_size"]] == [[1001, None]]
    task = metrics["tasks"]["t0"]
    assert task["avg_set_size"] == metrics["weighted"]["avg_set_size"] == 4
    assert task["classes"]["never seen"] == {
        "n_test": 0,
        "covered": 0,
        "coverage": None,
        "coverage_ci": [0, 1],
    }
    print_table(measured.results, 0.2)
    assert " inf " in capsys.readouterr().err


def test_thresholds_that_are_infinite_are_named(probs, labels, method) -> None:
    metrics = as_json(evaluate(method, probs, labels, 0.01), TASKS, {}, {})
    assert metrics["tasks"]["t0"]["classes_without_threshold"] == TASKS["t0"]


def test_a_prediction_counts_them_exactly(probs, method) -> None:
    said = classifier(method).answer(
        Reading({t: p[:1] for t, p in probs.items()}, 0.5, np.empty(0, np.float32))
    )
    assert json.loads(json.dumps(said, allow_nan=False))["joint"]["size"] == 4**600


def classifier(method: Method) -> Classifier:
    """What answers of a bundle with this method, without its network."""
    made = object.__new__(Classifier)
    made.facts = {"alpha": 0.2, "method": {"score": "hinge", "taxonomy": "task"}}
    made.classes = TASKS
    made.scores, made.taxonomies = ["hinge"], ["task"]
    made._sizes = method.classes
    made._methods = {("hinge", "task"): method}
    return made
