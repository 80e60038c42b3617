"""Other processes, for work that threads would wait for each other in."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import BaseContext


@contextmanager
def processes(context: BaseContext, most: int | None = None) -> Iterator[ProcessPoolExecutor]:
    """A pool of a process a core, at most ``most``; how they start is said by ``context``.

    A fork of this process could inherit a lock that another thread holds: let it be another way.
    """
    cores = os.cpu_count() or 1
    pool = ProcessPoolExecutor(
        cores if most is None else min(cores, most),
        context,
        initializer=signal.signal,  # Ctrl-C is for the process that waits for them.
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        yield pool
    finally:  # Told to stop, do not begin what nobody waits for.
        pool.shutdown(cancel_futures=True)
