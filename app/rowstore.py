"""Rows of bytes on disk, found by 16-byte keys: only ever appended, and whole whatever happens.

``rows`` has the rows, ``keys`` the key of each at the same place. Rows are on the disk before their
keys are written, so whatever moment a writer is killed at, every key has its row; what lacks a key
is cut off by the next writer.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

Keys = NDArray[np.uint8]
Places = NDArray[np.int64]


class RowStore:
    """The rows in one folder, of ``width`` bytes each."""

    def __init__(self, folder: Path, width: int) -> None:
        self.folder = folder
        self._width = width

    def lock(self) -> FileLock:
        """Who appends holds it. Makes the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / "lock")

    def find(self, keys: Keys) -> Places:
        """The place of each key (n, 16) among the rows, -1 where it is not there."""
        stored = _scalars(self._keys())
        if not len(stored):
            return np.full(len(keys), -1)
        order = np.argsort(stored)
        wanted = _scalars(keys)
        place = order[np.searchsorted(stored, wanted, sorter=order).clip(max=len(stored) - 1)]
        return np.where(stored[place] == wanted, place, -1)

    def rows(self) -> NDArray[np.uint8]:
        """All rows (n, width), mapped into memory."""
        n = len(self._keys())
        if n == 0:
            return np.empty((0, self._width), np.uint8)
        return np.memmap(self.folder / "rows", np.uint8, "r", shape=(n, self._width))

    def append(self, keys: Keys, rows: NDArray[np.uint8]) -> None:
        """Add rows (n, width) under their keys (n, 16)."""
        n = len(self._keys())
        for name, added in (("rows", rows), ("keys", keys)):
            with open(self.folder / name, "ab") as file:
                file.truncate(n * added.shape[1])
                file.write(added.tobytes())
                file.flush()
                os.fsync(file.fileno())

    def _keys(self) -> Keys:
        try:
            stored = np.fromfile(self.folder / "keys", np.uint8)
        except FileNotFoundError:
            return np.empty((0, 16), np.uint8)
        return stored[: len(stored) // 16 * 16].reshape(-1, 16)


def _scalars(keys: Keys) -> NDArray[np.void]:
    """Keys (n, 16) as n things that can be compared and sorted."""
    return np.ascontiguousarray(keys).view("V16").ravel()
