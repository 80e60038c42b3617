"""What prediction sets are worth: do they hold the truth, and how small are they?

``measure`` says it of all pictures in a few numbers; ``by_class`` and ``by_size`` say where
coverage is lost. Each number is a rate or a mean over the pictures whose truth is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

#: The smallest and largest set of each stratum: those of Angelopoulos et al. (2021, arXiv
#: 2009.14193) for up to 1,000 classes, and one for all larger sets, as combinations are countless.
#: The same whatever the number of classes, so that figures compare. Empty sets share a stratum with
#: sets of one class: a stratum of their own could never be covered.
STRATA: tuple[tuple[int, int | None], ...] = (
    (0, 1),
    (2, 3),
    (4, 10),
    (11, 100),
    (101, 1000),
    (1001, None),
)
_LARGEST = np.array([largest for _, largest in STRATA if largest is not None])


@dataclass(frozen=True)
class Outcomes:
    """What came of n sets whose truths are known. Every attribute is an array (n,).

    Attributes:
        correct: whether the top class is the truth.
        covered: whether the set holds the truth; an empty set does not.
        sizes: number of classes (or of combinations) in the set.
        truth: the true class (or a number for the true combination), from 0.
    """

    correct: Bools
    covered: Bools
    sizes: NDArray[np.number[Any]]
    truth: Ints


@dataclass(frozen=True)
class Metrics:
    """Measured on ``n_test`` pictures with a known truth. Rates lie in 0..1.

    Attributes:
        accuracy: rate at which the top class is the truth.
        coverage: rate at which the set holds the truth; an empty set does not.
        coverage_ci: exact 95 % interval of the coverage (Clopper and Pearson 1934).
        avg_set_size: mean number of classes in a set (efficiency); of combinations it may be inf,
            where their sum is beyond float64.
        singleton_rate: rate of sets of one class, right or wrong (informativeness).
        empty_rate: rate of empty sets.
        covgap: mean over the true classes of |their coverage - (1 - alpha)| (Ding et al. 2023,
            arXiv 2306.09335).
        sscv: size-stratified coverage violation, the largest |coverage - (1 - alpha)| of the
            ``STRATA`` that occur (Angelopoulos et al. 2021, arXiv 2009.14193). A stratum of few
            pictures can make it large by chance: ``by_size`` has the intervals.
        n_test: number of pictures.
    """

    accuracy: float
    coverage: float
    coverage_ci: tuple[float, float]
    avg_set_size: float
    singleton_rate: float
    empty_rate: float
    covgap: float
    sscv: float
    n_test: int


@dataclass(frozen=True)
class Weighted:
    """All tasks together, each weighted by its number of classes, so that small tasks weigh less.

    Attributes:
        avg_set_size: mean of the tasks' mean set sizes (weighted efficiency).
        singleton_rate: mean of the tasks' rates of sets of one class (weighted informativeness).
    """

    avg_set_size: float
    singleton_rate: float


@dataclass(frozen=True)
class Rates:
    """How often something happened in each of several groups of pictures.

    Attributes:
        n: number of pictures of each group, (groups,).
        hits: number of them where it happened, (groups,).
    """

    n: Ints
    hits: Ints

    @property
    def rate(self) -> Floats:
        """hits / n, (groups,); NaN in a group without pictures."""
        return np.divide(self.hits, self.n, out=np.full(len(self.n), np.nan), where=self.n > 0)

    @property
    def interval(self) -> tuple[Floats, Floats]:
        """Ends of the exact 95 % intervals, each (groups,); 0 and 1 in a group without pictures."""
        return clopper_pearson(self.hits, self.n)

    def gaps(self, promised: float) -> Floats:
        """|rate - promised| of the groups that have pictures."""
        some = self.n > 0
        return np.abs(self.hits[some] / self.n[some] - promised)

    def below(self, promised: float) -> Bools:
        """Groups whose whole interval lies below what was promised, (groups,).

        Of groups whose true rate is just what was promised, one in forty at most looks like that.
        """
        return self.interval[1] < promised


def measure(outcomes: Outcomes, alpha: float) -> Metrics:
    """Metrics of sets that were made for the error rate ``alpha``.

    Raises:
        ValueError: there is no picture to measure on.
    """
    n = len(outcomes.truth)
    if n == 0:
        raise ValueError("outcomes must hold at least one picture with a known truth")
    covered = int(np.count_nonzero(outcomes.covered))
    low, high = clopper_pearson(covered, n)
    with np.errstate(over="ignore"):  # Countless combinations have the mean size inf.
        avg_set_size = float(outcomes.sizes.mean())
    classes = int(outcomes.truth.max()) + 1
    return Metrics(
        accuracy=float(outcomes.correct.mean()),
        coverage=covered / n,
        coverage_ci=(float(low), float(high)),
        avg_set_size=avg_set_size,
        singleton_rate=float((outcomes.sizes == 1).mean()),
        empty_rate=float((outcomes.sizes == 0).mean()),
        covgap=float(by_class(outcomes, classes).gaps(1 - alpha).mean()),
        sscv=float(by_size(outcomes).gaps(1 - alpha).max()),
        n_test=n,
    )


def by_class(outcomes: Outcomes, classes: int) -> Rates:
    """Coverage of each of so many true classes."""
    return rates(outcomes.truth, outcomes.covered, classes)


def by_size(outcomes: Outcomes) -> Rates:
    """Coverage of the sets of each stratum of sizes, in the order of ``STRATA``."""
    stratum = np.searchsorted(_LARGEST, outcomes.sizes, side="left")
    return rates(stratum, outcomes.covered, len(STRATA))


def rates(group: Ints, happened: Bools, groups: int) -> Rates:
    """How often it happened in each group, of n pictures' groups in 0..groups - 1, (n,)."""
    return Rates(
        np.bincount(group, minlength=groups), np.bincount(group[happened], minlength=groups)
    )


def weighted(results: Mapping[str, Metrics], classes: Mapping[str, int]) -> Weighted:
    """Metrics of all tasks, weighted by their numbers of classes {task: C_task}."""
    weights = list(classes.values())
    of_task = [results[task] for task in classes]
    return Weighted(
        avg_set_size=float(np.average([m.avg_set_size for m in of_task], weights=weights)),
        singleton_rate=float(np.average([m.singleton_rate for m in of_task], weights=weights)),
    )


def clopper_pearson(
    successes: ArrayLike, n: ArrayLike, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Exact intervals of binomial rates from ``successes`` out of ``n``, arrays of one shape.

    It covers any true rate with at least the probability ``level``. Of no trial it is 0..1.
    """
    k, n = np.asarray(successes), np.asarray(n)
    tail = (1 - level) / 2
    # Where all or none succeeded the beta law is degenerate, and that end the rate's own bound.
    low = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, tail), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail), 1.0)
    return low, high
