"""Results come in order, and nobody works far ahead or for nothing."""

from __future__ import annotations

import time

import pytest

from app.threads import in_threads


def test_results_come_in_the_items_order() -> None:
    def slow(i: int) -> int:
        time.sleep(0.002 * (i % 3))
        return i * i

    assert list(in_threads(slow, range(40), ahead=7)) == [i * i for i in range(40)]
    assert list(in_threads(slow, [], ahead=7)) == []


def test_no_more_is_begun_than_allowed() -> None:
    begun: list[int] = []
    results = in_threads(begun.append, range(100), ahead=5)
    for taken in range(1, 20):
        next(results)
        time.sleep(0.001)
        assert len(begun) <= taken + 5
    results.close()  # type: ignore[attr-defined]
    assert len(begun) <= 25


def test_an_error_comes_where_its_result_would() -> None:
    results = in_threads(lambda i: 1 // i, [1, 1, 0, 1], ahead=4)
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
