"""Rows in blocks: each block stays in a processor's cache, and every processor takes its share."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

#: Numbers in a block: with fewer, threads wait on each other; with more, it leaves the cache.
_BLOCK = 1 << 18

#: What is done with the rows of a block.
Work = Callable[[slice], None]


def by_blocks(worker: Callable[[int], Work], rows: int, columns: int) -> None:
    """Work on slices that together make all rows; what a worker raises is raised here.

    Several slices are worked on at the same time (NumPy lets go of the interpreter lock), so work
    must write to its own rows alone. A row's result may not depend on the rows beside it.

    Args:
        worker: called for each thread, with the most rows that a slice has, so that a thread can
            keep its memory from slice to slice: threads that ask for new wait on each other.
        rows, columns: how much there is of it.
    """
    most = max(1, min(rows, _BLOCK // max(1, columns)))
    slices = [slice(start, min(start + most, rows)) for start in range(0, rows, most)]
    threads = min(_processors(), len(slices))

    def share(thread: int) -> None:
        work = worker(most)
        for block in slices[thread::threads]:
            work(block)

    if threads <= 1:
        for thread in range(threads):
            share(thread)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(share, range(threads)):
            pass


def _processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
