"""Which differences between methods chance explains, and which it does not.

All methods meet the same divisions of the same pictures (``resplits``), so their differences are
paired. But the divisions overlap: each holds pictures of all others. A plain t test takes them for
so many independent experiments, and finds differences that are none; the more divisions, the
surer. The corrected resampled t test (Nadeau and Bengio 2003, Machine Learning 52, 239-281)
supposes that the measurements of two divisions correlate by some rho, and estimates the variance of
the mean of R differences not as s² / R, but as

    (1 / R + rho / (1 - rho)) s².

The second term does not shrink with R: dividing the same pictures again and again adds no pictures.

Nadeau and Bengio take for rho the share of the pictures that test, n_test / n: what two test parts
have in common. But the size of a set hangs on its threshold, and so on the calibration part: where
that is the larger, two divisions have more in common. Were the parts' errors independent, rho would
lie between n_test / n and n_calib / n, so ``overlap`` takes the larger of both. It is their rule
where the parts are equal. doc/experiments.md says how often it errs.

Of many comparisons some look large by chance. ``holm`` corrects p-values for all that are made
against one method fixed beforehand. The best of many is not fixed beforehand: it was looked for.
``may_be_best`` says what may be said of it, as in multiple comparisons with the best (Gupta 1965;
Hsu 1981): which methods are still in question.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Differences:
    """Mean differences over R >= 2 divisions that share their pictures, each array (k,).

    Attributes:
        mean: the mean difference.
        error: its standard error, corrected; 0 where the differences are all the same.
        n: the number of divisions, R.
    """

    mean: Floats
    error: Floats
    n: int

    @property
    def p(self) -> Floats:
        """Two-sided p-values of no difference; 1 where there is no spread to hold it against."""
        return 2 * student.sf(np.abs(self._t), self.n - 1)

    @property
    def p_above(self) -> Floats:
        """One-sided p-values: small where the difference is above 0 by more than chance."""
        return student.sf(self._t, self.n - 1)

    def interval(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Ends of the intervals, each for itself, (k,)."""
        half = student.ppf((1 + level) / 2, self.n - 1) * self.error
        return self.mean - half, self.mean + half

    @property
    def _t(self) -> Floats:
        # Not finite: of countless combinations, whose difference is no number.
        fit = (self.error > 0) & np.isfinite(self.error) & np.isfinite(self.mean)
        return np.divide(self.mean, self.error, out=np.zeros(len(self.mean)), where=fit)


def overlap(n_calib: float, n_test: float) -> float:
    """The correlation of two random divisions into so many pictures each."""
    return max(n_calib, n_test) / (n_calib + n_test)


def differences(values: Floats, correlation: float) -> Differences:
    """The corrected resampled t test of paired differences.

    Args:
        values: of R divisions, k differences: (R, k).
        correlation: of two divisions, from ``overlap``.

    Raises:
        ValueError: there are fewer than two divisions.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"values of shape {values.shape} must be of at least two divisions")
    with np.errstate(invalid="ignore", over="ignore"):
        mean, std = values.mean(axis=0), values.std(axis=0, ddof=1)
        # Equal differences have a deviation of rounding alone.
        std[np.ptp(values, axis=0) <= 1e-12 * np.abs(mean)] = 0
    return Differences(mean, std * np.sqrt(1 / n + correlation / (1 - correlation)), n)


def holm(p: Floats) -> Floats:
    """p-values (k,) adjusted for k comparisons (Holm 1979), in the order they came.

    Rejecting what is at most 0.05 rejects a true hypothesis with probability 0.05 at most,
    however the comparisons depend on each other.
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    remaining = np.arange(len(p), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * remaining))
    return adjusted


def may_be_best(values: Floats, correlation: float, level: float = 0.95) -> Bools:
    """Which of k methods may be the one with the smallest values; (k,).

    The one with the smallest mean here is among them, and each other that is not larger than it by
    more than chance. The truly smallest is missed with probability 1 - level at most, though the
    smallest here was picked by looking: to be missed, it alone has to look larger than one of the
    k - 1 others, each at (1 - level) / (k - 1).

    Args:
        values: of R divisions and k methods, (R, k).
        correlation: of two divisions, from ``overlap``.
    """
    smallest = int(values.mean(axis=0).argmin())
    with np.errstate(invalid="ignore"):  # As of infinite sizes.
        beside = differences(values - values[:, [smallest]], correlation)
    return beside.p_above > (1 - level) / max(1, values.shape[1] - 1)
