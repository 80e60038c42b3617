"""Which classes are taken for each other, and which come together in the sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: More classes than this are no table that can be read; the commonest pairs are shown instead.
_READABLE = 30
_PAIRS = 12

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Confusion:
    """Of the pictures of each class, how often another class is answered.

    Attributes:
        names: the classes.
        n: pictures of each class.
        rows: if there are few classes, of each one the share of its pictures by answer, else none.
        pairs: the commonest answers that are not the truth: truth, answer, pictures, share.
    """

    names: list[str]
    n: list[int]
    rows: list[list[float]]
    pairs: list[tuple[str, str, int, float]]


def confusion(names: Sequence[str], truth: Ints, answered: NDArray[np.bool_]) -> Confusion:
    """Count answers by truth.

    Args:
        truth: (m,), -1 where unknown.
        answered: the classes answered to each picture, one or a set, (m, C).
    """
    count = np.zeros((len(names), len(names)), np.int64)
    known = truth >= 0
    np.add.at(count, truth[known], answered[known].astype(np.int64))
    n = np.bincount(truth[known], minlength=len(names))
    share = count / np.maximum(n, 1)[:, None]
    others = np.where(np.eye(len(names), dtype=bool), 0, count)
    top = np.argsort(-others, axis=None, kind="stable")[:_PAIRS]
    at = zip(*np.unravel_index(top, others.shape), strict=True)
    return Confusion(
        names=list(names),
        n=n.tolist(),
        rows=share.tolist() if len(names) <= _READABLE else [],
        pairs=[
            (names[i], names[j], int(others[i, j]), float(share[i, j]))
            for i, j in at
            if others[i, j]
        ],
    )
