"""From measurements on every division to means with spread, and to differences that exceed chance.

Tables in, tables out. The rows that come in are one method's at one ``alpha``, of one ``task`` in
one ``division``, with ``n_calib`` and ``n_test``, the numbers of labelled pictures, and the
``MEASURES``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from app.conformal.paired import differences, holm, may_be_best, overlap
from app.conformal.spaces import JOINT
from app.settings import METHOD

Table = TypeVar("Table", pd.Series, pd.DataFrame)

#: The metrics of ``divisions.csv`` and ``matrix.csv``.
MEASURES = (
    "accuracy",
    "coverage",
    "avg_set_size",
    "singleton_rate",
    "empty_rate",
    "covgap",
    "sscv",
)
#: What methods are compared by: the smaller, the better.
COMPARED = ("avg_set_size", "covgap")
#: In the place of a task: the mean over all tasks.
MEAN = "mean of the tasks"

#: Of intervals, and of families of comparisons without a false claim.
_LEVEL = 0.95


def spread(every: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (that of a sample, R - 1) over the divisions."""
    key = [*METHOD, "alpha", "task"]
    groups = every.groupby(key, sort=False)
    matrix = groups[list(MEASURES)].agg(["mean", "std"]).round(4)
    matrix.columns = pd.Index(["_".join(column) for column in matrix.columns])
    matrix["n_divisions"] = groups.size()
    return matrix.reset_index()


def coverage_holds(mean: Table, std: Table, n: int, alpha: float) -> Table:
    """Of each entry: the mean coverage is not below 1 - alpha by more than its 95 % interval.

    Given the pictures the divisions are independent, so the mean coverage in their pool has the
    usual t interval.
    """
    half = student.ppf(0.975, n - 1) * std / n**0.5
    return ~(mean + half < 1 - alpha)


def compare(every: pd.DataFrame, tasks: Sequence[str], own: tuple[str, ...]) -> pd.DataFrame:
    """Hold every method against the bundle's own, and say which may be the best.

    A family of comparisons is one alpha, one task (or ``JOINT``, or ``MEAN``) and one of
    ``COMPARED``; p-values are adjusted within it.

    Returns:
        A row a method in each family: its ``mean``; whether its coverage ``holds``; the
        ``difference`` of its mean from the own method's, with the 95 % interval ``low`` to
        ``high``, ``p``, and ``p_holm`` adjusted for all methods; ``reading``: the difference in a
        word; whether it is the ``best``, with the smallest mean of those whose coverage holds, and
        whether it ``may_be_best``: cannot be told apart from it.
    """
    return pd.concat(_families(every, tasks, own), ignore_index=True)


def _families(
    every: pd.DataFrame, tasks: Sequence[str], own: tuple[str, ...]
) -> Iterator[pd.DataFrame]:
    for alpha in sorted(every.alpha.unique().tolist()):
        at = every[every.alpha == alpha]
        shared = {
            task: overlap(of.n_calib.mean(), of.n_test.mean()) for task, of in at.groupby("task")
        }
        shared[MEAN] = max(shared[task] for task in tasks)
        of_measure = {name: by_method(at, tasks, name) for name in ("coverage", *COMPARED)}
        covers = {
            task: coverage_holds(table.mean(), table.std(), len(table), alpha)
            for task, table in of_measure["coverage"].items()
        }
        covers[MEAN] = pd.concat([covers[task] for task in tasks], axis=1).all(axis=1)
        for task in (MEAN, *tasks, JOINT):
            for measure in COMPARED:
                family = _family(of_measure[measure][task], covers[task], own, shared[task])
                family.insert(len(METHOD), "alpha", alpha)
                family.insert(len(METHOD) + 1, "task", task)
                family.insert(len(METHOD) + 2, "measure", measure)
                yield family


def by_method(every: pd.DataFrame, tasks: Sequence[str], measure: str) -> dict[str, pd.DataFrame]:
    """A measure at one alpha, of each task, ``JOINT`` and ``MEAN``: (divisions, methods)."""
    of = {
        task: every[every.task == task]
        .set_index([*METHOD, "division"])[measure]
        .unstack(list(METHOD), sort=False)
        for task in (*tasks, JOINT)
    }
    of[MEAN] = sum(of[task] for task in tasks) / len(tasks)
    return of


def _family(
    values: pd.DataFrame, holds: pd.Series, own: tuple[str, ...], correlation: float
) -> pd.DataFrame:
    numbers = values.to_numpy(float)
    beside = differences(numbers - values[own].to_numpy(float)[:, None], correlation)
    low, high = beside.interval(_LEVEL)
    others = np.array([method != own for method in values.columns])
    adjusted = np.ones(len(others))
    adjusted[others] = holm(beside.p[others])
    fair = holds.loc[values.columns].to_numpy(bool)
    best, may = np.zeros((2, len(fair)), bool)
    if fair.any():
        best[np.flatnonzero(fair)[numbers[:, fair].mean(axis=0).argmin()]] = True
        may[fair] = may_be_best(numbers[:, fair], correlation, _LEVEL)
    return pd.DataFrame(
        {
            **dict(zip(METHOD, zip(*values.columns, strict=True), strict=True)),
            "mean": numbers.mean(axis=0),
            "holds": fair,
            "difference": beside.mean,
            "low": low,
            "high": high,
            "p": beside.p,
            "p_holm": adjusted,
            "reading": _reading(beside.mean, adjusted, others),
            "best": best,
            "may_be_best": may,
        }
    )


def _reading(
    difference: NDArray[np.float64], p: NDArray[np.float64], others: NDArray[np.bool_]
) -> NDArray[np.str_]:
    words = np.where(difference < 0, "smaller", "larger")
    words = np.where(p <= 1 - _LEVEL, words, "not told apart")
    return np.where(others, words, "own")
