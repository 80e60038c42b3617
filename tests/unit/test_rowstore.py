"""Rows by key: whole whatever moment a writer is killed at."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rowstore import RowStore

WIDTH = 40


def keys_of(numbers: list[int]) -> np.ndarray:
    """(n, 16), other keys for other numbers, with zeros at either end."""
    keys = np.zeros((len(numbers), 16), np.uint8)
    for key, number in zip(keys, numbers, strict=True):
        key[4:12] = np.frombuffer(number.to_bytes(8, "big"), np.uint8)
    return keys


def rows_of(numbers: list[int]) -> np.ndarray:
    """(n, WIDTH), rows that tell whose they are."""
    return np.repeat(keys_of(numbers)[:, 4:12], WIDTH // 8, axis=0).reshape(-1, WIDTH)


def append(store: RowStore, numbers: list[int]) -> None:
    with store.lock():
        store.append(keys_of(numbers), rows_of(numbers))


@given(st.lists(st.lists(st.integers(0, 2**64 - 1)), max_size=5), st.lists(st.integers(0, 9)))
def test_what_was_added_is_found(
    tmp_path_factory: pytest.TempPathFactory, added: list[list[int]], asked: list[int]
) -> None:
    store = RowStore(tmp_path_factory.mktemp("rows"), WIDTH)
    for numbers in added:
        append(store, numbers)
    every = [number for numbers in added for number in numbers]
    assert store.rows().shape == (len(every), WIDTH)
    place = store.find(keys_of(every + asked))
    assert (store.rows()[place[: len(every)]] == rows_of(every)).all()
    assert [p >= 0 for p in place[len(every) :]] == [number in every for number in asked]


@pytest.mark.parametrize(
    ("rows", "keys"), [(5, 0), (0, 7), (WIDTH + 3, 0), (3 * WIDTH, 15), (0, 16), (WIDTH - 1, 32)]
)
def test_what_lacks_its_partner_is_cut_off(tmp_path: Path, rows: int, keys: int) -> None:
    store = RowStore(tmp_path, WIDTH)
    append(store, [1, 2, 3])
    for name, extra in (("rows", rows), ("keys", keys)):
        with open(tmp_path / name, "ab") as file:
            file.write(b"\x01" * extra)
    assert store.rows().shape == (3, WIDTH)
    append(store, [4, 5])
    place = store.find(keys_of([5, 1, 4, 6]))
    assert place.tolist() == [4, 0, 3, -1]
    assert (store.rows()[place[:3]] == rows_of([5, 1, 4])).all()


@pytest.mark.parametrize("lost", ["rows", "keys"])
def test_keys_and_rows_without_the_other_file_do_not_count(tmp_path: Path, lost: str) -> None:
    store = RowStore(tmp_path, WIDTH)
    append(store, [1, 2, 3])
    (tmp_path / lost).unlink()
    assert store.find(keys_of([1, 2, 3])).tolist() == [-1, -1, -1]
    append(store, [3])
    assert store.find(keys_of([1, 2, 3])).tolist() == [-1, -1, 0]
    assert (store.rows() == rows_of([3])).all()


def write_for_ever(folder: Path, start: int) -> None:
    store = RowStore(folder, WIDTH)
    for number in range(start, 10**9, 3):
        append(store, [number, number + 1, number + 2])


def test_writers_killed_at_any_moment_leave_whole_rows(tmp_path: Path) -> None:
    """Two at once, which take turns."""
    context = multiprocessing.get_context("spawn")
    for turn in range(3):
        # An abandoned lock would hold the next ones up.
        writers = [
            context.Process(target=write_for_ever, args=(tmp_path, (10 * turn + i) * 10**6))
            for i in range(2)
        ]
        for writer in writers:
            writer.start()
        deadline = time.monotonic() + 20
        had = len(RowStore(tmp_path, WIDTH).rows())
        while len(RowStore(tmp_path, WIDTH).rows()) < had + 30 and time.monotonic() < deadline:
            time.sleep(0.01)
        for writer in writers:
            assert writer.pid is not None
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
        store = RowStore(tmp_path, WIDTH)
        rows = store.rows()
        assert len(rows) >= had + 30
        numbers = [int.from_bytes(row[:8].tobytes(), "big") for row in rows]
        assert (store.find(keys_of(numbers)) == np.arange(len(rows))).all()
        assert (rows == rows_of(numbers)).all()
