"""What every entry point asks of its arguments: one ValueError that names the argument."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from numbers import Integral, Real
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
        raise ValueError(f"probs must hold the tasks {list(classes)}, not {list(probs)}")
    checked = {}
    for task, values in probs.items():
        array = as_probs_of_task(values, f"probs[{task!r}]")
        if classes is not None and array.shape[1] != classes[task]:
            raise ValueError(f"{name_of(task, array)} must have {classes[task]} columns")
        checked[task] = array
    if len({len(array) for array in checked.values()}) > 1:
        shapes = {task: array.shape for task, array in checked.items()}
        raise ValueError(f"probs must have the same pictures in every task, not shapes {shapes}")
    return checked


def as_probs_of_task(values: ArrayLike, name: str) -> NDArray[np.floating]:
    """Probabilities (n, C) of one task, of the float type that they have.

    Raises:
        ValueError: another shape than (n, C).
    """
    array = as_array(values, name)
    if array.dtype not in _FLOATS:
        array = array.astype(np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} of shape {array.shape} must have shape (n, classes)")
    return array


def as_array(values: ArrayLike, name: str) -> NDArray[Any]:
    """Real numbers or truth values of any shape.

    Raises:
        ValueError: rows of different length, or anything but real numbers.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must have rows of one length") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} of shape {array.shape} must hold real numbers, not {array.dtype}")
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
            with np.errstate(invalid="ignore", over="ignore"):
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
    labels: Mapping[str, ArrayLike], classes: Mapping[str, int], n: int | None = None
) -> dict[str, NDArray[np.int64]]:
    """Labels of every task as int64 (n,), -1 where unknown, checked.

    Without ``n`` there are as many as the first task has.

    Raises:
        ValueError: other tasks, another length, not whole numbers, or a class out of range.
    """
    if not isinstance(labels, Mapping):
        raise ValueError(
            f"labels must map each task to its array, not be a {type(labels).__name__}"
        )
    if set(labels) != set(classes):
        raise ValueError(f"labels must hold the tasks {list(classes)}, not {list(labels)}")
    checked: dict[str, NDArray[np.int64]] = {}
    for task, count in classes.items():
        checked[task] = as_labels_of_task(labels[task], f"labels[{task!r}]", count, n)
        n = len(checked[task])
    return checked


def as_labels_of_task(
    labels: ArrayLike, name: str, classes: int, n: int | None
) -> NDArray[np.int64]:
    """Labels of one task as int64 (n,), -1 where unknown, checked as in ``as_labels``."""
    array = as_array(labels, name)
    name = f"{name} of shape {array.shape}"
    n = array.size if n is None else n
    if array.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},)")
    if n and array.dtype.kind not in "iu":
        raise ValueError(f"{name} must hold whole numbers, not {array.dtype}")
    if n and not (array.min() >= -1 and array.max() < classes):
        raise ValueError(f"{name} must lie in 0..{classes - 1}, or be -1 where unknown")
    return array.astype(np.int64)


def as_rows(values: ArrayLike, name: str, columns: int | None = None) -> NDArray[Any]:
    """Numbers of every picture, (n, columns), checked.

    Raises:
        ValueError: another shape, or a number that is not finite.
    """
    array = as_array(values, name)
    name = f"{name} of shape {array.shape}"
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} must have a row a picture")
    if columns is not None and array.shape[1] != columns:
        raise ValueError(f"{name} must have {columns} columns")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must hold finite numbers")
    return array


def check_probs(probs: Mapping[str, NDArray[np.floating]]) -> None:
    """Read the rows of every task, for work that needs no sums.

    Raises:
        ValueError: as ``by_checked_rows``.
    """
    for task, p in probs.items():
        by_checked_rows(lambda rows, block, total: None, p, name_of(task, p))


def as_alpha(alpha: float | Fraction) -> Fraction:
    """The error rate as the decimal number that was meant.

    ``Fraction(str(0.1))`` is 1/10 where the float 0.1 is a little more.

    Raises:
        ValueError: alpha is not a number strictly between 0 and 1.
    """
    check_rate(alpha, "alpha")
    return Fraction(str(alpha))


def check_rate(rate: float | Fraction, name: str) -> None:
    """Raises a ValueError where ``rate`` is not a number strictly between 0 and 1."""
    if not (isinstance(rate, Real) and 0 < rate < 1):
        raise ValueError(f"{name} must be a number strictly between 0 and 1, not {rate!r}")


def check_whole(number: int, name: str, least: int = 0) -> None:
    """Raises a ValueError where ``number`` is not a whole number of at least ``least``."""
    if not (isinstance(number, Integral) and number >= least):
        raise ValueError(f"{name} must be a whole number of at least {least}, not {number!r}")
