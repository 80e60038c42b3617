"""Work of several callers, done together in batches.

A network takes little longer for a few pictures than for one. So what waits while it is busy is
taken along at once; what comes while it is idle is taken at once too, and waits for nobody.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Runs ``work`` on what is submitted, in the order in which it came.

    As many threads as ``abreast`` each take up to ``most`` items that wait. They end when
    ``close`` is called, and with the program.
    """

    def __init__(
        self, work: Callable[[Sequence[T]], Sequence[R]], most: int, abreast: int = 1
    ) -> None:
        """``work`` gives a result for each item; it runs in ``abreast`` threads at once."""
        self._work = work
        self._most = most
        self._waiting: deque[tuple[T, Future[R]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        for _ in range(abreast):
            threading.Thread(target=self._take_batches, name="batches", daemon=True).start()

    def submit(self, item: T) -> Future[R]:
        """The result to come; what ``work`` raises, it raises.

        Raises:
            RuntimeError: ``close`` was called.
        """
        result: Future[R] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("nothing is taken after close")
            self._waiting.append((item, result))
            self._changed.notify()
        return result

    def close(self) -> None:
        """Take nothing more; what waits is still worked on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _take_batches(self) -> None:
        while batch := self._next():
            wanted = [(item, r) for item, r in batch if r.set_running_or_notify_cancel()]
            if not wanted:
                continue
            try:
                results = self._work([item for item, _ in wanted])
            except BaseException as error:  # Whoever waits for a result gets it.
                for _, result in wanted:
                    result.set_exception(error)
            else:
                for (_, result), value in zip(wanted, results, strict=True):
                    result.set_result(value)

    def _next(self) -> list[tuple[T, Future[R]]]:
        """The next batch; empty when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
