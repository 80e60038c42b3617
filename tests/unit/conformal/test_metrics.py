"""Metrics by hand and by brute force from their definitions, the exact interval against SciPy's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from app.conformal.metrics import (
    STRATA,
    Metrics,
    Outcomes,
    Rates,
    by_class,
    by_size,
    clopper_pearson,
    measure,
    weighted,
)

CLASSES = 5


def outcomes(rows: Sequence[tuple[bool, bool, float, int]]) -> Outcomes:
    """From rows of (correct, covered, size, truth)."""
    correct, covered, sizes, truth = map(np.array, zip(*rows, strict=True))
    return Outcomes(correct, covered, sizes, truth)


#: Sizes at the edges of the strata and between them; of an empty set nothing is covered.
ROWS = st.lists(
    st.tuples(
        st.booleans(),
        st.booleans(),
        st.sampled_from([0, 1, 2, 3, 4, 7, 10, 11, 100, 101, 1000, 1001, 10**6]),
        st.integers(0, CLASSES - 1),
    ).map(lambda row: (row[0], row[1] and row[2] > 0, row[2], row[3])),
    min_size=1,
    max_size=40,
)


def test_by_hand() -> None:
    m = measure(
        outcomes(
            [(True, True, 1, 0), (True, True, 2, 0), (False, True, 3, 1), (False, False, 0, 1)]
        ),
        alpha=0.1,
    )
    assert (m.accuracy, m.coverage, m.avg_set_size) == (0.5, 0.75, 1.5)
    assert (m.singleton_rate, m.empty_rate, m.n_test) == (0.25, 0.25, 4)
    assert m.covgap == pytest.approx((0.1 + 0.4) / 2)
    assert m.sscv == pytest.approx(0.4)  # of the sets of 0 and 1: one of two holds the truth


@given(rows=ROWS, percent=st.integers(1, 99))
def test_equals_brute_force(rows: list[tuple[bool, bool, int, int]], percent: int) -> None:
    m = measure(outcomes(rows), percent / 100)
    promised = 1 - Fraction(percent, 100)

    def coverage(some: list[tuple[bool, bool, int, int]]) -> Fraction:
        return Fraction(sum(covered for _, covered, _, _ in some), len(some))

    classes = [[r for r in rows if r[3] == c] for c in {r[3] for r in rows}]
    strata = [[r for r in rows if low <= r[2] <= (high or math.inf)] for low, high in STRATA]
    assert sum(map(len, strata)) == len(rows) == m.n_test
    gaps = [abs(coverage(some) - promised) for some in classes]
    expected = {
        "accuracy": Fraction(sum(r[0] for r in rows), len(rows)),
        "coverage": coverage(rows),
        "avg_set_size": Fraction(sum(r[2] for r in rows), len(rows)),
        "singleton_rate": Fraction(sum(r[2] == 1 for r in rows), len(rows)),
        "empty_rate": Fraction(sum(r[2] == 0 for r in rows), len(rows)),
        "covgap": sum(gaps) / len(gaps),
        "sscv": max(abs(coverage(some) - promised) for some in strata if some),
    }
    for name, value in expected.items():
        assert getattr(m, name) == pytest.approx(float(value), abs=1e-12), name
    exact = binomtest(sum(r[1] for r in rows), len(rows)).proportion_ci(0.95, method="exact")
    assert m.coverage_ci == pytest.approx((exact.low, exact.high), abs=1e-9)


@given(rows=ROWS)
def test_groups_by_class_and_by_size(rows: list[tuple[bool, bool, int, int]]) -> None:
    came = outcomes(rows)
    found, sized = by_class(came, CLASSES), by_size(came)
    for c in range(CLASSES):
        assert found.n[c] == sum(truth == c for *_, truth in rows)
        assert found.hits[c] == sum(covered and truth == c for _, covered, _, truth in rows)
    for i, (low, high) in enumerate(STRATA):
        inside = [row for row in rows if low <= row[2] <= (high or math.inf)]
        assert (sized.n[i], sized.hits[i]) == (len(inside), sum(row[1] for row in inside))


def test_the_strata_are_those_of_the_paper_and_leave_no_size_out() -> None:
    """Angelopoulos et al. (2021): 0-1, 2-3, 4-10, 11-100 and 101-1000."""
    assert STRATA[:5] == ((0, 1), (2, 3), (4, 10), (11, 100), (101, 1000))
    for (_, high), (low, _) in pairwise(STRATA):
        assert high is not None and low == high + 1
    countless = outcomes([(True, True, 1e300, 0), (True, True, np.inf, 0)])
    assert by_size(countless).n.tolist() == [0, 0, 0, 0, 0, 2]


def test_an_empty_set_is_a_miss_and_shares_its_stratum_with_singletons() -> None:
    """By itself it would be a stratum that can't be covered, and every violation 1 - alpha."""
    came = outcomes([(True, False, 0, 0)] + [(True, True, 1, 0)] * 9)
    m = measure(came, 0.1)
    assert (m.coverage, m.empty_rate, m.singleton_rate) == (0.9, 0.1, 0.9)
    assert m.sscv == pytest.approx(0)
    assert measure(outcomes([(True, False, 0, 0)]), 0.1).coverage == 0


@given(st.lists(st.integers(0, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))))
def test_intervals_are_clopper_pearson(trials: list[tuple[int, int]]) -> None:
    low, high = clopper_pearson([k for k, _ in trials], [n for _, n in trials])
    assert low.shape == high.shape == (len(trials),)
    for i, (k, n) in enumerate(trials):
        if n == 0:
            assert (low[i], high[i]) == (0, 1)
            continue
        exact = binomtest(k, n).proportion_ci(0.95, method="exact")
        assert (low[i], high[i]) == pytest.approx((exact.low, exact.high), abs=1e-9)


@pytest.mark.parametrize("rate", [0.01, 0.5, 0.9, 0.97])
def test_intervals_hold_any_rate_with_95_percent(rate: float) -> None:
    """What exact means, summed over all that may be seen in 60 trials."""
    k = np.arange(61)
    low, high = clopper_pearson(k, np.full(61, 60))
    assert binom(60, rate).pmf(k)[(low <= rate) & (rate <= high)].sum() >= 0.95


def test_rates_of_groups_some_of_which_are_empty() -> None:
    found = Rates(np.array([20, 0, 4, 300]), np.array([12, 0, 3, 280]))
    assert np.isnan(found.rate[1])
    assert found.rate[[0, 2]].tolist() == [0.6, 0.75]
    assert found.gaps(0.9) == pytest.approx([0.3, 0.15, 280 / 300 - 0.9])
    # 3 of 4 may well be 0.9; and nothing is known of a group without pictures.
    assert found.below(0.9).tolist() == [True, False, False, False]


@given(st.lists(st.tuples(st.integers(2, 1000), st.floats(0, 1000), st.floats(0, 1)), min_size=1))
def test_weighted_by_the_numbers_of_classes(tasks: list[tuple[int, float, float]]) -> None:
    classes = {f"t{i}": count for i, (count, _, _) in enumerate(tasks)}
    results = {
        f"t{i}": Metrics(1, 1, (0, 1), size, single, 0, 0, 0, 1)
        for i, (_, size, single) in enumerate(tasks)
    }
    # That of all at once, which is no task's own, is left out.
    found = weighted({"joint": Metrics(1, 1, (0, 1), 7e9, 0, 0, 0, 0, 1), **results}, classes)
    total = sum(count for count, _, _ in tasks)
    assert found.avg_set_size == pytest.approx(sum(c * size for c, size, _ in tasks) / total)
    assert found.singleton_rate == pytest.approx(sum(c * one for c, _, one in tasks) / total)


def test_nothing_to_measure() -> None:
    nothing = np.zeros(0, int)
    with pytest.raises(ValueError, match="at least one picture"):
        measure(Outcomes(nothing.astype(bool), nothing.astype(bool), nothing, nothing), 0.1)
