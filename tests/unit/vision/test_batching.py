"""Batches of several callers' work."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import wait

import pytest

from app.vision.batching import Batcher


def _tenfold(items: Sequence[int]) -> Sequence[int]:
    return [10 * item for item in items]


def _inverse(items: Sequence[int]) -> Sequence[float]:
    return [1 / item for item in items]


def _as_it_is(items: Sequence[int]) -> Sequence[int]:
    return items


def test_everyone_gets_their_own_result() -> None:
    batcher = Batcher(_tenfold, most=4, abreast=2)
    results = [batcher.submit(i) for i in range(100)]
    assert [r.result(10) for r in results] == [10 * i for i in range(100)]
    batcher.close()


def test_what_waits_is_taken_together_and_what_comes_first_waits_for_nobody() -> None:
    go = threading.Semaphore(0)
    batches: list[list[int]] = []

    def work(items: Sequence[int]) -> Sequence[int]:
        batches.append(list(items))
        assert go.acquire(timeout=10)
        return items

    batcher = Batcher(work, most=4)
    first = batcher.submit(0)
    while not batches:
        time.sleep(0.001)
    rest = [batcher.submit(i) for i in range(1, 7)]
    for _ in range(3):
        go.release()
    wait([first, *rest], timeout=10)
    assert batches == [[0], [1, 2, 3, 4], [5, 6]]
    batcher.close()


def test_as_many_batches_are_under_way_as_told() -> None:
    meeting = threading.Barrier(3)

    def work(items: Sequence[int]) -> Sequence[int]:
        meeting.wait(10)
        return items

    batcher = Batcher(work, most=1, abreast=3)
    assert [r.result(10) for r in [batcher.submit(i) for i in range(3)]] == [0, 1, 2]
    batcher.close()


def test_what_fails_fails_for_its_batch_alone() -> None:
    batcher = Batcher(_inverse, most=1)
    bad, good = batcher.submit(0), batcher.submit(2)
    with pytest.raises(ZeroDivisionError):
        bad.result(10)
    assert good.result(10) == 0.5
    batcher.close()


def test_what_nobody_wants_any_more_is_not_worked_on() -> None:
    go = threading.Event()
    seen: list[int] = []

    def work(items: Sequence[int]) -> Sequence[int]:
        seen.extend(items)
        assert go.wait(10)
        return items

    batcher = Batcher(work, most=1)
    first = batcher.submit(1)
    while not seen:
        time.sleep(0.001)
    unwanted, last = batcher.submit(2), batcher.submit(3)
    assert unwanted.cancel()
    go.set()
    assert (first.result(10), last.result(10)) == (1, 3)
    assert seen == [1, 3]
    batcher.close()


def test_closed_it_ends_what_waits_and_its_threads() -> None:
    before = set(threading.enumerate())
    batcher = Batcher(_as_it_is, most=2, abreast=2)
    threads = set(threading.enumerate()) - before
    results = [batcher.submit(i) for i in range(5)]
    batcher.close()
    assert [r.result(10) for r in results] == list(range(5))
    with pytest.raises(RuntimeError):
        batcher.submit(5)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    dropped = weakref.ref(batcher)
    del batcher, results
    gc.collect()
    assert dropped() is None
