"""Does the promise still hold? Two looks at labelled answers as they come in, valid at any time.

``Coverage`` bounds the rate at which sets hold the truth. ``ExchangeabilityTest`` asks whether new
pictures are still like those of calibration, on which the promise rests. Both may be looked at
after every answer and as often as one likes: by Ville's inequality, a nonnegative martingale that
starts at 1 ever reaches 1 / delta with probability at most delta.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaln, xlog1py, xlogy

from app.conformal.checks import check_rate, check_whole


@dataclass
class Coverage:
    """How many of ``n`` sets held the truth, and what that says of the rate behind it.

    The rate is taken for constant: the bound is that of independent answers of one rate. Ask
    ``ExchangeabilityTest`` whether it is.
    """

    covered: int = 0
    n: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.covered <= self.n:
            raise ValueError(f"covered must lie in 0..{self.n}, the number of sets: {self.covered}")

    def update(self, covered: bool) -> None:
        """Count one more set."""
        self.covered += bool(covered)
        self.n += 1

    def interval(self, delta: float = 0.05) -> tuple[float, float]:
        """Bounds of the rate that fail at *any* time with probability at most ``delta``.

        A rate is within them as long as the likelihood of what was seen, mixed over rates by
        Jeffreys' prior, is less than 1 / delta times the likelihood under that rate (Robbins 1970;
        Howard et al. 2021, arXiv 1810.08240, section 3.1, of which this is the conjugate mixture).

        Raises:
            ValueError: ``delta`` is not strictly between 0 and 1.
        """
        check_rate(delta, "delta")
        limit = -math.log(delta)
        missed = self.n - self.covered

        def excess(rate: float) -> float:
            return self.log_evidence(rate) - limit

        # The evidence falls to its least at the observed rate and rises from there without bound,
        # but where nothing was missed, or nothing covered: there it is finite up to the end.
        observed = self.covered / self.n if self.n else 0.5
        low = brentq(excess, _TINY, observed) if self.covered and excess(_TINY) > 0 else 0.0
        high = brentq(excess, observed, 1 - _TINY) if missed and excess(1 - _TINY) > 0 else 1.0
        return float(low), float(high)

    def log_evidence(self, rate: float) -> float:
        """The logarithm of the evidence against ``rate``: a martingale where it is the rate.

        Infinite where what was seen cannot be: a miss at rate 1, or a covered answer at rate 0.

        Raises:
            ValueError: ``rate`` is not within 0 and 1.
        """
        if not (isinstance(rate, Real) and 0 <= rate <= 1):
            raise ValueError(f"rate must be a number from 0 to 1, not {rate!r}")
        missed = self.n - self.covered
        mixed = betaln(0.5 + self.covered, 0.5 + missed) - betaln(0.5, 0.5)
        return float(mixed - xlogy(self.covered, rate) - xlog1py(missed, -rate))


_TINY = 1e-12


class ExchangeabilityTest:
    """A conformal test martingale: evidence that scores have stopped being exchangeable.

    Each score gets its p-value among all before it, ties broken at random. As long as calibration
    and stream are exchangeable these are independent and uniform (Vovk et al. 2005, section 8.2).
    Against that bets the Simple Jumper (Vovk et al. 2021, arXiv 2102.10439, algorithm 1): on small
    p-values, on large ones, or not at all, with now and then a change of mind.

    Where scores fall into groups with a threshold each, a score gets its p-value among those of its
    group: independent and uniform as long as within each group scores are exchangeable, however
    often each group comes (section 4.5). That is just what a promise to each group rests on.

    Attributes:
        log_value: the logarithm of the martingale, 0 at the start.
        log_peak: the largest it has been.
        n: the number of scores that were tested.
    """

    _BETS = (-1.0, 0.0, 1.0)
    _JUMP = 0.01

    def __init__(self, calibration: Iterable[float], seed: int = 0) -> None:
        """Begin after the scores of calibration, of true classes; ``seed`` breaks ties.

        Raises:
            ValueError: a score is no number, or ``seed`` is not a whole number of at least 0.
        """
        check_whole(seed, "seed")
        self._groups = [sorted(map(_as_score, calibration))]
        self._random = np.random.default_rng(seed)
        # The three gamblers' shares of the capital, and the logarithm of all of it.
        self._shares = [1 / 3] * 3
        self.log_value = 0.0
        self.log_peak = 0.0
        self.n = 0

    @classmethod
    def of_groups(
        cls, calibration: Iterable[Iterable[float]], seed: int = 0
    ) -> ExchangeabilityTest:
        """Begin after the scores of each group, where one may have none. Errors as above."""
        test = cls((), seed)
        test._groups = [sorted(map(_as_score, scores)) for scores in calibration]
        return test

    def update(self, score: float, group: int = 0) -> float:
        """Take in the score of a true class; returns its p-value, small for a strange one.

        Raises:
            ValueError: the score is no number, or there is no such group.
        """
        score = _as_score(score)
        if not 0 <= group < len(self._groups):
            raise ValueError(f"group must be one of the {len(self._groups)}, not {group!r}")
        scores = self._groups[group]
        first, last = bisect_left(scores, score), bisect_right(scores, score)
        ties = last - first + 1  # with itself
        stranger = len(scores) - last
        p = (stranger + self._random.random() * ties) / (len(scores) + 1)
        insort(scores, score)

        # Plain numbers: for three of them NumPy would take twenty times as long.
        stay, jump = 1 - self._JUMP, self._JUMP / 3
        shares = [
            (stay * share + jump) * (1 + bet * (p - 0.5))
            for share, bet in zip(self._shares, self._BETS, strict=True)
        ]
        gain = sum(shares)
        self._shares = [share / gain for share in shares]
        self.log_value += math.log(gain)
        self.log_peak = max(self.log_peak, self.log_value)
        self.n += 1
        return p

    def alarm(self, delta: float = 0.01) -> bool:
        """Whether the evidence has ever reached 1 / delta: wrongly with probability <= delta.

        Raises:
            ValueError: ``delta`` is not strictly between 0 and 1.
        """
        check_rate(delta, "delta")
        return self.log_peak >= -math.log(delta)


def _as_score(score: float) -> float:
    if not isinstance(score, Real) or math.isnan(score):
        raise ValueError(f"a score must be a number, not {score!r}")
    return float(score)
