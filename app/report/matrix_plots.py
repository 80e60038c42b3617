"""The plots of the experiments: all methods at a glance, their differences, and what alpha does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, StrMethodFormatter

from app.conformal import SCORES, TAXONOMIES
from app.report.plots import _COLOURS, _STYLE, _svg

_MARKERS = dict(zip(TAXONOMIES, "osD^v", strict=True))
_OF_SCORE = dict(zip(SCORES, _COLOURS, strict=True))
_GREY, _INK = "#8b95a5", "#1c2430"
#: Set sizes that differ by more than this factor stand on a logarithmic axis.
_LOGARITHMIC = 4
_STEPS = [step * 10**power for power in range(6) for step in (1, 1.5, 2, 3, 5, 7)]


def size_and_gap(points: pd.DataFrame) -> list[str]:
    """Set size against class coverage gap: a plot for each head and space, on the same axes.

    Args:
        points: of each method its name in columns, ``size``, ``size_std``, ``gap``, ``gap_std``,
            and whether its coverage ``holds``, it ``may_be_best``, and it is the ``own``.
    """
    sizes = (
        max(0.01, (points["size"] - points.size_std).min()),
        (points["size"] + points.size_std).max(),
    )
    most = (points.gap + points.gap_std).max()
    plots = []
    for (head, space), some in points.groupby(["head", "space"], sort=False):
        with matplotlib.rc_context(_STYLE):
            # Placed by hand: finding out the room for so many marks takes as long as drawing them.
            figure = Figure(figsize=(4.6, 3.4))
            axes = figure.add_axes((0.16, 0.14, 0.82, 0.78))
            colours = np.array([_OF_SCORE[score] for score in some.score])
            size, gap = some["size"].to_numpy(), some.gap.to_numpy()
            faint: Any = {"colors": colours.tolist(), "linewidth": 0.7, "alpha": 0.3}
            axes.hlines(gap, size - some.size_std, size + some.size_std, **faint)
            axes.vlines(size, gap - some.gap_std, gap + some.gap_std, **faint)
            for taxonomy, marker in _MARKERS.items():
                of = (some.taxonomy == taxonomy).to_numpy()
                inside = np.where(some.holds, colours, "white")[of].tolist()
                edges = colours[of].tolist()
                axes.scatter(size[of], gap[of], 28, inside, marker=marker, edgecolors=edges)
            own = some.own.to_numpy()
            axes.scatter(size[own], gap[own], 110, "none", edgecolors=_INK)
            _name_smallest(axes, some[some.holds])
            _size_axis(axes, sizes)
            axes.set(
                ylim=(0, 1.05 * most),
                xlabel="classes a set",
                ylabel="class coverage gap",
                title=f"{head} head, {space} space",
            )
            plots.append(
                _svg(figure, f"set size against class coverage gap, {head} head, {space} space")
            )
    return plots


def size_and_gap_legend() -> str:
    """What colours and markers of ``size_and_gap`` mean."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9.2, 0.62))
        scores = [
            Line2D([], [], color=colour, marker="s", linewidth=0, label=score)
            for score, colour in _OF_SCORE.items()
        ]
        taxonomies = [
            Line2D([], [], color=_GREY, marker=marker, linewidth=0, label=taxonomy)
            for taxonomy, marker in _MARKERS.items()
        ]
        others = [
            Line2D([], [], color=_GREY, marker="o", mfc="white", lw=0, label="below its promise"),
            Line2D([], [], color=_INK, marker="o", mfc="none", ms=10, lw=0, label="the bundle's"),
        ]
        for handles, height in ((scores, 0.75), ([*taxonomies, *others], 0.22)):
            figure.legend(
                handles=handles, loc="center", bbox_to_anchor=(0.5, height), ncols=9, frameon=False
            )
        return _svg(figure, "what the colours and markers mean")


def _name_smallest(axes: Axes, holding: pd.DataFrame) -> None:
    """Name the method with the smallest sets of those whose coverage holds."""
    if holding.empty:
        return
    best = holding.iloc[int(holding["size"].argmin())]
    axes.annotate(
        f"{best.score}, {best.taxonomy}: {best['size']:.2f}",
        (best["size"], best.gap),
        xytext=(0.97, 0.95),
        textcoords="axes fraction",
        ha="right",
        va="top",
        arrowprops={"arrowstyle": "-", "color": _GREY, "linewidth": 0.7},
    )


def _size_axis(axes: Axes, limits: tuple[float, float]) -> None:
    low, high = limits
    if high / low < _LOGARITHMIC:
        room = 0.04 * (high - low)
        axes.set_xlim(low - room, high + room)
        return
    axes.set_xscale("log")
    axes.set_xlim(low / 1.08, high * 1.08)
    if high < _STEPS[-1]:
        axes.xaxis.set_major_locator(FixedLocator(_STEPS))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())


def forest(family: pd.DataFrame, shown: int, unit: str) -> str:
    """Differences from the bundle's own method with their 95 % intervals, the best first.

    Args:
        family: one of ``comparisons.compare``.
        shown: at most so many methods, of those whose coverage holds.
        unit: of what is compared.
    """
    some = family[family.holds & (family.reading != "own")].nsmallest(shown, "mean")
    colour_of = {"smaller": _COLOURS[2], "larger": _COLOURS[1], "not told apart": _GREY}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.2, 0.95 + 0.235 * max(1, len(some))), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=_GREY, linewidth=0.8)
        for row, method in enumerate(some.itertuples()):
            colour = colour_of[method.reading]
            axes.hlines(row, method.low, method.high, color=colour, linewidth=1.5)
            axes.plot(method.difference, row, "o", color=colour, markersize=4.5)
        axes.set(
            yticks=range(len(some)),
            yticklabels=[_named(method) for method in some.itertuples()],
            ylim=(len(some) - 0.4, -0.6),
            xlabel=f"difference in {unit}",
        )
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return _svg(figure, "differences from the bundle's own method")


def _named(method: Any) -> str:
    return f"{method.head} head, {method.space} space, {method.score}, {method.taxonomy}"


@dataclass(frozen=True)
class Curve:
    """One method's mean and standard deviation at each alpha."""

    label: str
    mean: Sequence[float]
    std: Sequence[float]
    own: bool


def size_by_alpha(title: str, unit: str, alphas: Sequence[float], curves: Sequence[Curve]) -> str:
    """How set sizes grow with the coverage that is promised, of a few methods with their spread."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 3.9), layout="constrained")
        axes = figure.subplots()
        promised = 1 - np.asarray(alphas)
        room = 0.012 * (promised.max() - promised.min())
        colours = iter(_COLOURS * 9)
        for i, curve in enumerate(curves):
            colour = _INK if curve.own else next(colours)
            axes.errorbar(
                promised + (i - (len(curves) - 1) / 2) * room,  # Beside each other, to be seen.
                *(curve.mean, curve.std),
                color=colour,
                linestyle="--" if curve.own else "-",
                linewidth=1.4,
                marker="o",
                markersize=4,
                elinewidth=0.8,
                capsize=2,
                label=curve.label,
            )
        axes.set(xticks=promised, xlabel="coverage promised", ylabel=unit, title=title)
        sizes = [size for curve in curves for size in curve.mean]
        if min(sizes) > 0 and max(sizes) > _LOGARITHMIC**2 * min(sizes):
            axes.set_yscale("log")
            if max(sizes) < _STEPS[-1]:
                axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        figure.legend(frameon=False, loc="outside lower left", fontsize=8)
        return _svg(figure, f"{title}: set size against coverage promised")
