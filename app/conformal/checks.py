"""What every entry point asks of its arguments: one ValueError that names the argument."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: How far a row of probabilities may be from 1 in total (float32 over a thousand classes).
_ROW_TOLERANCE = 1e-3


def as_probs(
    probs: Mapping[str, ArrayLike], classes: Mapping[str, int] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Probabilities of every task as float64 (n, C_task), checked.

    Raises:
        ValueError: no task, another shape than (n, C), rows of different number, a NaN, a negative
            number, a row that does not sum to 1, or other tasks or classes than ``classes``.
    """
    if not probs:
        raise ValueError("probs must hold at least one task")
    if classes is not None and set(probs) != set(classes):
        raise ValueError(f"probs must hold the tasks {sorted(classes)}, not {sorted(probs)}")
    checked = {}
    for task, values in probs.items():
        array = np.asarray(values, dtype=np.float64)
        name = f"probs[{task!r}] of shape {array.shape}"
        if array.ndim != 2 or array.shape[1] == 0:
            raise ValueError(f"{name} must have shape (n, classes)")
        if classes is not None and array.shape[1] != classes[task]:
            raise ValueError(f"{name} must have {classes[task]} columns")
        if not np.isfinite(array).all() or (array < 0).any():
            raise ValueError(f"{name} must hold finite numbers of at least 0")
        if (np.abs(array.sum(axis=1) - 1) > _ROW_TOLERANCE).any():
            raise ValueError(f"{name} must have rows that sum to 1")
        checked[task] = array
    if len({len(array) for array in checked.values()}) > 1:
        shapes = {task: array.shape for task, array in checked.items()}
        raise ValueError(f"probs must have the same pictures in every task, not shapes {shapes}")
    return checked


def as_labels(
    labels: Mapping[str, ArrayLike], probs: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.int64]]:
    """Labels of every task as int64 (n,), -1 where unknown, checked against ``probs``.

    Raises:
        ValueError: other tasks, another length, not whole numbers, or a class out of range.
    """
    if set(labels) != set(probs):
        raise ValueError(f"labels must hold the tasks {sorted(probs)}, not {sorted(labels)}")
    checked = {}
    for task in probs:
        array = np.asarray(labels[task])
        n, classes = probs[task].shape
        name = f"labels[{task!r}] of shape {array.shape}"
        if array.shape != (n,):
            raise ValueError(f"{name} must have shape ({n},)")
        if n and not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"{name} must hold whole numbers, not {array.dtype}")
        if n and not (array.min() >= -1 and array.max() < classes):
            raise ValueError(f"{name} must lie in 0..{classes - 1}, or be -1 where unknown")
        checked[task] = array.astype(np.int64)
    return checked


def as_alpha(alpha: float) -> Fraction:
    """The error rate as the decimal number that was meant.

    ``Fraction(str(0.1))`` is 1/10 where the float 0.1 is a little more.

    Raises:
        ValueError: alpha is not strictly between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, not {alpha}")
    return Fraction(str(alpha))
