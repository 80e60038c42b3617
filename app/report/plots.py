"""The report's plots, each a function from numbers to an SVG that can stand in a page."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib

matplotlib.use("svg")  # No screen is needed, and none is looked for.

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.stats import betabinom

from app.conformal.law import CoverageLaw
from app.conformal.metrics import Rates
from app.conformal.reliability import ReliabilityCurve

_COLOURS = ("#2456a6", "#c2571a", "#2f7d4f", "#8a3b8f", "#7a6a12", "#b03052")
#: A plot by class shows so many.
CLASSES = 40

_STYLE: Any = {
    "font.size": 9,
    "text.parse_math": False,  # A class may be called $5.
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "svg.hashsalt": "sureset",  # The same numbers give the same bytes.
    "svg.fonttype": "none",  # The reader's fonts have scripts that the one drawn with has not.
}


def coverage_by_alpha(
    alphas: Sequence[float], coverage: Mapping[str, Sequence[float]], n_calib: int, n_test: int
) -> str:
    """Measured against promised coverage, with where 95 % of the test splits should fall."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 3.6), layout="constrained")
        axes = figure.subplots()
        promised = 1 - np.asarray(alphas)
        laws = [CoverageLaw(n_calib, n_test, alpha) for alpha in alphas]
        low, high = zip(*(law.interval() for law in laws), strict=True)
        axes.fill_between(
            promised, low, high, color="#d9dee7", label="95 % of draws, one threshold"
        )
        axes.plot(promised, promised, color="#8b95a5", linewidth=0.8)
        for colour, (name, values) in zip(_COLOURS * 9, coverage.items(), strict=False):
            axes.plot(promised, values, color=colour, marker="o", markersize=3, label=_short(name))
        axes.set(xlabel="coverage promised", ylabel="coverage measured", title="Promise and proof")
        axes.legend(frameon=False, loc="lower right", fontsize=7)
        return _svg(figure, "measured against promised coverage")


def set_sizes(sizes: Mapping[str, NDArray[np.int64]]) -> str:
    """How often each set size occurs, by task."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 3.6), layout="constrained")
        axes = figure.subplots()
        largest = max(int(s.max()) for s in sizes.values())
        width = 0.8 / len(sizes)
        for i, (name, s) in enumerate(sizes.items()):
            share = np.bincount(s, minlength=largest + 1) / len(s)
            places = np.arange(largest + 1) + (i - (len(sizes) - 1) / 2) * width
            axes.bar(places, share, width, color=_COLOURS[i % len(_COLOURS)], label=_short(name))
        axes.set(xlabel="classes in the set", ylabel="share of pictures", title="Set sizes")
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.legend(frameon=False)
        return _svg(figure, "how often each set size occurs")


def class_coverage(task: str, names: Sequence[str], coverage: Rates, promised: float) -> str:
    """Coverage of each class with its exact 95 % interval, against the promise.

    Of more than ``CLASSES`` those whose intervals end lowest, the worst first.
    """
    low, high = coverage.interval
    below = coverage.below(promised)
    rows = np.arange(len(names))
    if len(names) > CLASSES:
        rows = np.lexsort((coverage.rate, high))[:CLASSES]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 0.9 + 0.24 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(promised, color="#8b95a5", linewidth=0.8)
        for colour, group in ((_COLOURS[0], ~below), (_COLOURS[1], below)):
            places = np.flatnonzero((group & (coverage.n > 0))[rows])
            of = rows[places]
            axes.hlines(places, low[of], high[of], color=colour, linewidth=1.4)
            axes.plot(coverage.rate[of], places, "o", color=colour, markersize=4)
        axes.set(
            yticks=np.arange(len(rows)),
            yticklabels=[f"{_short(names[c])} ({coverage.n[c]})" for c in rows.tolist()],
            xlim=(0, 1.02),
            ylim=(len(rows) - 0.4, -0.6),
            xlabel="coverage",
        )
        # Over the whole figure: names of classes leave the axes little width.
        title = f"{_short(task)}: coverage by class"
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        return _svg(figure, f"{task}: coverage of each class with its interval")


def coverages_and_laws(laws: Mapping[str, tuple[NDArray[np.float64], int]], promised: float) -> str:
    """The law of each number of covered pictures, (m + 1,), and where the measured number lies."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 1.1 + 0.9 * len(laws)), layout="constrained")
        rows = figure.subplots(len(laws), sharex=True, squeeze=False)[:, 0]
        lowest = 1.0
        for axes, (name, (law, covered)) in zip(rows, laws.items(), strict=True):
            m = len(law) - 1
            up_to = np.cumsum(law)
            first = min(int(np.searchsorted(up_to, 1e-3)), covered)
            lowest = min(lowest, (first - 1) / m)
            axes.stairs(law, (np.arange(m + 2) - 0.5) / m, color="#b9c8e3", fill=True)
            axes.axvline(promised, color="#8b95a5", linewidth=0.8)
            axes.axvline(covered / m, color=_COLOURS[1], linewidth=1.6)
            axes.set(yticks=[], ylim=(0, None))
            axes.set_title(f"{_short(name)}: {covered / m:.3f} of {m}", fontsize=9)
            axes.spines["left"].set_visible(False)
        figure.suptitle("Coverage and its law", x=0.01, ha="left", fontsize=10, fontweight="bold")
        rows[-1].set(
            xlabel="coverage (orange: measured here, grey: promised)", xlim=(max(0, lowest), 1.005)
        )
        return _svg(figure, "measured coverage of each task within the law of its coverage")


def outlier_p_values(p_values: NDArray[np.float64], n_calib: int) -> str:
    """How the outlier p-values (m,) are distributed, with where 95 % of the bars should end.

    The p-values are ranks among ``n_calib`` pictures.
    """
    bins, m = 10, len(p_values)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 2.8), layout="constrained")
        axes = figure.subplots()
        count, edges = np.histogram(p_values, bins, (0, 1))
        low, high = bar_limits(m, n_calib, bins)
        axes.stairs(
            high, edges, baseline=low, fill=True, color="#d9dee7", label="95 % of draws, if alike"
        )
        axes.stairs(count, edges, color=_COLOURS[0], linewidth=1.6, label="measured")
        axes.set(
            xlim=(0, 1),
            ylim=(0, 1.25 * max(count.max(), high.max())),
            xlabel="outlier p-value",
            ylabel="pictures",
            title="Like the calibration pictures?",
        )
        axes.legend(frameon=False, loc="upper right", ncols=2)
        return _svg(figure, "distribution of the outlier p-values of the test pictures")


def bar_limits(m: int, n_calib: int, bins: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Between which counts 95 % of draws have each bar of m p-values, two of (bins,).

    All are ranks among the same n calibration pictures, and k of the n + 1 ranks fall into a bar.
    So its count is beta-binomial(m, k, n + 1 - k): wider than the binomial law of p-values that
    know nothing of each other.
    """
    ranks = np.arange(1, n_calib + 2) / (n_calib + 1)
    k = np.histogram(ranks, bins, (0, 1))[0]
    some = np.clip(k, 1, n_calib)  # A bar without ranks stays empty.
    low, high = (
        np.where(k > 0, betabinom.ppf(tail, m, some, n_calib + 1 - some), 0)
        for tail in (0.025, 0.975)
    )
    return low, high


def reliability_diagram(task: str, curve: ReliabilityCurve) -> str:
    """How often the top class is the truth by its probability, over how often that one occurs."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 4.2), layout="constrained")
        axes, counts = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        axes.plot([0, 1], [0, 1], color="#8b95a5", linewidth=0.8)
        some = curve.correct.n > 0
        low, high = (end[some] for end in curve.correct.interval)
        at, rate = curve.confidence[some], curve.correct.rate[some]
        axes.vlines(at, low, high, color=_COLOURS[0], linewidth=1.4)
        axes.plot(at, rate, "o", color=_COLOURS[0], markersize=4)
        axes.set(
            ylim=(-0.02, 1.02),
            ylabel="rate at which it is right",
            title=f"{_short(task)}\n"
            f"expected calibration error {curve.expected_calibration_error:.3f}",
        )
        counts.stairs(curve.correct.n, curve.edges, color="#b9c3d3", fill=True)
        counts.set(xlim=(0, 1.02), xlabel="probability of the top class", ylabel="pictures")
        return _svg(figure, f"{task}: how often the top class is right, by its probability")


def coverage_distribution(
    name: str,
    coverage: NDArray[np.float64],
    n_test: NDArray[np.int64],
    laws: Sequence[CoverageLaw],
    promised: float,
) -> str:
    """How the coverage of many random divisions is distributed, beside its law.

    Args:
        name: the task's, for the title.
        coverage: of each division, (R,).
        n_test: the number of pictures it was measured on, (R,).
        laws: the law of each division's coverage (they differ where labels are unknown), or none.
        promised: 1 - alpha.
    """
    edges = _edges(coverage, n_test, bins=24)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        axes = figure.subplots()
        share = np.histogram(coverage, edges)[0] / len(coverage)
        axes.stairs(share, edges, fill=True, color="#b9c8e3", label="measured")
        if laws:
            often = Counter(laws)
            below = np.average(
                [law.cdf(np.floor(edges * law.m)) for law in often], 0, list(often.values())
            )
            axes.stairs(np.diff(below), edges, color=_COLOURS[0], linewidth=1.4, label="its law")
        axes.axvline(promised, color=_COLOURS[1], linewidth=1, label="promised")
        axes.set(xlabel="coverage", ylabel="share of the divisions", title=_short(name))
        axes.legend(frameon=False, loc="upper left")
        return _svg(figure, f"{name}: coverage of many random divisions")


def _edges(
    coverage: NDArray[np.float64], n_test: NDArray[np.int64], bins: int
) -> NDArray[np.float64]:
    """Edges of about so many bins, each between two numbers of covered pictures."""
    m = int(np.median(n_test))
    # One bin more on either side, so that the law is seen to end where the coverage does.
    low, high = np.floor(coverage.min() * m), np.ceil(coverage.max() * m)
    step = max(1, round((high - low) / bins))
    return (np.arange(low - step, min(high + step, m) + step, step) + 0.5) / m


def _short(name: str) -> str:
    """A name that leaves room for its plot, on one line."""
    name = " ".join(name.split())
    return name if len(name) <= 24 else name[:23] + "…"


def _svg(figure: Figure, shows: str) -> str:
    """The figure as an element of a page; ``shows`` is for those who cannot see it."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # Only their widths are guessed.
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    label = f'<svg role="img" aria-label="{escape(shows)}"'
    return text[text.index("<svg") :].replace("<svg", label, 1)
