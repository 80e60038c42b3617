"""What a set of prediction sets is worth: does it hold the truth, and how small is it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv


@dataclass(frozen=True)
class Metrics:
    """Measured on ``n_test`` pictures with a known truth. Rates lie in 0..1.

    Attributes:
        accuracy: rate at which the top class is the truth.
        coverage: rate at which the set holds the truth; an empty set does not.
        coverage_ci: exact 95 % interval of the coverage (Clopper and Pearson 1934).
        avg_set_size: mean number of classes in a set.
        singleton_rate: rate of sets of one class, right or wrong (informativeness).
        empty_rate: rate of empty sets.
        covgap: mean over the true classes of |their coverage - (1 - alpha)| (Ding et al. 2023).
        n_test: number of pictures.
    """

    accuracy: float
    coverage: float
    coverage_ci: tuple[float, float]
    avg_set_size: float
    singleton_rate: float
    empty_rate: float
    covgap: float
    n_test: int


def measure(
    correct: NDArray[np.bool_],
    covered: NDArray[np.bool_],
    sizes: NDArray[np.number[Any]],
    truth: NDArray[np.int64],
    alpha: float,
) -> Metrics:
    """Metrics of n sets.

    Args:
        correct: whether the top class is the truth, (n,).
        covered: whether the set holds the truth, (n,).
        sizes: number of classes (or of combinations) in the set, (n,).
        truth: the true class, (n,), known.
        alpha: the error rate the sets were made for.

    Raises:
        ValueError: there is no picture to measure on.
    """
    n = len(truth)
    if n == 0:
        raise ValueError("truth of shape (0,) must hold at least one picture")
    _, of_class = np.unique(truth, return_inverse=True)
    class_coverage = np.bincount(of_class, covered) / np.bincount(of_class)
    return Metrics(
        accuracy=float(correct.mean()),
        coverage=float(covered.mean()),
        coverage_ci=clopper_pearson(int(covered.sum()), n),
        avg_set_size=float(sizes.mean()),
        singleton_rate=float((sizes == 1).mean()),
        empty_rate=float((sizes == 0).mean()),
        covgap=float(np.abs(class_coverage - (1 - alpha)).mean()),
        n_test=n,
    )


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a binomial rate from ``successes`` out of ``n`` >= 1."""
    tail = (1 - level) / 2
    low = betaincinv(successes, n - successes + 1, tail) if successes > 0 else 0.0
    high = betaincinv(successes + 1, n - successes, 1 - tail) if successes < n else 1.0
    return float(low), float(high)
