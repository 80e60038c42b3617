"""Which of the pictures that people told of calibrate, and which test what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from app.conformal.simultaneous import fewest_to_calibrate


def calibrating(n: int) -> int:
    """How many of n pictures calibrate: two of three, and at least one tests."""
    return min(-(-2 * n // 3), max(n - 1, 0))


def enough(tasks: int, alpha: float) -> int:
    """The fewest pictures, told of completely, that a bundle can be calibrated on and tested."""
    fewest = fewest_to_calibrate(tasks, alpha)
    n = fewest + 1
    while calibrating(n) < fewest:
        n += 1
    return n


def draw_parts(pictures: Sequence[str], complete: NDArray[np.bool_], seed: int) -> NDArray[np.str_]:
    """``calib`` or ``test`` for each of n pictures, of which some were told of completely.

    Drawn by the pictures' sha256, and so with no regard to when they came: what calibrates and what
    tests are exchangeable.
    """
    split = np.full(len(pictures), "test", "<U5")
    for alike in (complete, ~complete):
        rows = np.flatnonzero(alike)
        drawn = [sha256(f"{seed}:{pictures[row]}".encode()).hexdigest() for row in rows.tolist()]
        split[rows[np.argsort(drawn)[: calibrating(len(rows))]]] = "calib"
    return split
