"""Rows of bytes on disk, found by 16-byte keys: only ever appended, and whole whatever happens.

``rows`` has the rows, ``keys`` the key of each at the same place. Rows are on the disk before their
keys are written, so whatever moment a writer is killed at, every key has its row. What lacks its
partner all the same does not count, and is cut off by the next writer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
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

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep others from appending to the rows, and from pruning them. Makes the folder."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.with_name(self.folder.name + ".lock")):
            self.folder.mkdir(exist_ok=True)
            os.utime(self.folder)  # It is in use.
            yield

    def find(self, keys: Keys) -> Places:
        """The place of each key (n, 16) among the rows, -1 where it is not there."""
        stored = scalars(self._keys())
        if not len(stored):
            return np.full(len(keys), -1)
        order = np.argsort(stored)
        wanted = scalars(keys)
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
        keys, rows = self.folder / "keys", self.folder / "rows"
        if not (keys.is_file() and rows.is_file()):
            return np.empty((0, 16), np.uint8)
        n = min(keys.stat().st_size // 16, rows.stat().st_size // self._width)
        return np.fromfile(keys, np.uint8, 16 * n).reshape(n, 16)


def scalars(keys: Keys) -> NDArray[np.void]:
    """Keys (n, 16) as n things that can be compared and sorted."""
    return np.ascontiguousarray(keys).view("V16").ravel()
