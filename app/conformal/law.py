"""The exact law of measured coverage: how far from the promise chance alone may take it.

With n calibration and m test pictures whose scores are exchangeable and distinct, the number of
test pictures that are covered is beta-binomial(m, k, n + 1 - k), k = ceil((n + 1)(1 - alpha)),
whatever the scores (Marques 2023, arXiv 2303.02770). So it is of a new draw of pictures, and of one
pool that is divided at random again and again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, betabinom, binom

from app.conformal.calibration import rank
from app.conformal.checks import as_alpha, check_rate

Floats = NDArray[np.float64]

#: So many draws find a quantile of a law that has no name.
_DRAWS = 10_000


@dataclass(frozen=True)
class CoverageLaw:
    """The law of the coverage of m >= 1 test pictures by sets calibrated on n scores.

    With too few scores for a finite threshold (k > n) everything is covered, always. Scores that
    are equal can only cover more.
    """

    n: int
    m: int
    alpha: float

    @property
    def mean(self) -> float:
        """k / (n + 1): at least 1 - alpha, and by less than 1 / (n + 1) more."""
        return float(self._count.mean()) / self.m

    @property
    def std(self) -> float:
        """Standard deviation of the coverage."""
        return float(self._count.std()) / self.m

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Coverages below, and above, which at most (1 - level) / 2 of the draws fall."""
        tail = (1 - level) / 2
        low, high = self._count.ppf([tail, 1 - tail]) / self.m
        return float(low), float(high)

    def pmf(self, covered: ArrayLike) -> Floats:
        """Probability that just so many of the m pictures are covered, of any shape."""
        return self._count.pmf(covered)

    def cdf(self, covered: ArrayLike) -> Floats:
        """Probability that at most so many of the m pictures are covered, of any shape."""
        return self._count.cdf(covered)

    def uniform(self, covered: ArrayLike, rng: np.random.Generator) -> Floats:
        """Randomised probability integral transform: uniform on (0, 1) under the law.

        It spreads each possible number ``covered``, of any shape, over that number's share of
        (0, 1), so that a test for the uniform law, as Kolmogorov's, is exact.
        """
        below, up_to = self.cdf(np.asarray(covered) - 1), self.cdf(covered)
        return below + rng.random(np.shape(covered)) * (up_to - below)

    @property
    def _count(self) -> Any:
        """The law of the number covered, as one of SciPy's frozen distributions."""
        k = rank(self.n, as_alpha(self.alpha))
        if k > self.n:
            return binom(self.m, 1)
        return betabinom(self.m, k, self.n + 1 - k)


def of_groups(laws: Iterable[CoverageLaw]) -> Floats:
    """Probability of each number covered, 0 to the sum of m, over independent groups of pictures.

    So it is of a task whose classes have a threshold each, given how many pictures each class has.
    """
    return reduce(np.convolve, (law.pmf(np.arange(law.m + 1)) for law in laws), np.ones(1))


def least_rate(
    sizes: Sequence[int], weights: Sequence[float], alpha: float, delta: float = 0.05, seed: int = 0
) -> float:
    """A coverage that the sets of one calibration fall short of with probability at most ``delta``.

    The promise of 1 - alpha is a mean over draws of the calibration pictures. Those of one draw
    cover, of ever more exchangeable pictures, a share of their own: beta(k, n + 1 - k) distributed
    (Vovk 2012, arXiv 1209.2673, proposition 2b), so about as often below the promise as above.
    Only a share below this bound says that something else than that draw is amiss.

    For several groups that share is a mean of shares, whose law has no name: it is drawn, and the
    bound is the j-th smallest of N draws, with j / (N + 1) at most ``delta``: as conformal as sets.

    Args:
        sizes: of each group with a threshold of its own, the number n of its scores.
        weights: of each group, how often its pictures come; they need not sum to 1.
        seed: of the draws.

    Raises:
        ValueError: ``alpha`` or ``delta`` is not strictly between 0 and 1, or no weight is
            positive.
    """
    exact = as_alpha(alpha)
    check_rate(delta, "delta")
    share = np.asarray(weights, np.float64)
    if share.shape != (len(sizes),) or (share < 0).any() or not share.sum() > 0:
        raise ValueError("weights must be one for each group, none below 0 and some above")
    come = [(n, rank(n, exact), w) for n, w in zip(sizes, share / share.sum(), strict=True) if w]
    if len(come) == 1:
        [(n, k, _)] = come
        return float(beta.ppf(delta, k, n + 1 - k)) if k <= n else 1.0
    rng = np.random.default_rng(seed)
    rates = np.zeros(max(_DRAWS, math.ceil(1 / delta)))
    for n, k, weight in come:
        # With too few scores for a threshold a group is covered, always.
        rates += weight * rng.beta(k, n + 1 - k, len(rates)) if k <= n else weight
    return min(1.0, float(np.sort(rates)[int(delta * (len(rates) + 1)) - 1]))
