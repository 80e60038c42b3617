"""The page of the experiments: every method's mean and spread over divisions of the pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from app.conformal.law import CoverageLaw
from app.conformal.spaces import JOINT
from app.report.page import PAGES, title
from app.report.plots import coverage_distribution
from app.settings import METHOD

#: The metrics of ``matrix.csv``.
MEASURES = ("coverage", "avg_set_size", "singleton_rate", "covgap")

_METHOD = list(METHOD)
_OF_TASKS = ["avg_set_size", "covgap", "singleton_rate"]
#: So many methods are shown at once, with the best of each column; the others are folded away.
_SHOWN = 12


def _number(value: float, beside: float) -> str:
    """With as many decimals as ``beside`` calls for; combinations may be countless."""
    if beside >= 1e4:
        return f"{value:.2g}"
    return f"{value:.3f}" if beside < 1 else f"{value:.2f}"


PAGES.filters["number"] = _number


@dataclass(frozen=True)
class Cell:
    """One number of one method: mean and standard deviation over the divisions."""

    mean: float
    std: float
    best: bool = False
    broken: bool = False


@dataclass(frozen=True)
class Line:
    """One method at one alpha: its name, and a cell for each column of ``Matrix``."""

    method: tuple[str, ...]
    own: bool
    cells: list[Cell]


@dataclass(frozen=True)
class Matrix:
    """All methods at one alpha, those with the smallest sets first."""

    alpha: float
    columns: list[str]
    shown: list[Line]
    folded: list[Line]


@dataclass(frozen=True)
class Distribution:
    """The own method's coverage of one task over many divisions, and what its law expects."""

    task: str
    plot: str
    measured: Cell
    expected: Cell | None


def write_matrix(
    path: Path, facts: Mapping[str, Any], every: pd.DataFrame, often: pd.DataFrame
) -> None:
    """Write the page.

    Args:
        facts: the bundle's.
        every: of every method, alpha, division and task (``JOINT`` for all at once) the
            ``MEASURES``, and ``n_calib`` and ``n_test``, the numbers of labelled pictures.
        often: the same of the bundle's own method at its alpha, on many divisions.
    """
    own = tuple(facts["method"][name] for name in _METHOD)
    page = PAGES.get_template("matrix.html").render(
        facts=facts,
        n_divisions=every.division.nunique(),
        sizes=every[every.task == every.task.iloc[0]][["n_calib", "n_test"]].mean().round(),
        matrices=[
            _matrix(every[every.alpha == alpha], list(facts["tasks"]), alpha, own)
            for alpha in every.alpha.unique().tolist()
        ],
        n_often=often.division.nunique(),
        distributions=list(_distributions(often, facts)),
    )
    path.write_text(page, encoding="utf-8")


def _matrix(every: pd.DataFrame, tasks: list[str], alpha: float, own: tuple[str, ...]) -> Matrix:
    """The table of one alpha. What is none of the tasks in ``every`` concerns all at once."""
    names = every.task.unique().tolist()
    by_division = [*_METHOD, "division"]
    of = {name: every[every.task == name].set_index(by_division) for name in names}
    wide = every[every.task.isin(tasks)].groupby(by_division, sort=False)[_OF_TASKS].mean()
    wide.columns = pd.Index(["set size", "class coverage gap", "singletons"])
    together = [name for name in names if name not in tasks]
    for name in together:
        wide[f"combinations: {title(name)}"] = of[name].avg_set_size
    for name in names:
        wide[_coverage(name)] = of[name].coverage

    methods = wide.groupby(_METHOD, sort=False)
    mean, std, n = methods.mean(), methods.std(), every.division.nunique()
    # The divisions are independent given the pictures, so their mean has a t interval.
    highest = mean + student.ppf(0.975, n - 1) * std / n**0.5
    holds = pd.DataFrame({name: ~(highest[_coverage(name)] < 1 - alpha) for name in names})
    broken = (~holds).rename(columns=_coverage)
    every_task_holds = holds[tasks].all(axis=1)
    # Of each column that can be won: who takes part, and the best of them.
    fair = {name: every_task_holds for name in ("set size", "class coverage gap", "singletons")}
    fair |= {f"combinations: {title(name)}": holds[name] for name in together}
    best = {
        column: mean[column][part].max() if column == "singletons" else mean[column][part].min()
        for column, part in fair.items()
    }

    def line(method: tuple[str, ...]) -> Line:
        cells = [
            Cell(
                mean.at[method, name],
                std.at[method, name],
                best=name in best and fair[name][method] and mean.at[method, name] == best[name],
                broken=name in broken.columns and broken.at[method, name],
            )
            for name in mean.columns
        ]
        return Line(method, method == own, cells)

    order = mean.assign(broken=~every_task_holds).sort_values(["broken", "set size"]).index
    lines = [line(method) for method in order]
    shown = {at for at, line in enumerate(lines) if at < _SHOWN or line.own}
    for column in range(len(mean.columns)):
        shown.update([at for at, line in enumerate(lines) if line.cells[column].best][:1])
    return Matrix(
        alpha,
        list(mean.columns),
        [line for at, line in enumerate(lines) if at in shown],
        [line for at, line in enumerate(lines) if at not in shown],
    )


def _coverage(task: str) -> str:
    return f"coverage: {title(task)}"


def _distributions(often: pd.DataFrame, facts: Mapping[str, Any]) -> Iterator[Distribution]:
    """How the own method's coverage of each task is distributed, beside its law if that is known.

    The law is that of scores which share one threshold, one of each picture: a task's in the
    taskwise space, and the combinations' in the joint space, by the taxonomy ``task``.
    """
    method, alpha = facts["method"], facts["alpha"]
    lawful = [JOINT] if method["space"] == JOINT else list(facts["tasks"])
    for task, of_task in often.groupby("task", sort=False):
        numbers = zip(of_task.n_calib, of_task.n_test, strict=True)
        laws = [CoverageLaw(int(n), int(m), alpha) for n, m in numbers]
        known = method["taxonomy"] == "task" and task in lawful
        plot = coverage_distribution(
            *(title(str(task)), of_task.coverage.to_numpy(), of_task.n_test.to_numpy()),
            laws if known else [],
            1 - alpha,
        )
        expected = Cell(
            float(np.mean([law.mean for law in laws])), float(np.mean([law.std for law in laws]))
        )
        measured = Cell(of_task.coverage.mean(), of_task.coverage.std())
        yield Distribution(title(str(task)), plot, measured, expected if known else None)
