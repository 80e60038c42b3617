"""Nonconformity scores: how badly each class conforms to what the network said of a picture.

Every score maps probabilities, float64 (n, C) with rows that sum to 1, to scores, float64 (n, C):
the score that each class would have if it were the truth. Larger is stranger. All are
deterministic; classes of equal probability are ranked by their index.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]


def hinge(probs: Floats) -> Floats:
    """1 - p_y. Also called LAC or THR (Sadinle, Lei and Wasserman 2019, arXiv 1609.00451)."""
    return 1.0 - probs


def margin(probs: Floats) -> Floats:
    """max over y' != y of p_y' - p_y (Johansson et al. 2017). A class alone has no rival."""
    n, classes = probs.shape
    if classes == 1:
        return -probs
    top = probs.argmax(axis=1)
    rival = np.repeat(probs.max(axis=1, keepdims=True), classes, axis=1)
    rival[np.arange(n), top] = np.partition(probs, classes - 2, axis=1)[:, classes - 2]
    return rival - probs


def pip(probs: Floats) -> Floats:
    """1 - p_y + sum over the classes ranked above y of p_(r) / r (Melki et al. 2024, 2406.08884).

    The sum stops before y's own rank, so the top class has no penalty.
    """
    order, ranked = _rank(probs)
    penalties = np.cumsum(ranked / np.arange(1, probs.shape[1] + 1), axis=1)
    above = np.zeros_like(ranked)
    above[:, 1:] = penalties[:, :-1]
    return _unrank(1.0 - ranked + above, order)


def aps(probs: Floats) -> Floats:
    """The mass of y and of the classes ranked above it (Romano et al. 2020, 2006.02544)."""
    order, ranked = _rank(probs)
    return _unrank(np.cumsum(ranked, axis=1), order)


def raps(probs: Floats, weight: float = 0.01, k_reg: int = 5) -> Floats:
    """APS plus ``weight`` a rank beyond ``k_reg`` (Angelopoulos et al. 2021, 2009.14193)."""
    order, ranked = _rank(probs)
    ranks = np.arange(1, probs.shape[1] + 1)
    return _unrank(np.cumsum(ranked, axis=1) + weight * np.maximum(ranks - k_reg, 0), order)


def saps(probs: Floats, weight: float = 0.2) -> Floats:
    """The top class's mass plus ``weight`` for every rank below it (Huang et al. 2024, 2310.06430).

    Of the probabilities only the largest enters; this is the paper's score at u = 1.
    """
    order, ranked = _rank(probs)
    ranks = np.arange(1, probs.shape[1] + 1)
    return _unrank(ranked[:, :1] + weight * (ranks - 1), order)


def _rank(probs: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Class indices from likeliest to least likely, and the probabilities in that order."""
    order = np.argsort(-probs, axis=1, kind="stable")
    return order, np.take_along_axis(probs, order, axis=1)


def _unrank(values: Floats, order: NDArray[np.int64]) -> Floats:
    """Put values given by rank back in the order of the classes."""
    scores = np.empty_like(values)
    np.put_along_axis(scores, order, values, axis=1)
    return scores


SCORES: dict[str, Score] = {
    "hinge": hinge,
    "margin": margin,
    "pip": pip,
    "aps": aps,
    "raps": raps,
    "saps": saps,
}
