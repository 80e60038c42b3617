"""One measurement of one library, in a process of its own.

``python -m app.pipeline.bench.child FOLDER LIBRARY SCORE ALPHA`` prints one JSON object.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np

from app.pipeline.bench.libraries import LIBRARIES
from app.pipeline.bench.memory import forget_peak, memory

#: Processors that every library may use.
PROCESSORS = 2
#: The files of the inputs, without their suffix.
INPUTS = ("probs", "labels", "new", "truth")

#: Enough for arrays of such a size that glibc, once they are freed, keeps memory for the next ones:
#: a process that has freed none gives every batch's back to the system, at half the speed.
_WARM_UP = 2_000
#: The first run also waits for the system to find the memory, which on a virtual machine can take
#: longer than the work.
_RUNS = 2


def main(folder: Path, library: str, score: str, alpha: float) -> dict[str, float | None]:
    """Time calibration and the sets of all test pictures, and measure the memory they take.

    Returns:
        ``seconds``, the least of ``_RUNS``; ``peak``, in bytes over what the loaded inputs and the
        imported library take (None where the system does not tell); ``coverage`` and mean ``size``
        of the sets.
    """
    _keep_to_processors()
    probs, labels, new, truth = (np.load(folder / f"{name}.npy") for name in INPUTS)
    chosen = LIBRARIES[library]
    rows = math.ceil(len(new) * chosen.share)
    new, truth = new[:rows], truth[:rows]
    chosen.answer(score, probs[:_WARM_UP], labels[:_WARM_UP], new[:_WARM_UP], alpha)

    def run() -> tuple[float, float, float]:
        started = time.perf_counter()
        sets = chosen.answer(score, probs, labels, new, alpha)
        seconds = time.perf_counter() - started
        return seconds, float(sets[np.arange(rows), truth].mean()), float(sets.sum(axis=1).mean())

    before = forget_peak()
    seconds, coverage, size = min(run() for _ in range(_RUNS))
    peak = None if before is None else memory("VmHWM") - before
    return {"seconds": seconds, "peak": peak, "coverage": coverage, "size": size}


def _keep_to_processors() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSORS])


if __name__ == "__main__":
    _folder, _library, _score, _alpha = sys.argv[1:]
    print(json.dumps(main(Path(_folder), _library, _score, float(_alpha))))
