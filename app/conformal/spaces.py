"""Connectors between the label spaces: one softmax a task, or one over all combinations.

Combinations are numbered in C order: with tasks of 2 and 3 classes, (1, 0) is number 3. The joint
space is an ordinary problem with the single task ``JOINT``. Where there are too many combinations
to write down, the tasks' probabilities are the factors from which ``likeliest`` finds the few that
matter, and ``calibrate_simultaneously`` the sets that hold all truths at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.conformal.blocks import by_blocks
from app.conformal.checks import as_array, as_labels, as_probs, check_probs, check_whole

JOINT = "joint"

#: More combinations than this are not multiplied out: a picture alone would take 8 MB.
_MOST_COMBINATIONS = 1_000_000

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Values = TypeVar("Values", bound=NDArray[Any])


def combinations(classes: Mapping[str, int]) -> int:
    """How many combinations of classes there are."""
    return math.prod(classes.values())


def multiply(probs: Mapping[str, Floats]) -> Floats:
    """Taskwise {task: (n, C_task)} to joint (n, product of C), as if tasks were independent.

    Raises:
        ValueError: ``probs`` are no probabilities, or the combinations are too many to write down.
    """
    checked = as_probs(probs)
    count = combinations({task: p.shape[1] for task, p in checked.items()})
    if count > _MOST_COMBINATIONS:
        shapes = {task: p.shape for task, p in checked.items()}
        raise ValueError(
            f"probs of shapes {shapes} have {count} combinations of classes, too many to multiply "
            "out: calibrate the tasks simultaneously, and find the likeliest by `likeliest`"
        )
    check_probs(checked)
    joint, *others = checked.values()
    for p in others:
        joint = (joint[:, :, None] * p[:, None, :]).reshape(len(p), -1)
    return joint  # type: ignore[return-value]  # of the float type that was given


def likeliest(probs: Mapping[str, Floats], count: int) -> tuple[dict[str, Ints], Floats]:
    """The most probable combinations, as if tasks were independent, without writing down all.

    A combination among the ``count`` best begins, in its first tasks, with one of their ``count``
    best, and has in each task one of its ``count`` best classes. So task by task the best are kept.

    Args:
        probs: of each task, probabilities (n, C_task).
        count: how many, at least 1; there may be fewer.

    Returns:
        Of each task, its class in the best combination, in the second best, and so on: (n, count);
        and their probabilities (n, count).

    Raises:
        ValueError: ``probs`` are no probabilities, or ``count`` is less than 1.
    """
    checked = as_probs(probs)
    check_whole(count, "count", least=1)
    check_probs(checked)
    classes = {task: p.shape[1] for task, p in checked.items()}
    n = len(next(iter(checked.values())))
    count = min(count, combinations(classes))
    best = {task: np.empty((n, count), np.int64) for task in classes}
    mass = np.empty((n, count))

    def work(rows: slice) -> None:
        kept = np.ones((len(mass[rows]), 1))
        path: dict[str, Ints] = {}
        for task, p in checked.items():
            own = np.argsort(-p[rows], axis=1, kind="stable")[:, :count]
            of_own = np.take_along_axis(p[rows], own, axis=1).astype(np.float64)
            product = (kept[:, :, None] * of_own[:, None, :]).reshape(len(kept), -1)
            order = np.argsort(-product, axis=1, kind="stable")[:, :count]
            kept = np.take_along_axis(product, order, axis=1)
            before, last = np.divmod(order, own.shape[1])
            path = {t: np.take_along_axis(c, before, axis=1) for t, c in path.items()}
            path[task] = np.take_along_axis(own, last, axis=1)
        mass[rows] = kept
        for task, c in path.items():
            best[task][rows] = c

    by_blocks(lambda _: work, n, max(min(count, most) * count for most in classes.values()))
    return best, mass


def marginalise(joint: NDArray[np.floating], classes: Mapping[str, int]) -> dict[str, Floats]:
    """Joint (n, product of C) to taskwise {task: (n, C_task)}: sum over the other tasks.

    The sums are float64: of half a million numbers, those of float32 are off by a hundredth.

    Raises:
        ValueError: ``joint`` has another shape.
    """
    cube = _by_task(joint, classes)
    return {
        task: cube.sum(axis=others, dtype=np.float64)
        for task, others in _other_axes(classes).items()
    }


def project(joint: Values, classes: Mapping[str, int]) -> dict[str, Values]:
    """The best of all combinations that a class is part of: max over the other tasks.

    Turns joint sets into the taskwise sets they touch, and joint p-values into the classes'.

    Raises:
        ValueError: ``joint`` has another shape.
    """
    cube = _by_task(joint, classes)
    return {task: cube.max(axis=others) for task, others in _other_axes(classes).items()}


def _by_task(values: ArrayLike, classes: Mapping[str, int]) -> NDArray[Any]:
    """With an axis for every task, (n, C_1, C_2, …)."""
    joint = as_array(values, "joint")
    if joint.ndim != 2 or joint.shape[1] != combinations(classes):
        raise ValueError(
            f"joint of shape {joint.shape} must have shape (n, {combinations(classes)})"
        )
    return joint.reshape(len(joint), *classes.values())


def _other_axes(classes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    axes = range(1, len(classes) + 1)
    return {task: tuple(set(axes) - {own}) for own, task in zip(axes, classes, strict=True)}


def completely_labelled(labels: Mapping[str, Ints]) -> Bools:
    """Which pictures (n,) have a label for every task; -1 is none."""
    return np.all([label >= 0 for label in labels.values()], axis=0)


def joint_labels(labels: Mapping[str, Ints], classes: Mapping[str, int]) -> Ints:
    """The combination's number (n,), -1 where any task's label is unknown.

    Raises:
        ValueError: labels of other tasks, of different length, or out of range.
    """
    checked = as_labels(labels, classes)
    digits = tuple(np.maximum(label, 0) for label in checked.values())
    numbers = np.ravel_multi_index(digits, tuple(classes.values()))
    return np.where(completely_labelled(checked), numbers, -1)
