"""Rows in blocks: each block stays in a processor's cache, and every processor takes its share."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

#: Numbers in a block. Smaller ones spend their time in Python, larger ones on the way to memory.
_BLOCK = 1 << 16


def by_blocks(work: Callable[[slice], None], rows: int, columns: int) -> None:
    """Call ``work`` for slices that together make all rows; what it raises is raised here.

    Slices are worked on at the same time (NumPy lets go of the interpreter lock), so ``work`` must
    write to its own rows alone. A row's result may not depend on the rows beside it.
    """
    step = max(1, _BLOCK // max(1, columns))
    slices = [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
    workers = min(_processors(), len(slices))

    def share(worker: int) -> None:
        for block in slices[worker::workers]:
            work(block)

    if workers <= 1:
        for block in slices:
            work(block)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(share, range(workers)):
            pass


def _processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
