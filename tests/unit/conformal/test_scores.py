"""Fast scores against the papers' formulas, class by class, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from app.conformal import SCORES
from tests.unit.conformal.draws import probabilities


def ranking(p: list[float]) -> list[int]:
    """Classes from likeliest to least; equals by their index."""
    return sorted(range(len(p)), key=lambda c: (-p[c], c))


def brute_hinge(p: list[float], y: int) -> float:
    return 1.0 - p[y]


def brute_margin(p: list[float], y: int) -> float:
    return max([p[c] for c in range(len(p)) if c != y], default=0.0) - p[y]


def brute_pip(p: list[float], y: int) -> float:
    order = ranking(p)
    penalty = 0.0
    for r, c in enumerate(order[: order.index(y)], start=1):
        penalty += p[c] / r
    return 1.0 - p[y] + penalty


def brute_aps(p: list[float], y: int) -> float:
    order = ranking(p)
    total = 0.0
    for c in order[: order.index(y) + 1]:
        total += p[c]
    return total


def brute_raps(p: list[float], y: int) -> float:
    rank = ranking(p).index(y) + 1
    return brute_aps(p, y) + 0.01 * max(rank - 5, 0)


def brute_saps(p: list[float], y: int) -> float:
    return max(p) + 0.2 * ranking(p).index(y)


BRUTE = {
    "hinge": brute_hinge,
    "margin": brute_margin,
    "pip": brute_pip,
    "aps": brute_aps,
    "raps": brute_raps,
    "saps": brute_saps,
}


@pytest.mark.parametrize("name", SCORES)
@given(probs=probabilities())
@settings(max_examples=200, deadline=None)
def test_equals_the_formula(name: str, probs: np.ndarray) -> None:
    fast = SCORES[name](probs)
    for row, p in enumerate(probs.tolist()):
        assert fast[row].tolist() == [BRUTE[name](p, y) for y in range(len(p))]


def test_pip_does_not_penalise_the_top_class() -> None:
    probs = np.array([[0.2, 0.5, 0.3]])
    assert SCORES["pip"](probs)[0, 1] == 1 - 0.5
    # The second class is penalised by the first alone, whose rank is 1.
    assert SCORES["pip"](probs)[0, 2] == pytest.approx(1 - 0.3 + 0.5 / 1)


def test_one_class_alone() -> None:
    for score in SCORES.values():
        assert np.isfinite(score(np.ones((3, 1)))).all()


def test_scores_do_not_change_their_argument() -> None:
    probs = np.array([[0.2, 0.5, 0.3]])
    for score in SCORES.values():
        score(probs)
    assert probs.tolist() == [[0.2, 0.5, 0.3]]
