"""Look at every file once: what it holds, and whether it begins like a picture.

What a file held is remembered by its path below the folder, its inode, size and times, as Git does
it, so that looking again at a folder in which little has changed does not read it all again.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.data.manifest import Manifest
from app.data.pictures import PictureError, check_header, digest
from app.disk import writing
from app.progress import progress
from app.rowstore import RowStore

_ROWS_A_TASK = 64
_ROWS_BETWEEN_WRITES = 4096
#: A file this young may change again without its times telling: some disks count in two seconds.
_YOUNG_NS = 3_000_000_000


@dataclass(frozen=True)
class Scan:
    """What the files of a manifest hold.

    Attributes:
        digests: of every file's content, (n, 16); zeros where there was nothing to read.
        unreadable: row -> reason. A file that breaks off later is found out when it is decoded.
    """

    digests: NDArray[np.uint8]
    unreadable: dict[int, str]


def scan(manifest: Manifest, cache_dir: Path) -> Scan:
    """Read every file of a manifest that is not known from an earlier look.

    Raises:
        SuresetError: the cache cannot be written.
    """
    store = RowStore(cache_dir / "contents" / "xxh3", 16)
    with writing("what the pictures hold", store.folder, "--cache"):
        return _scan(manifest, store)


def _scan(manifest: Manifest, store: RowStore) -> Scan:
    identities, lasting = _identities(manifest)
    digests = np.zeros((len(manifest), 16), np.uint8)
    with store.lock():
        place = store.find(identities)
        known = (place >= 0) & identities.any(axis=1)
        digests[known] = store.rows()[place[known]]
    unreadable: dict[int, str] = {}
    new = np.flatnonzero(~known)
    tasks = [new[i : i + _ROWS_A_TASK].tolist() for i in range(0, len(new), _ROWS_A_TASK)]

    def look(rows: list[int]) -> list[int]:
        """Fill in some rows; those that hold pictures."""
        readable = []
        for row in rows:
            try:
                data = manifest.path(row).read_bytes()
                digests[row] = np.frombuffer(digest(data), np.uint8)
                check_header(data)
                readable.append(row)
            except PictureError as error:
                unreadable[row] = str(error)
            except OSError as error:
                unreadable[row] = f"it cannot be opened: {error.strerror}"
        return readable

    def remember(rows: list[int]) -> None:
        if rows := [row for row in rows if lasting[row]]:
            with store.lock():
                store.append(identities[rows], digests[rows])

    # Threads, for disks answer several questions at once.
    threads = 2 * (os.cpu_count() or 1)
    with progress("scan", len(manifest)) as advance, ThreadPoolExecutor(threads) as pool:
        advance(int(known.sum()))
        seen: list[int] = []
        for rows, readable in zip(tasks, pool.map(look, tasks), strict=True):
            advance(len(rows))
            seen += readable
            if len(seen) >= _ROWS_BETWEEN_WRITES:
                remember(seen)
                seen = []
        remember(seen)
    return Scan(digests, dict(sorted(unreadable.items())))


def _identities(manifest: Manifest) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """What stands for each file's content as long as it is not written again, (n, 16).

    Zeros where there is no file. Also whether it is old enough to be remembered by that, (n,).
    """
    identities = np.zeros((len(manifest), 16), np.uint8)
    changed = np.zeros(len(manifest), np.int64)
    root = os.fspath(manifest.root)
    now = time.time_ns()
    for row, image in enumerate(manifest.images):
        try:
            s = os.stat(f"{root}/{image}")
        except OSError:
            continue
        text = f"{image}\0{s.st_ino}\0{s.st_size}\0{s.st_mtime_ns}\0{s.st_ctime_ns}"
        identities[row] = np.frombuffer(digest(text.encode(errors="surrogateescape")), np.uint8)
        changed[row] = s.st_ctime_ns  # Which nobody can set.
    return identities, (changed > 0) & (changed < now - _YOUNG_NS)
