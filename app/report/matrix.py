"""The page of the experiments: every method's mean and spread over divisions of the pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from app.conformal.law import CoverageLaw
from app.conformal.resplits import PRODUCT
from app.conformal.spaces import JOINT
from app.report.comparisons import MEAN, by_method, coverage_holds
from app.report.matrix_plots import (
    Curve,
    forest,
    size_and_gap,
    size_and_gap_legend,
    size_by_alpha,
)
from app.report.page import PAGES, title
from app.report.plots import coverage_distribution
from app.settings import METHOD

_METHOD = list(METHOD)
_OF_TASKS = ["avg_set_size", "covgap", "singleton_rate"]
_COLUMNS = ["set size", "class coverage gap", "singletons"]
_CALLED = {"avg_set_size": "set size", "covgap": "class coverage gap"}
#: So many methods are shown at once, with the best of each column; the others are folded away.
_SHOWN = 12
#: Of more tasks than this the first have columns and plots; the files have all.
_TASKS = 6


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
class Best:
    """What is best by one measure of one task, and how sure that is.

    Attributes:
        of, measure: the task and the measure.
        method, cell: the best of those whose coverage holds.
        rivals: how many others cannot be told apart from it.
        own: the bundle's own method's.
        beside: the row of ``comparisons.compare`` of the best.
    """

    of: str
    measure: str
    method: tuple[str, ...]
    cell: Cell
    rivals: int
    own: Cell
    beside: Any


@dataclass(frozen=True)
class Part:
    """The smallest sets with one part of a method fixed, as ``head`` to ``joint``.

    Attributes:
        cells: set size, class coverage gap, and combinations of all tasks at once.
        may_be_best: whether chance may be all that parts it from the best of all.
    """

    part: str
    value: str
    method: tuple[str, ...]
    cells: list[Cell]
    may_be_best: bool


@dataclass(frozen=True)
class Matrix:
    """All methods at one alpha, those with the smallest sets first.

    Attributes:
        count: by the ``reading`` of ``comparisons.compare``, the number of methods.
        holding: the number of methods whose coverage holds.
        bests: the smallest sets, as a mean over tasks, come first.
    """

    alpha: float
    columns: list[str]
    shown: list[Line]
    folded: list[Line]
    holding: int
    count: Mapping[str, int]
    bests: list[Best]
    parts: list[Part]
    plots: list[str]
    forest: str


@dataclass(frozen=True)
class Distribution:
    """The own method's coverage of one task over many divisions, and what its law expects."""

    task: str
    plot: str
    measured: Cell
    expected: Cell | None


def write_matrix(
    path: Path,
    facts: Mapping[str, Any],
    own: tuple[str, ...],
    every: pd.DataFrame,
    compared: pd.DataFrame,
    often: pd.DataFrame,
) -> None:
    """Write the page.

    Args:
        facts: the bundle's.
        own: the name in ``every`` of the bundle's own method.
        every: the measurements, as of ``comparisons``.
        compared: what ``comparisons.compare`` made of them.
        often: measurements of the own method at the bundle's alpha, on many divisions.
    """
    tasks, alphas = list(facts["tasks"]), sorted(every.alpha.unique().tolist())
    shown = every[every.task != PRODUCT]
    of_alpha = {alpha: shown[shown.alpha == alpha] for alpha in alphas}
    nearest = min(alphas, key=lambda alpha: abs(alpha - facts["alpha"]))
    page = PAGES.get_template("matrix.html").render(
        facts=facts,
        n_divisions=every.division.nunique(),
        n_methods=len(every[_METHOD].drop_duplicates()),
        sizes=every[every.task == tasks[0]][["n_calib", "n_test"]].mean().round(),
        nearest=nearest,
        by_alpha=list(_by_alpha(of_alpha, compared, tasks, nearest, own))
        if len(alphas) > 1
        else [],
        legend=size_and_gap_legend(),
        matrices=[
            _matrix(at, compared[compared.alpha == alpha], tasks, alpha, own)
            for alpha, at in of_alpha.items()
        ],
        n_often=often.division.nunique(),
        few=_TASKS if len(tasks) > _TASKS else None,
        distributions=list(_distributions(often[often.task != PRODUCT], facts, own)),
        mean=MEAN,
    )
    path.write_text(page, encoding="utf-8")


def _matrix(
    every: pd.DataFrame,
    compared: pd.DataFrame,
    tasks: list[str],
    alpha: float,
    own: tuple[str, ...],
) -> Matrix:
    """One alpha's part. What is none of the tasks in ``every`` concerns all at once."""
    names = every.task.unique().tolist()
    by_division = [*_METHOD, "division"]
    of = {name: every[every.task == name].set_index(by_division) for name in names}
    wide = every[every.task.isin(tasks)].groupby(by_division, sort=False)[_OF_TASKS].mean()
    wide.columns = pd.Index(_COLUMNS)
    together = [name for name in names if name not in tasks]
    for name in together:
        wide[_combinations(name)] = of[name].avg_set_size
    coverages = {_coverage(name): name for name in names}
    for column, name in coverages.items():
        wide[column] = of[name].coverage

    methods = wide.groupby(_METHOD, sort=False)
    mean, std = methods.mean(), methods.std()
    # A method may lack one of the ways to be right of all at once: nothing is broken there.
    kept = coverage_holds(
        mean[list(coverages)], std[list(coverages)], every.division.nunique(), alpha
    ).rename(columns=coverages)
    every_task_holds = kept[tasks].all(axis=1)
    # Of each column that can be won: who takes part, and the best of them.
    fair = dict.fromkeys(_COLUMNS, every_task_holds)
    fair |= {_combinations(name): kept[name] for name in together}
    marked = pd.DataFrame(False, mean.index, mean.columns)
    for column, part in fair.items():
        values = mean[column].where(part)
        marked[column] = values == (values.max() if column == "singletons" else values.min())
    # From here on for those who look at it.
    hidden = [_coverage(name) for name in tasks[_TASKS:]]
    mean, std = mean.drop(columns=hidden), std.drop(columns=hidden)
    marked = marked.drop(columns=hidden)
    broken = pd.DataFrame(False, mean.index, mean.columns)
    for name in mean.columns.intersection(list(coverages)):
        broken[name] = ~kept[coverages[name]]

    lines = {
        method: Line(method, method == own, [Cell(*numbers) for numbers in zip(*row, strict=True)])
        for method, *row in zip(
            *(mean.index, mean.to_numpy(), std.to_numpy(), marked.to_numpy(), broken.to_numpy()),
            strict=True,
        )
    }
    order = mean.assign(broken=~every_task_holds).sort_values(["broken", "set size"]).index
    ordered = [lines[method] for method in order]
    shown = {at for at, line in enumerate(ordered) if at < _SHOWN or line.own}
    for i in range(len(mean.columns)):
        shown.update([at for at, line in enumerate(ordered) if line.cells[i].best][:1])
    sizes = compared[(compared.task == MEAN) & (compared.measure == "avg_set_size")]
    return Matrix(
        alpha,
        list(mean.columns),
        [line for at, line in enumerate(ordered) if at in shown],
        [line for at, line in enumerate(ordered) if at not in shown],
        holding=int(sizes.holds.sum()),
        count=Counter(sizes.reading),
        bests=list(_bests(every, compared, tasks, own)),
        parts=list(_parts(lines, list(mean.columns), sizes)),
        plots=size_and_gap(_points(lines, sizes)),
        forest=forest(sizes, _SHOWN, "classes a set"),
    )


def _coverage(task: str) -> str:
    return f"coverage: {title(task)}"


def _combinations(name: str) -> str:
    return f"combinations: {title(name)}"


def _bests(
    every: pd.DataFrame, compared: pd.DataFrame, tasks: Sequence[str], own: tuple[str, ...]
) -> Iterator[Best]:
    """The best of each task and measure, those of the mean over tasks and of all at once first."""
    of = {measure: by_method(every, tasks, measure) for measure in _CALLED}

    def cell(measure: str, task: str, method: tuple[str, ...]) -> Cell:
        values = of[measure][task][method]
        return Cell(values.mean(), values.std())

    for task in (MEAN, JOINT, *tasks[:_TASKS]):
        for measure, called in _CALLED.items():
            family = compared[(compared.task == task) & (compared.measure == measure)]
            for row in family[family.best].itertuples():
                method = (row.head, row.space, row.score, row.taxonomy)
                yield Best(
                    title(task),
                    "combinations" if task == JOINT and measure == "avg_set_size" else called,
                    method,
                    cell(measure, task, method),
                    rivals=int(family.may_be_best.sum()) - 1,
                    own=cell(measure, task, own),
                    beside=row,
                )


def _parts(
    lines: Mapping[tuple[str, ...], Line], columns: list[str], sizes: pd.DataFrame
) -> Iterator[Part]:
    """The smallest sets with each head, each space, each score and each taxonomy."""
    wanted = [columns.index(c) for c in (*_COLUMNS[:2], _combinations(JOINT))]
    fair = sizes[sizes.holds]
    for part in _METHOD:
        for value in sizes[part].unique():
            some = fair[fair[part] == value]
            for row in some.nsmallest(1, "mean").itertuples():
                method = (row.head, row.space, row.score, row.taxonomy)
                cells = [lines[method].cells[at] for at in wanted]
                yield Part(part, value, method, cells, row.may_be_best)


def _points(lines: Mapping[tuple[str, ...], Line], sizes: pd.DataFrame) -> pd.DataFrame:
    """As ``size_and_gap`` wants them: set size and gap are the first two columns of a line."""
    points = sizes[[*_METHOD, "holds", "may_be_best"]].reset_index(drop=True)
    cells = [lines[method].cells for method in zip(*(points[p] for p in _METHOD), strict=True)]
    points["size"], points["size_std"] = zip(*((c[0].mean, c[0].std) for c in cells), strict=True)
    points["gap"], points["gap_std"] = zip(*((c[1].mean, c[1].std) for c in cells), strict=True)
    points["own"] = sizes.reading.to_numpy() == "own"
    return points


def _by_alpha(
    of_alpha: Mapping[float, pd.DataFrame],
    compared: pd.DataFrame,
    tasks: list[str],
    nearest: float,
    own: tuple[str, ...],
) -> Iterator[str]:
    """Of each head and space the method with the smallest sets at ``nearest``, at every alpha."""
    if len(of_alpha) < 2:
        return
    sizes = {alpha: by_method(at, tasks, "avg_set_size") for alpha, at in of_alpha.items()}
    for of, unit in ((MEAN, "classes a set"), (JOINT, "combinations a set")):
        family = compared[(compared.task == of) & (compared.measure == "avg_set_size")]
        fair = family[family.holds & (family.alpha == nearest)].set_index(_METHOD)["mean"]
        smallest = fair.groupby(["head", "space"], sort=False).idxmin()
        curves = [
            Curve(
                f"{method[0]} head, {method[1]} space: {method[2]}, {method[3]}"
                + (" (the bundle's)" if method == own else ""),
                [size[of][method].mean() for size in sizes.values()],
                [size[of][method].std() for size in sizes.values()],
                own=method == own,
            )
            for method in dict.fromkeys([own, *smallest])
        ]
        yield size_by_alpha(title(of), unit, list(of_alpha), curves)


def _distributions(
    often: pd.DataFrame, facts: Mapping[str, Any], own: tuple[str, ...]
) -> Iterator[Distribution]:
    """How the own method's coverage of each task is distributed, beside its law if that is known.

    The law is that of scores which share one threshold, one of each picture: a task's in the
    taskwise space, and the combinations' in the joint space, by the taxonomy ``task``.
    """
    (_, space, _, taxonomy), alpha = own, facts["alpha"]
    lawful = [JOINT] if space == JOINT else list(facts["tasks"])
    tasks = list(facts["tasks"])
    # One task alone is all at once.
    shown = often[~often.task.isin([*tasks[_TASKS:], *([JOINT] if len(tasks) == 1 else [])])]
    for task, of_task in shown.groupby("task", sort=False):
        numbers = zip(of_task.n_calib, of_task.n_test, strict=True)
        laws = [CoverageLaw(int(n), int(m), alpha) for n, m in numbers]
        known = taxonomy == "task" and task in lawful
        plot = coverage_distribution(
            *(title(str(task)), of_task.coverage.to_numpy(), of_task.n_test.to_numpy()),
            laws if known else [],
            1 - alpha,
        )
        often_law = Counter(laws)
        mean, std = np.average(
            [(law.mean, law.std) for law in often_law], 0, list(often_law.values())
        )
        measured = Cell(of_task.coverage.mean(), of_task.coverage.std())
        yield Distribution(
            title(str(task)), plot, measured, Cell(float(mean), float(std)) if known else None
        )
