"""The report of one bundle: a page in one file that opens without a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray

from app.conformal.method import Method
from app.conformal.metrics import Metrics
from app.conformal.spaces import JOINT
from app.report.plots import class_coverage, coverage_by_alpha, set_sizes

_ALPHAS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)

_pages = Environment(loader=PackageLoader("app.report", "."), autoescape=True, trim_blocks=True)


def write_report(
    path: Path,
    facts: Mapping[str, Any],
    results: Mapping[str, Metrics],
    method: Method,
    probs: Mapping[str, NDArray[np.float64]],
    labels: Mapping[str, NDArray[np.int64]],
) -> None:
    """Write the page for one bundle.

    Args:
        facts: the bundle's, as far as they are known before it is sealed.
        results: metrics of the tasks and of all at once.
        method: the calibrated method that was measured.
        probs: the test pictures' probabilities in its label space, by task (n, C).
        labels: the test pictures' labels {task: (n,)}, -1 where unknown.
    """
    alpha = facts["alpha"]
    answers = method.answer(probs, alpha)
    names: dict[str, list[str]] = facts["tasks"]
    coverage: dict[str, list[float]] = {_title(task): [] for task in results}
    for a in _ALPHAS:
        for task, metrics in method.answer(probs, a).measure(labels, a).items():
            coverage[_title(task)].append(metrics.coverage)
    plots = [
        coverage_by_alpha(
            _ALPHAS, coverage, facts["splits"]["calib"], min(m.n_test for m in results.values())
        ),
        set_sizes({task: sets.sum(axis=1) for task, sets in answers.sets.items()}),
    ]
    unseen = {}
    for task, classes in names.items():
        known = np.flatnonzero(labels[task] >= 0)
        truth = labels[task][known]
        covered = answers.sets[task][known, truth]
        totals = np.bincount(truth, minlength=len(classes))
        hits = np.bincount(truth, covered, minlength=len(classes)).astype(int)
        plots.append(class_coverage(task, classes, hits.tolist(), totals.tolist(), 1 - alpha))
        if unlimited := _without_threshold(method, task, alpha):
            unseen[task] = [classes[c] for c in unlimited]
    page = _pages.get_template("report.html").render(
        facts=facts,
        results={_title(task): metrics for task, metrics in results.items()},
        plots=plots,
        unseen=unseen,
    )
    path.write_text(page, encoding="utf-8")


def _title(task: str) -> str:
    return "all at once" if task == JOINT else task


def _without_threshold(method: Method, task: str, alpha: float) -> list[int]:
    """Classes with too few calibration pictures for this alpha: they are in every set."""
    thresholds = method.calibration.thresholds(alpha)
    return np.flatnonzero(np.isinf(thresholds[task])).tolist() if task in thresholds else []
