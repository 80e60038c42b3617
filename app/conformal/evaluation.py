"""All that is measured of a method on test pictures, for a report to show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.conformal.method import Answers, Method
from app.conformal.metrics import Metrics, Rates, Weighted, by_class, by_size, measure, weighted
from app.conformal.reliability import ReliabilityCurve, brier_score, reliability_curve
from app.conformal.spaces import JOINT, marginalise, project


@dataclass(frozen=True)
class Evaluation:
    """Measured at one error rate. A picture counts for the tasks for which its label is known.

    Attributes:
        alpha: the error rate.
        answers: what was said of the pictures.
        results: metrics of each task and, under ``JOINT``, of all at once.
        weighted: the tasks' own metrics together.
        by_class: coverage of each task's classes.
        by_size: coverage of each stratum of set sizes, of each task and ``JOINT``.
        unlimited: classes without a finite threshold, which are in every set, bool (C_task,).
        curves: reliability of each task's probabilities.
        brier: Brier score of each task's probabilities.
    """

    alpha: float
    answers: Answers
    results: dict[str, Metrics]
    weighted: Weighted
    by_class: dict[str, Rates]
    by_size: dict[str, Rates]
    unlimited: dict[str, NDArray[np.bool_]]
    curves: dict[str, ReliabilityCurve]
    brier: dict[str, float]


def evaluate(
    method: Method,
    probs: Mapping[str, NDArray[np.float64]],
    labels: Mapping[str, NDArray[np.int64]],
    alpha: float,
) -> Evaluation:
    """Measure a calibrated method on pictures that neither trained nor calibrated it.

    Args:
        probs: in the method's label space, {task: (n, C_task)} or {JOINT: (n, product of C)}.
        labels: of each task, (n,), -1 where unknown.

    Raises:
        ValueError: no picture has a known label for every task.
    """
    classes = method.classes
    answers = method.answer(probs, alpha)
    outcomes = answers.outcomes(labels)
    results = {name: measure(came, alpha) for name, came in outcomes.items()}
    marginals = marginalise(probs[JOINT], classes) if JOINT in probs else probs
    return Evaluation(
        alpha=alpha,
        answers=answers,
        results=results,
        weighted=weighted(results, classes),
        by_class={task: by_class(outcomes[task], count) for task, count in classes.items()},
        by_size={name: by_size(o) for name, o in outcomes.items()},
        unlimited=unlimited(method, alpha),
        curves={task: reliability_curve(marginals[task], labels[task]) for task in classes},
        brier={task: brier_score(marginals[task], labels[task]) for task in classes},
    )


def unlimited(method: Method, alpha: float) -> dict[str, NDArray[np.bool_]]:
    """Classes without a finite threshold, {task: (C_task,)}: unseen in calibration, or too rare.

    In the joint space, the classes of a combination without one.
    """
    limits = method.calibration.thresholds(alpha)
    without = {name: np.isposinf(limit) for name, limit in limits.items()}
    if JOINT not in without:
        return without
    return {task: row[0] for task, row in project(without[JOINT][None], method.classes).items()}
