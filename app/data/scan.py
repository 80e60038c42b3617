"""Look at every file once: what it holds, and whether it begins like a picture."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.data.manifest import Manifest
from app.data.pictures import PictureError, check_header, digest
from app.progress import progress

_ROWS_A_TASK = 64


@dataclass(frozen=True)
class Scan:
    """What the files of a manifest hold.

    Attributes:
        digests: of every file's content, (n, 16); zeros where there was nothing to read.
        unreadable: row -> reason. A file that breaks off later is found out when it is decoded.
    """

    digests: NDArray[np.uint8]
    unreadable: dict[int, str]


def scan(manifest: Manifest) -> Scan:
    """Read every file of a manifest, in threads: disks answer several questions at once."""
    n = len(manifest)
    digests = np.zeros((n, 16), np.uint8)
    unreadable: dict[int, str] = {}

    def look(rows: range) -> int:
        for row in rows:
            try:
                data = manifest.path(row).read_bytes()
                digests[row] = np.frombuffer(digest(data), np.uint8)
                check_header(data)
            except PictureError as error:
                unreadable[row] = str(error)
            except OSError as error:
                unreadable[row] = f"it cannot be opened: {error.strerror}"
        return len(rows)

    tasks = [range(start, min(start + _ROWS_A_TASK, n)) for start in range(0, n, _ROWS_A_TASK)]
    with progress("scan", n) as advance, ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        for done in pool.map(look, tasks):
            advance(done)
    return Scan(digests, dict(sorted(unreadable.items())))
