"""Connectors between the label spaces: one softmax a task, or one over all combinations.

Combinations are numbered in C order: with tasks of 2 and 3 classes, (1, 0) is number 3. The joint
space is an ordinary problem with the single task ``JOINT``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

JOINT = "joint"

Floats = NDArray[np.float64]
Values = TypeVar("Values", bound=NDArray[Any])


def combinations(classes: Mapping[str, int]) -> int:
    """How many combinations of classes there are."""
    return math.prod(classes.values())


def multiply(probs: Mapping[str, Floats]) -> Floats:
    """Taskwise {task: (n, C_task)} to joint (n, product of C), as if tasks were independent."""
    joint = None
    for p in probs.values():
        joint = p if joint is None else (joint[:, :, None] * p[:, None, :]).reshape(len(p), -1)
    if joint is None:
        raise ValueError("probs must hold at least one task")
    return joint


def marginalise(joint: Floats, classes: Mapping[str, int]) -> dict[str, Floats]:
    """Joint (n, product of C) to taskwise {task: (n, C_task)}: sum over the other tasks."""
    cube = joint.reshape(len(joint), *classes.values())
    return {task: cube.sum(axis=others) for task, others in _other_axes(classes).items()}


def project(joint: Values, classes: Mapping[str, int]) -> dict[str, Values]:
    """The best of all combinations that a class is part of: max over the other tasks.

    Turns joint sets into the taskwise sets they touch, and joint p-values into the classes'.
    """
    cube = joint.reshape(len(joint), *classes.values())
    return {task: cube.max(axis=others) for task, others in _other_axes(classes).items()}


def _other_axes(classes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    axes = range(1, len(classes) + 1)
    return {task: tuple(set(axes) - {own}) for own, task in zip(axes, classes, strict=True)}


def joint_labels(
    labels: Mapping[str, NDArray[np.int64]], classes: Mapping[str, int]
) -> NDArray[np.int64]:
    """The combination's number (n,), -1 where any task's label is unknown."""
    stacked = np.stack([labels[task] for task in classes])
    known = (stacked >= 0).all(axis=0)
    numbers = np.ravel_multi_index(tuple(np.maximum(stacked, 0)), tuple(classes.values()))
    return np.where(known, numbers, -1)
