"""Metrics by hand, and the exact interval against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from app.conformal.metrics import clopper_pearson, measure


def test_by_hand() -> None:
    m = measure(
        correct=np.array([True, True, False, False]),
        covered=np.array([True, True, True, False]),
        sizes=np.array([1, 2, 3, 0]),
        truth=np.array([0, 0, 1, 1]),
        alpha=0.1,
    )
    assert (m.accuracy, m.coverage, m.avg_set_size) == (0.5, 0.75, 1.5)
    assert (m.singleton_rate, m.empty_rate, m.n_test) == (0.25, 0.25, 4)
    assert m.covgap == pytest.approx((0.1 + 0.4) / 2)


@given(n=st.integers(1, 300), data=st.data())
def test_interval_is_clopper_pearson(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    exact = binomtest(successes, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(successes, n) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_nothing_to_measure() -> None:
    empty = np.zeros(0, int)
    with pytest.raises(ValueError, match="at least one picture"):
        measure(empty.astype(bool), empty.astype(bool), empty, empty, 0.1)
