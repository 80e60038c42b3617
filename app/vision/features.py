"""Features of pictures, computed once: a memory-mapped cache keyed by content.

One folder of the cache holds the features of one encoder, runtime, precision and geometry:
``features.f32`` has a row of d floats a picture, ``digests.u8`` its 16-byte digest at the same
place. Rows are only ever appended, features first, so whatever moment a run is killed at, every
digest has its features, and what lacks one is cut off by the next writer.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from app.data.pictures import PictureError, Preprocess, digest, read_rgb
from app.disk import writing
from app.progress import progress
from app.vision.runtimes import Features, Runtime

Digests = NDArray[np.uint8]

_ROWS_BETWEEN_WRITES = 64


class FeatureCache:
    """The features that one runtime computed with one preprocessing."""

    def __init__(self, cache_dir: Path, encoder: str, runtime: Runtime, preprocess: Preprocess):
        """``encoder`` names the network and its weights."""
        facts = {
            "encoder": encoder,
            "runtime": runtime.name,
            "precision": runtime.precision,
            "preprocess": asdict(preprocess),
            "versions": {name: version(name) for name in ("openvino", "pillow", "torch")},
        }
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = cache_dir / "features" / key
        self._runtime = runtime
        self._preprocess = preprocess
        self._facts = facts

    def features(self, paths: Sequence[Path], digests: Digests) -> tuple[Features, dict[int, str]]:
        """Features (n, d) of pictures, computed where the cache lacks them.

        Args:
            paths: n picture files.
            digests: their digests, (n, 16).

        Returns:
            The features, and the reason by row for the pictures that cannot be read (whose
            features are zero).

        Raises:
            SuresetError: the cache cannot be written.
        """
        with writing("the features", self.folder, "--cache"):
            self.folder.mkdir(parents=True, exist_ok=True)
            # A second run on the same cache waits here, and then finds the work done.
            with FileLock(self.folder / "lock"):
                return self._complete(paths, digests)

    def _complete(self, paths: Sequence[Path], digests: Digests) -> tuple[Features, dict[int, str]]:
        keys = [digest.tobytes() for digest in digests]
        place = self._places()
        missing = {key: path for key, path in zip(keys, paths, strict=True) if key not in place}
        unreadable = self._extract(missing) if missing else {}
        place = self._places()
        stored = self._stored(len(place))
        rows = np.array([place.get(key, -1) for key in keys], np.int64)
        found = stored[rows] if len(place) else np.zeros((len(rows), 1), np.float32)
        found[rows < 0] = 0
        return found, {i: unreadable[key] for i, key in enumerate(keys) if key in unreadable}

    def _places(self) -> dict[bytes, int]:
        """Of each digest in the cache, its row."""
        try:
            stored = (self.folder / "digests.u8").read_bytes()
        except FileNotFoundError:
            return {}
        return {stored[i : i + 16]: i // 16 for i in range(0, len(stored) - 15, 16)}

    def _stored(self, rows: int) -> Features:
        """All features in the cache (rows, d), mapped."""
        if rows == 0:
            return np.zeros((0, 1), np.float32)
        path = self.folder / "features.f32"
        dimensions = json.loads((self.folder / "facts.json").read_text())["dimensions"]
        return np.memmap(path, np.float32, "r", shape=(rows, dimensions))

    def _extract(self, missing: dict[bytes, Path]) -> dict[bytes, str]:
        """Append the features of pictures; the reasons of those that cannot be read."""
        unreadable: dict[bytes, str] = {}
        pending: list[bytes] = []
        computed: list[Features] = []

        def batches() -> Iterator[NDArray[np.uint8]]:
            batch: list[NDArray[np.uint8]] = []
            for key, picture in self._decoded(missing):
                if isinstance(picture, PictureError):
                    unreadable[key] = str(picture)
                    advance(1)
                    continue
                pending.append(key)
                batch.append(picture)
                if len(batch) == self._runtime.batch:
                    yield np.stack(batch)
                    batch = []
            if batch:
                yield np.stack(batch)

        def write() -> None:
            features = np.concatenate(computed)
            computed.clear()
            self._append(pending[: len(features)], features)
            del pending[: len(features)]

        with progress("features", len(missing)) as advance:
            try:
                for features in self._runtime.encode(batches()):
                    computed.append(features)
                    advance(len(features))
                    if sum(map(len, computed)) >= _ROWS_BETWEEN_WRITES:
                        write()
            finally:  # Told to stop, too, keep what is done.
                if computed:
                    write()
        return unreadable

    def _decoded(
        self, missing: dict[bytes, Path]
    ) -> Iterator[tuple[bytes, NDArray[np.uint8] | PictureError]]:
        """Decode in threads (Pillow lets go of the lock), never far ahead of the network."""

        def decode(key: bytes, path: Path) -> NDArray[np.uint8] | PictureError:
            try:
                data = path.read_bytes()
                # Otherwise another picture's features would stand under this digest for good.
                if digest(data) != key:
                    return PictureError("it changed while it was being read")
                return read_rgb(data, self._preprocess)
            except PictureError as error:
                return error
            except OSError as error:
                return PictureError(f"it cannot be opened: {error.strerror}")

        ahead: deque[tuple[bytes, Future[NDArray[np.uint8] | PictureError]]] = deque()
        pool = ThreadPoolExecutor(os.cpu_count())
        try:
            for key, path in missing.items():
                ahead.append((key, pool.submit(decode, key, path)))
                if len(ahead) > 4 * self._runtime.batch:
                    first, future = ahead.popleft()
                    yield first, future.result()
            for first, future in ahead:
                yield first, future.result()
        finally:  # Told to stop, do not decode what nobody waits for.
            pool.shutdown(cancel_futures=True)

    def _append(self, keys: list[bytes], features: Features) -> None:
        facts = self.folder / "facts.json"
        if not facts.exists():
            beside = facts.with_suffix(".part")
            beside.write_text(json.dumps({**self._facts, "dimensions": features.shape[1]}))
            beside.rename(facts)
        stored = self.folder / "digests.u8"
        rows = stored.stat().st_size // 16 if stored.exists() else 0
        for name, data, width in (
            ("features.f32", features.tobytes(), 4 * features.shape[1]),
            ("digests.u8", b"".join(keys), 16),
        ):
            with open(self.folder / name, "ab") as file:
                file.truncate(rows * width)  # What a killed run left without a partner.
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
