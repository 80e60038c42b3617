"""Work in threads, for what lets go of the interpreter's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """The results in the items' order, at most ``ahead`` of them before they are asked for."""
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:  # Told to stop, do not begin what nobody waits for.
        pool.shutdown(cancel_futures=True)
