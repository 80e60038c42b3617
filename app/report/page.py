"""The report of one bundle: a page in one file that opens without a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray

from app.conformal.evaluation import Evaluation
from app.conformal.method import BONFERRONI, Method
from app.conformal.metrics import STRATA
from app.conformal.spaces import JOINT
from app.report.plots import class_coverage, coverage_by_alpha, reliability_diagram, set_sizes

_ALPHAS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)

PAGES = Environment(loader=PackageLoader("app.report", "."), autoescape=True, trim_blocks=True)


def write_report(
    path: Path,
    facts: Mapping[str, Any],
    measured: Evaluation,
    method: Method,
    probs: Mapping[str, NDArray[np.float64]],
    labels: Mapping[str, NDArray[np.int64]],
) -> None:
    """Write the page for one bundle.

    Args:
        facts: the bundle's, as far as they are known before it is sealed.
        measured: what came of the test pictures at the bundle's alpha.
        method: the calibrated method that was measured.
        probs: the test pictures' probabilities in its label space, by task (n, C).
        labels: the test pictures' labels {task: (n,)}, -1 where unknown.
    """
    names: dict[str, list[str]] = facts["tasks"]
    promised = 1 - measured.alpha
    coverage: dict[str, list[float]] = {title(task): [] for task in measured.results}
    for a in _ALPHAS:
        for task, metrics in method.answer(probs, a).measure(labels, a).items():
            coverage[title(task)].append(metrics.coverage)
    n_test = min(m.n_test for m in measured.results.values())
    sets = method.answer(probs, measured.alpha).sets
    page = PAGES.get_template("report.html").render(
        facts=facts,
        results={title(task): metrics for task, metrics in measured.results.items()},
        weighted=measured.weighted,
        mean_size=mean_size,
        unlimited=_named(names, measured.unlimited),
        short=_named(names, {t: c.below(promised) for t, c in measured.by_class.items()}),
        strata=_strata(measured),
        plots=[
            coverage_by_alpha(_ALPHAS, coverage, facts["splits"]["calib"], n_test),
            set_sizes({task: s.sum(axis=1) for task, s in sets.items()}),
        ],
        class_plots=[
            class_coverage(task, classes, measured.by_class[task], promised)
            for task, classes in names.items()
        ],
        brier=measured.brier,
        diagrams=[reliability_diagram(task, curve) for task, curve in measured.curves.items()],
    )
    path.write_text(page, encoding="utf-8")


def mean_size(size: float) -> str:
    """A mean set size to read: 1.44, but 1.2e+30 where the combinations are countless."""
    return format(size, ".2f" if size < 1e6 else ".1e")


def title(name: str) -> str:
    """What a name of ``Answers.outcomes`` is called on a page: a task is called as it is."""
    return {JOINT: "all at once", BONFERRONI: "all at once, by Bonferroni"}.get(name, name)


def _named(
    names: Mapping[str, list[str]], which: Mapping[str, NDArray[np.bool_]]
) -> dict[str, list[str]]:
    """The names of the chosen classes, of the tasks that have some."""
    chosen = {
        task: [classes[c] for c in np.flatnonzero(which[task])] for task, classes in names.items()
    }
    return {task: classes for task, classes in chosen.items() if classes}


def _strata(measured: Evaluation) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each task, what is known of each stratum of set sizes: {title: {sizes: numbers}}."""
    occur = np.any([found.n > 0 for found in measured.by_size.values()], axis=0)
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for task, found in measured.by_size.items():
        low, high = found.interval
        below = found.below(1 - measured.alpha)
        rows[title(task)] = {
            _range(*STRATA[i]): {
                "n": found.n[i],
                "rate": found.rate[i],
                "low": low[i],
                "high": high[i],
                "below": below[i],
            }
            for i in np.flatnonzero(occur)
        }
    return rows


def _range(least: int, most: int | None) -> str:
    return f"{least:,} or more" if most is None else f"{least} to {most:,}"
