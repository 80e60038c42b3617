"""Both looks at a stream: right at all times at once under the null, and awake to a shift."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, kstest

from app.conformal.monitoring import Coverage, ExchangeabilityTest

# ---- coverage


@given(covered=st.integers(0, 300), missed=st.integers(0, 300), delta=st.floats(1e-6, 0.5))
def test_interval_is_where_the_evidence_is_less_than_1_over_delta(
    covered: int, missed: int, delta: float
) -> None:
    seen = Coverage(covered, covered + missed)
    low, high = seen.interval(delta)
    rate = covered / seen.n if seen.n else 0.5
    assert 0 <= low <= rate <= high <= 1
    limit = -math.log(delta)
    for end, further in ((low, low / 2), (high, (1 + high) / 2)):
        if 1e-9 < end < 1 - 1e-9:
            assert seen.log_evidence(end) == pytest.approx(limit, abs=1e-6)
            assert seen.log_evidence(further) > limit
    assert (low == 0) or covered
    assert (high == 1) or missed


def test_evidence_is_that_of_the_mixture() -> None:
    """By quadrature over the rates that Jeffreys' prior weighs."""
    seen = Coverage(7, 10)
    angle = (np.arange(20000) + 0.5) / 20000 * np.pi / 2  # rate = sin^2 is arcsine-distributed
    rates = np.sin(angle) ** 2
    mixed = np.mean(rates**7 * (1 - rates) ** 3)
    assert seen.log_evidence(0.9) == pytest.approx(np.log(mixed / (0.9**7 * 0.1**3)), abs=1e-6)


def test_evidence_is_a_martingale() -> None:
    """Its mean over the next answer is what it is, whatever has been seen."""
    for covered, n in ((0, 0), (3, 3), (2, 5), (40, 50)):
        for rate in (0.1, 0.5, 0.9):
            now = math.exp(Coverage(covered, n).log_evidence(rate))
            hit = math.exp(Coverage(covered + 1, n + 1).log_evidence(rate))
            miss = math.exp(Coverage(covered, n + 1).log_evidence(rate))
            assert rate * hit + (1 - rate) * miss == pytest.approx(now)


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.99])
def test_interval_holds_the_rate_at_all_times_at_once(rate: float) -> None:
    """In all but a share delta of streams; a bound made for one time fails far more often."""
    streams, length, delta = 400, 1000, 0.1
    rng = np.random.default_rng(0)
    hits = np.cumsum(rng.random((streams, length)) < rate, axis=1)
    looks = np.unique(np.geomspace(1, length, 60).astype(int))
    failed = pointwise = 0
    for row in hits:
        evidence = [Coverage(int(row[n - 1]), int(n)).log_evidence(rate) for n in looks]
        failed += max(evidence) >= -math.log(delta)
        p = [
            2 * min(binom.cdf(row[n - 1], n, rate), binom.sf(row[n - 1] - 1, n, rate))
            for n in looks
        ]
        pointwise += min(p) < delta
    # One in a million correct programs would fail by more.
    assert failed <= binom.isf(1e-6, streams, delta)
    assert pointwise > binom.isf(1e-6, streams, delta), "the streams are long enough to tell"


def test_a_broken_promise_is_seen() -> None:
    """A promised 0.9 that is kept at 0.8 leaves the interval soon, and for good."""
    rng = np.random.default_rng(0)
    seen = Coverage()
    for covered in rng.random(1000) < 0.8:
        seen.update(covered)
    low, high = seen.interval(0.01)
    assert low < 0.8 < high < 0.9 and high - low < 0.12


# ---- exchangeability


def test_p_values_are_uniform_and_independent_over_all_orders() -> None:
    """Without ties, over all orders of five scores: the ranks that p-values have are every
    combination equally often. (The draw that breaks ties spreads each over its cell.)
    """
    cells: Counter[tuple[int, ...]] = Counter()
    for order in itertools.permutations(range(5)):
        test = ExchangeabilityTest(order[:2], seed=0)
        cells[tuple(math.ceil(test.update(s) * (3 + i)) for i, s in enumerate(order[2:]))] += 1
    assert set(cells) == set(itertools.product(range(1, 4), range(1, 5), range(1, 6)))
    assert {Fraction(count, 120) for count in cells.values()} == {Fraction(1, 60)}


def test_p_values_are_uniform_with_ties_too() -> None:
    rng = np.random.default_rng(1)
    test = ExchangeabilityTest(rng.integers(0, 3, 50), seed=2)
    p = [test.update(score) for score in rng.integers(0, 3, 4000)]
    assert kstest(p, "uniform").pvalue > 1e-6


def test_strange_scores_get_small_p_values() -> None:
    test = ExchangeabilityTest(np.linspace(0, 1, 99))
    assert test.update(2.0) < 0.01 < 0.99 < test.update(-1.0)


def test_false_alarms_are_at_most_delta() -> None:
    streams, delta = 300, 0.1
    rng = np.random.default_rng(3)
    alarms = 0
    for seed in range(streams):
        scores = rng.normal(size=350)
        test = ExchangeabilityTest(scores[:50], seed)
        for score in scores[50:]:
            test.update(score)
        alarms += test.alarm(delta)
    assert alarms <= binom.isf(1e-6, streams, delta)


@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_a_shift_raises_the_alarm(shift: float) -> None:
    rng = np.random.default_rng(4)
    test = ExchangeabilityTest(rng.normal(size=300))
    for score in rng.normal(size=300):
        test.update(score)
    assert not test.alarm(0.01)
    for score in rng.normal(loc=shift, size=150):
        test.update(score)
    assert test.alarm(0.01)


def test_capital_is_that_of_the_three_gamblers() -> None:
    """Against the algorithm as the paper states it."""
    rng = np.random.default_rng(5)
    test = ExchangeabilityTest(rng.normal(size=20))
    capital = dict.fromkeys((-1, 0, 1), 1 / 3)
    for score in rng.normal(loc=0.5, size=200):
        p = test.update(score)
        total = sum(capital.values())
        for bet in capital:
            capital[bet] = 0.99 * capital[bet] + 0.01 * total / 3
            capital[bet] *= 1 + bet * (p - 0.5)
        assert test.log_value == pytest.approx(math.log(sum(capital.values())))


def test_the_same_seed_gives_the_same_evidence() -> None:
    values = []
    for seed in (0, 0, 1):
        test = ExchangeabilityTest([1.0, 1.0, 2.0], seed)
        for score in (1.0, 2.0, 1.0):
            test.update(score)
        values.append(test.log_value)
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("delta", [0, 1, -0.1, math.nan, "0.1", None, np.array([0.1])])
def test_delta_is_a_probability(delta) -> None:
    with pytest.raises(ValueError, match="delta must be a number strictly between 0 and 1"):
        Coverage(1, 2).interval(delta)
    with pytest.raises(ValueError, match="delta must be a number strictly between 0 and 1"):
        ExchangeabilityTest([1.0]).alarm(delta)


@pytest.mark.parametrize("score", [math.nan, None, "1", [1.0]])
def test_a_score_is_a_number(score) -> None:
    with pytest.raises(ValueError, match="a score must be a number"):
        ExchangeabilityTest([score])
    with pytest.raises(ValueError, match="a score must be a number"):
        ExchangeabilityTest([1.0]).update(score)


@pytest.mark.parametrize("seed", [-1, 0.5, None, "1"])
def test_a_seed_is_a_whole_number(seed) -> None:
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0"):
        ExchangeabilityTest([1.0], seed)


@pytest.mark.parametrize(("covered", "n"), [(3, 2), (-1, 2), (0, -1)])
def test_no_more_sets_are_covered_than_there_are(covered: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"covered must lie in 0..{n}"):
        Coverage(covered, n)


def test_evidence_against_a_rate_that_cannot_be_is_infinite() -> None:
    assert Coverage(1, 2).log_evidence(0) == Coverage(1, 2).log_evidence(1) == math.inf
    assert math.isfinite(Coverage(2, 2).log_evidence(1))
    assert math.isfinite(Coverage(0, 2).log_evidence(0))
    for rate in (-0.1, 1.1, math.nan, None):
        with pytest.raises(ValueError, match="rate must be a number from 0 to 1"):
            Coverage(1, 2).log_evidence(rate)  # type: ignore[arg-type]
