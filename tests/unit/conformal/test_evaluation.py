"""All that is measured together, against its parts measured one by one, in both spaces."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from app.conformal.calibration import rank
from app.conformal.evaluation import evaluate, unlimited
from app.conformal.method import Method
from app.conformal.reliability import brier_score, reliability_curve
from app.conformal.spaces import JOINT, multiply
from tests.unit.conformal.draws import problem

CLASSES = {"colour": 4, "type": 3}


def split(
    space: str, seed: int, n: int = 300, m: int = 200
) -> tuple[tuple[dict[str, np.ndarray], dict[str, np.ndarray]], ...]:
    """Of n calibration and m test pictures, probabilities in a space, and labels."""
    rng = np.random.default_rng(seed)
    drawn = (problem(rng, count, CLASSES) for count in (n, m))
    return tuple((p if space == "taskwise" else {JOINT: multiply(p)}, y) for p, y in drawn)


@pytest.mark.parametrize("space", ["taskwise", "joint"])
@pytest.mark.parametrize("taxonomy", ["task", "class"])
def test_agrees_with_its_parts(space: str, taxonomy: str) -> None:
    calib, (probs, labels) = split(space, 0)
    labels["type"][::3] = -1
    method = Method.calibrate(*calib, CLASSES, "aps", taxonomy, 0)
    measured = evaluate(method, probs, labels, 0.2)
    answers = method.answer(probs, 0.2)
    assert measured.results == answers.measure(labels, 0.2)

    known = {task: truth >= 0 for task, truth in labels.items()}
    cube = probs[JOINT].reshape(-1, 4, 3) if space == "joint" else None
    sizes = {}
    for axis, (task, count) in enumerate(CLASSES.items()):
        marginal = probs[task] if cube is None else cube.sum(axis=2 - axis)
        assert measured.brier[task] == pytest.approx(brier_score(marginal, labels[task]))
        error = measured.curves[task].expected_calibration_error
        expected = reliability_curve(marginal, labels[task]).expected_calibration_error
        assert error == pytest.approx(expected)
        for c in range(count):
            rows = np.flatnonzero(labels[task] == c)
            assert measured.by_class[task].n[c] == len(rows)
            assert measured.by_class[task].hits[c] == answers.sets[task][rows, c].sum()
        assert measured.by_class[task].n.sum() == known[task].sum()
        sizes[task] = answers.sets[task].sum(axis=1)[known[task]]
    sizes[JOINT] = answers.joint_sizes[known["colour"] & known["type"]]
    for name, found in sizes.items():
        strata = [found < 2, (found >= 2) & (found < 4), (found >= 4) & (found < 11), found > 10]
        assert measured.by_size[name].n[:4].tolist() == [stratum.sum() for stratum in strata]
    means = [sizes[task].mean() for task in CLASSES]
    assert measured.weighted.avg_set_size == pytest.approx((4 * means[0] + 3 * means[1]) / 7)


@pytest.mark.parametrize("space", ["taskwise", "joint"])
@pytest.mark.parametrize("percent", [2, 20, 60])
def test_unlimited_classes_are_those_in_every_set(space: str, percent: int) -> None:
    """Of the class taxonomy: with too few calibration pictures, of one combination at least."""
    (probs, labels), (new, _) = split(space, 1, n=60)
    labels["colour"][labels["colour"] == 3] = 0  # never seen
    method = Method.calibrate(probs, labels, CLASSES, "hinge", "class", 0)
    found = unlimited(method, percent / 100)

    def too_few(n: int) -> bool:
        return rank(n, Fraction(percent, 100)) > n

    pairs = list(zip(labels["colour"], labels["type"], strict=True))
    for axis, (task, count) in enumerate(CLASSES.items()):
        for c in range(count):
            if space == "taskwise":
                expected = too_few(int((labels[task] == c).sum()))
            else:
                cells = [(a, b) for a in range(4) for b in range(3) if (a, b)[axis] == c]
                expected = any(too_few(pairs.count(cell)) for cell in cells)
            assert found[task][c] == expected
        always = method.answer(new, percent / 100).sets[task].all(axis=0)
        assert (always | ~found[task]).all()
    assert found["colour"][3]
