"""How long each step of a run took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """``with watch("fit"):`` adds to the seconds of ``fit``."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        spent = time.perf_counter() - started
        self._seconds[step] = self._seconds.get(step, 0.0) + spent

    def seconds(self) -> dict[str, float]:
        """The seconds of each step so far, and ``total`` since the watch was made."""
        total = time.perf_counter() - self._started
        return {step: round(s, 3) for step, s in {**self._seconds, "total": total}.items()}
