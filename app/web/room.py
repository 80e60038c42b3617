"""Room for a bounded number of pictures, or requests: who finds none is told when to come back.

A queue that may grow makes everybody wait until everybody's patience is over.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import SuresetError

#: Nobody is sent away for longer, in seconds.
_LONGEST_S = 30


class Busy(SuresetError):
    """There is no room for more.

    Attributes:
        seconds: after how many it is worth asking again.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too much is waiting for the network: ask again in {seconds} s.")
        self.seconds = seconds


class Room:
    """A bounded number of places, and how fast they become free."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._lock = threading.Lock()
        # Seconds from one free place to the next while many are taken; the last few count most.
        self._pace = 0.02
        self._freed = 0.0

    @contextmanager
    def places(self, n: int) -> Iterator[None]:
        """Hold ``n`` places.

        Raises:
            Busy: so many are not free.
        """
        with self._lock:
            if self.taken + n > self.most:
                raise Busy(min(max(1, math.ceil(self._pace * self.taken)), _LONGEST_S))
            if not self.taken:  # It was idle, which says nothing about the pace.
                self._freed = time.monotonic()
            self.taken += n
        try:
            yield
        finally:
            with self._lock:
                self.taken -= n
                now = time.monotonic()
                self._pace += 0.1 * ((now - self._freed) / n - self._pace)
                self._freed = now
