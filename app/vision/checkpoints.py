"""How far the fitting of each head has come, kept in the cache until it is needed no more.

A checkpoint stands under the fingerprint of its problem, so that it is continued for exactly the
same problem or not at all. It holds everything in one file, written beside its place and moved
there: whatever moment a run is killed at, the file is that of an epoch that was finished.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import xxhash
from filelock import FileLock
from pytorch_lightning.plugins.io import CheckpointIO

from app.disk import writing
from app.progress import say

_DIGEST_BYTES = xxhash.xxh3_128().digest_size


class Checkpoints:
    """The checkpoints of one problem's heads."""

    def __init__(self, cache_dir: Path, fingerprint: str) -> None:
        """``fingerprint`` stands for everything that decides the result."""
        self._folder = cache_dir / "fitting"
        self._fingerprint = fingerprint

    def path(self, head: str) -> Path:
        """Where the checkpoint of a head belongs."""
        return self._folder / f"{self._fingerprint}-{head}.ckpt"

    def read(self, head: str) -> dict[str, Any] | None:
        """The checkpoint of a head; None where there is none, or (which it says) a damaged one.

        Raises:
            SuresetError: it cannot be read.
        """
        path = self.path(head)
        with writing("checkpoints", self._folder, "--cache"):
            try:
                return CheckpointFile().load_checkpoint(path)
            except FileNotFoundError:
                return None
            except DamagedCheckpoint:
                say(f"the checkpoint {path} is damaged: fitting the {head} head starts over")
                path.unlink()
                return None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other runs off this problem: they wait, and then find it solved.

        Raises:
            SuresetError: the cache cannot be written.
        """
        with writing("checkpoints", self._folder, "--cache"):
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._lock)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def remove(self) -> None:
        """Forget them: what they led to is kept elsewhere."""
        with self.alone():
            for path in self._folder.glob(f"{self._fingerprint}-*"):
                path.unlink()
            # Whoever waits for the lock notices that this file is no longer the one.
            self._lock.unlink(missing_ok=True)

    @property
    def _lock(self) -> Path:
        return self._folder / f"{self._fingerprint}.lock"


class DamagedCheckpoint(Exception):
    """A file is not as it was written."""


class CheckpointFile(CheckpointIO):
    """Lightning's checkpoints as files that are whole or noticed: a digest, then torch's bytes.

    Lightning's own way writes into the temporary folder first, which in a container is another
    file system, whence a file is copied and not moved.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        path = Path(path)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getbuffer()
        beside = path.with_suffix(".part")
        with writing("a checkpoint", path.parent, "--cache"):
            with open(beside, "wb") as file:
                file.write(xxhash.xxh3_128_digest(content))
                file.write(content)
            # Not forced to the disk, which would cost more than the epoch: what a loss of power
            # may leave of it is noticed.
            os.replace(beside, path)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint, never anything that is not plain data.

        Raises:
            FileNotFoundError: there is none.
            DamagedCheckpoint: it is not as it was written.
        """
        data = memoryview(Path(path).read_bytes())
        digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if xxhash.xxh3_128_digest(content) != digest:
            raise DamagedCheckpoint(path)
        return torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)
