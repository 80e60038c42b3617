"""Which classes share a group, and that no picture both finds and calibrates a cluster."""

from __future__ import annotations

import numpy as np
import pytest

from app.conformal import TAXONOMIES, calibrate
from tests.unit.conformal.draws import problem

CLASSES = {"colour": 4, "type": 3}


def groups(taxonomy: str) -> dict[str, list[int]]:
    probs, labels = problem(np.random.default_rng(0), 50, CLASSES)
    found = calibrate(probs, labels, taxonomy=taxonomy).groups
    return {task: g.tolist() for task, g in found.items()}


def test_plain_groups() -> None:
    assert groups("global") == {"colour": [0, 0, 0, 0], "type": [0, 0, 0]}
    assert groups("task") == {"colour": [0, 0, 0, 0], "type": [1, 1, 1]}
    assert groups("class") == {"colour": [0, 1, 2, 3], "type": [4, 5, 6]}


@pytest.mark.parametrize("taxonomy", ["cluster", "task_cluster"])
def test_the_pictures_that_find_clusters_do_not_calibrate(taxonomy: str) -> None:
    rng = np.random.default_rng(1)
    true = {t: rng.random(400) for t in CLASSES}
    labels = {t: rng.integers(0, c, 400) for t, c in CLASSES.items()}
    partition = TAXONOMIES[taxonomy](true, labels, CLASSES, 7)
    assert partition.spent.sum() == 200
    again = {t: np.where(partition.spent, s, rng.random(400)) for t, s in true.items()}
    other = TAXONOMIES[taxonomy](again, labels, CLASSES, 7)
    for task in CLASSES:  # Whatever the calibrating half scores, the clusters stay.
        assert partition.groups[task].tolist() == other.groups[task].tolist()


def test_classes_alike_share_a_cluster() -> None:
    """Two easy classes and two hard ones make two clusters."""
    rng = np.random.default_rng(2)
    labels = {"t": rng.integers(0, 4, 4000)}
    true = {"t": rng.random(4000) * 0.1 + (labels["t"] >= 2)}
    found = TAXONOMIES["cluster"](true, labels, {"t": 4}, 0).groups["t"]
    assert found[0] == found[1] != found[2] == found[3]


def test_rare_and_unseen_classes_use_the_pooled_scores() -> None:
    probs, labels = problem(np.random.default_rng(3), 600, {"t": 6})
    rare = np.flatnonzero(labels["t"] == 4)
    labels["t"][rare[5:]] = 0
    labels["t"][labels["t"] == 5] = 1
    calibration = calibrate(probs, labels, taxonomy="task_cluster")
    null = calibration.groups["t"][5]
    assert calibration.groups["t"][4] == null
    assert len(calibration.scores[null]) == 300  # all of the calibrating half
    assert (calibration.groups["t"][:4] != null).all()


@pytest.mark.parametrize(("count", "clustered"), [(8, False), (9, True)])
def test_a_class_is_clustered_from_the_first_with_a_finite_quantile(
    count: int, clustered: bool
) -> None:
    """Of 8 scores the quantile at 0.9 would be the ninth."""
    rng = np.random.default_rng(6)
    true = {"t": rng.random(400)}
    spent = TAXONOMIES["cluster"](true, {"t": np.zeros(400, int)}, {"t": 1}, 7).spent
    labels = np.zeros(400, int)
    labels[np.flatnonzero(spent)[:count]] = 1
    found = TAXONOMIES["cluster"](true, {"t": labels}, {"t": 2}, 7).groups["t"]
    assert found[0] != 0 and (found[1] != 0) == clustered


def test_clusters_of_different_tasks_are_different_groups() -> None:
    probs, labels = problem(np.random.default_rng(7), 1000, CLASSES)
    found = calibrate(probs, labels, taxonomy="task_cluster").groups
    assert not set(found["colour"]) & set(found["type"])


def test_with_too_few_pictures_to_cluster_everything_is_pooled() -> None:
    probs, labels = problem(np.random.default_rng(4), 12, CLASSES)
    calibration = calibrate(probs, labels, taxonomy="cluster")
    assert {g for task in CLASSES for g in calibration.groups[task]} == {0}
    assert len(calibration.scores[0]) == 6 * len(CLASSES)


def test_clusters_depend_on_the_seed_alone() -> None:
    probs, labels = problem(np.random.default_rng(5), 500, CLASSES)
    a, b = (calibrate(probs, labels, taxonomy="cluster", seed=3) for _ in range(2))
    assert [s.tolist() for s in a.scores] == [s.tolist() for s in b.scores]
