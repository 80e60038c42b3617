"""Features of pictures, computed once: a cache keyed by content.

One folder of the cache holds the features of one encoder, runtime, precision and geometry, and the
facts that its name is a hash of.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.data.pictures import PictureError, Preprocess, digest, read_rgb, read_unchanged, read_view
from app.disk import writing
from app.progress import progress
from app.rowstore import RowStore, scalars
from app.threads import in_threads
from app.vision.runtimes import Features, Runtime, fastest_batch

#: So many pictures' features a kill may lose at most, and as many again that were being written.
_MOST_UNWRITTEN = 32
#: With fewer pictures it takes longer to find the fastest batch than it saves.
_WORTH_MEASURING = 10_000

Digests = NDArray[np.uint8]
Rows = NDArray[np.int64]


class FeatureCache:
    """The features that one runtime computed with one preprocessing."""

    def __init__(self, cache_dir: Path, encoder: str, runtime: Runtime, preprocess: Preprocess):
        """``encoder`` names the network and its weights."""
        facts = {
            "encoder": encoder,
            "runtime": runtime.kind,
            "dimensions": runtime.dimensions,
            "preprocess": asdict(preprocess),
            "versions": {name: version(name) for name in ("openvino", "pillow", "torch")},
        }
        self._facts = json.dumps(facts, sort_keys=True)
        self.folder = cache_dir / "features" / hashlib.sha256(self._facts.encode()).hexdigest()[:16]
        self.dimensions = runtime.dimensions
        self.kind = runtime.kind
        self._store = RowStore(self.folder, 4 * self.dimensions)
        self._runtime = runtime
        self._preprocess = preprocess

    def features(
        self, path_of: Callable[[int], Path], digests: Digests, view: int = 0
    ) -> tuple[Features, dict[int, str]]:
        """Features (n, d) of n pictures, computed where the cache lacks them.

        Args:
            path_of: the file of each, by its row.
            digests: their digests, (n, 16).
            view: 0 for the pictures as they are; another number for a random view of each, which
                is the same whenever it is asked for.

        Returns:
            The features, and the reason by row for the pictures that cannot be read (whose
            features are zero).

        Raises:
            SuresetError: the cache cannot be written.
        """
        # A second run on the same cache waits at the lock, and then finds the work done.
        with writing("the features", self.folder, "--cache"), self._store.lock():
            self._write_facts()
            keys = _keys(digests, view)
            unreadable = self._extract(path_of, digests, keys, self.missing(keys))
            if unreadable:  # Of copies, another may still be there.
                absent = np.flatnonzero(self._store.find(keys) < 0)
                copies = np.setdiff1d(absent, list(unreadable))
                unreadable |= self._extract(path_of, digests, keys, copies)
            place = self._store.find(keys)
            known = place >= 0
            found = np.zeros((len(digests), self.dimensions), np.float32)
            found[known] = self._store.rows().view(np.float32)[place[known]]
        return found, {row: unreadable[row] for row in np.flatnonzero(~known).tolist()}

    def missing(self, keys: Digests) -> Rows:
        """The rows of pictures (n, 16) that have to be computed, of copies only the first."""
        absent = np.flatnonzero(self._store.find(keys) < 0)
        _, first = np.unique(scalars(keys[absent]), return_index=True)
        return absent[np.sort(first)]

    def _write_facts(self) -> None:
        """What the folder's name is a hash of, to be read by a person."""
        facts = self.folder / "facts.json"
        if not facts.exists():
            beside = facts.with_suffix(".part")
            beside.write_text(self._facts)
            beside.rename(facts)

    def _extract(
        self, path_of: Callable[[int], Path], digests: Digests, keys: Digests, rows: Rows
    ) -> dict[int, str]:
        """Append the features of some rows; the reasons of those that cannot be read."""
        unreadable: dict[int, str] = {}
        if not len(rows):
            return unreadable
        pending: deque[int] = deque()
        size = self._runtime.batch
        if len(rows) >= _WORTH_MEASURING:
            size = fastest_batch(self._runtime, self._preprocess.size)

        def batches() -> Iterator[NDArray[np.uint8]]:
            batch: list[NDArray[np.uint8]] = []
            for row, picture in self._decoded(path_of, digests, keys, rows, 4 * size):
                if isinstance(picture, PictureError):
                    unreadable[row] = str(picture)
                    advance(1)
                    continue
                pending.append(row)
                batch.append(picture)
                if len(batch) == size:
                    yield np.stack(batch)
                    batch = []
            if batch:
                yield np.stack(batch)

        def append(features: Features) -> None:
            done = keys[[pending.popleft() for _ in features]]
            self._store.append(done, np.ascontiguousarray(features).view(np.uint8))

        # While a disk writes, the network goes on: what it computed meanwhile is written next.
        with progress("features", len(rows)) as advance, ThreadPoolExecutor(1) as writer:
            computed: list[Features] = []
            write = writer.submit(lambda: None)
            for features in self._runtime.encode(batches()):
                computed.append(features)
                advance(len(features))
                if write.done() or sum(map(len, computed)) >= _MOST_UNWRITTEN:
                    write.result()
                    write = writer.submit(append, np.concatenate(computed))
                    computed = []
            write.result()
            if computed:
                append(np.concatenate(computed))
        return unreadable

    def _decoded(
        self,
        path_of: Callable[[int], Path],
        digests: Digests,
        keys: Digests,
        rows: Rows,
        most_ahead: int,
    ) -> Iterator[tuple[int, NDArray[np.uint8] | PictureError]]:
        """Decode in threads (Pillow lets go of the lock), never far ahead of the network."""

        def decode(row: int) -> tuple[int, NDArray[np.uint8] | PictureError]:
            content, key = digests[row].tobytes(), keys[row].tobytes()
            try:
                data = read_unchanged(path_of(row), content)
                if key == content:
                    return row, read_rgb(data, self._preprocess)
                rng = np.random.default_rng(int.from_bytes(key, "little"))
                return row, read_view(data, self._preprocess, rng)
            except PictureError as error:
                return row, error

        return in_threads(decode, rows.tolist(), most_ahead)


def _keys(digests: Digests, view: int) -> Digests:
    """What the features of a view are kept under, and its random numbers are drawn by, (n, 16)."""
    if view == 0:
        return digests
    names = (digest(d.tobytes() + view.to_bytes(4, "little")) for d in digests)
    return np.frombuffer(b"".join(names), np.uint8).reshape(-1, 16)
