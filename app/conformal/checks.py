"""What every entry point asks of its arguments: one ValueError that names the argument."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.conformal.blocks import Work, by_blocks

#: How far a row of probabilities may be from 1 in total (float32 over a thousand classes).
_ROW_TOLERANCE = 1e-3
#: How far rounding takes the total of a row of float64 from 1.
_ROUNDING = 1e-12
_FLOATS = (np.float16, np.float32, np.float64)


def as_probs(
    probs: Mapping[str, ArrayLike], classes: Mapping[str, int] | None = None
) -> dict[str, NDArray[np.floating]]:
    """Probabilities of every task, (n, C_task), of the float type that they have.

    The rows themselves are left to be checked when they are read (``by_checked_rows``).

    Raises:
        ValueError: no task, another shape than (n, C), rows of different number, or other tasks or
            classes than ``classes``.
    """
    if not isinstance(probs, Mapping):
        raise ValueError(f"probs must map each task to its array, not be a {type(probs).__name__}")
    if not probs:
        raise ValueError("probs must hold at least one task")
    if classes is not None and set(probs) != set(classes):
        raise ValueError(f"probs must hold the tasks {sorted(classes)}, not {sorted(probs)}")
    checked = {}
    for task, values in probs.items():
        array = _as_array(values, f"probs[{task!r}]")
        if array.dtype not in _FLOATS:
            array = array.astype(np.float64)
        name = name_of(task, array)
        if array.ndim != 2 or array.shape[1] == 0:
            raise ValueError(f"{name} must have shape (n, classes)")
        if classes is not None and array.shape[1] != classes[task]:
            raise ValueError(f"{name} must have {classes[task]} columns")
        checked[task] = array
    if len({len(array) for array in checked.values()}) > 1:
        shapes = {task: array.shape for task, array in checked.items()}
        raise ValueError(f"probs must have the same pictures in every task, not shapes {shapes}")
    return checked


def _as_array(values: ArrayLike, name: str) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must have rows of one length") from error
    if not np.issubdtype(array.dtype, np.number) and array.dtype != bool:
        raise ValueError(f"{name} of shape {array.shape} must hold numbers, not {array.dtype}")
    return array


def name_of(task: str, probs: NDArray[np.floating]) -> str:
    """What a task's probabilities are called in an error."""
    return f"probs[{task!r}] of shape {probs.shape}"


def by_checked_rows(
    work: Callable[[slice, NDArray[np.floating], NDArray[np.float64]], None],
    probs: NDArray[np.floating],
    name: str,
) -> None:
    """Call ``work`` for blocks of rows: the slice, its rows, and what each of them sums to.

    The sums are float64 (n, 1), and just 1 where they are 1 up to rounding. Work that divides by
    them has float64 probabilities with sum 1: what rounding took from a sure class of a float32
    network, the others still have. Exact rows stay as they are, to the bit.

    Raises:
        ValueError: a NaN, an infinite or a negative number, or a row that does not sum to 1.
    """

    def worker(most: int) -> Work:
        wide = np.empty((most, probs.shape[1]))

        def check(rows: slice) -> None:
            block = probs[rows]
            # Contiguous rows of float64 are summed alike wherever they stand.
            exact = wide[: len(block)]
            np.copyto(exact, block)
            total = exact.sum(axis=1, keepdims=True)
            # A NaN or an infinite number anywhere comes out of its row's sum.
            if not np.isfinite(total).all() or block.min() < 0:
                raise ValueError(f"{name} must hold finite numbers of at least 0")
            off = np.abs(total - 1)
            if (off > _ROW_TOLERANCE).any():
                raise ValueError(f"{name} must have rows that sum to 1")
            total[off < _ROUNDING] = 1
            work(rows, block, total)

        return check

    by_blocks(worker, *probs.shape)


def as_labels(
    labels: Mapping[str, ArrayLike], classes: Mapping[str, int], n: int
) -> dict[str, NDArray[np.int64]]:
    """Labels of every task as int64 (n,), -1 where unknown, checked.

    Raises:
        ValueError: other tasks, another length, not whole numbers, or a class out of range.
    """
    if not isinstance(labels, Mapping):
        raise ValueError(
            f"labels must map each task to its array, not be a {type(labels).__name__}"
        )
    if set(labels) != set(classes):
        raise ValueError(f"labels must hold the tasks {sorted(classes)}, not {sorted(labels)}")
    checked = {}
    for task, count in classes.items():
        array = _as_array(labels[task], f"labels[{task!r}]")
        name = f"labels[{task!r}] of shape {array.shape}"
        if array.shape != (n,):
            raise ValueError(f"{name} must have shape ({n},)")
        if n and not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"{name} must hold whole numbers, not {array.dtype}")
        if n and not (array.min() >= -1 and array.max() < count):
            raise ValueError(f"{name} must lie in 0..{count - 1}, or be -1 where unknown")
        checked[task] = array.astype(np.int64)
    return checked


def as_rows(values: ArrayLike, name: str, columns: int | None = None) -> NDArray[Any]:
    """Numbers of every picture, (n, columns), checked.

    Raises:
        ValueError: another shape, or a number that is not finite.
    """
    array = _as_array(values, name)
    name = f"{name} of shape {array.shape}"
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} must have a row a picture")
    if columns is not None and array.shape[1] != columns:
        raise ValueError(f"{name} must have {columns} columns")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must hold finite numbers")
    return array


def as_alpha(alpha: float | Fraction) -> Fraction:
    """The error rate as the decimal number that was meant.

    ``Fraction(str(0.1))`` is 1/10 where the float 0.1 is a little more.

    Raises:
        ValueError: alpha is not strictly between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, not {alpha}")
    return Fraction(str(alpha))
