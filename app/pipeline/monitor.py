"""Does a bundle's promise hold for the pictures that people gave the truth for?

What is watched is the bundle's own method at its own alpha, whatever the person who answered was
looking at: the sets are found again from the features. Of each task, and of all at once, there is
the coverage so far with a bound that may be looked at after every answer, and a test of whether
the pictures are still exchangeable with those of calibration.

The bound and the test of each are made so strict that of *all* of them together one is wrong, at
any time, with probability at most ``MISTAKEN_BOUND`` and ``FALSE_ALARM``: each gets an equal part.

What is promised is a mean over draws of the calibration pictures. One draw's sets have a coverage
of their own, about as often below the promise as above, and many answers show it. So a promise is
called broken only where the bounds lie below what the draw may leave of it (``least_rate``). For
that the bound and the draw share ``MISTAKEN_BOUND``, half each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.bundle import Facts
from app.conformal.law import least_rate
from app.conformal.method import Method
from app.conformal.monitoring import Coverage, ExchangeabilityTest
from app.conformal.spaces import JOINT, completely_labelled, joint_labels

#: The probability that a bound ever fails, and that an alarm ever rings without a reason.
MISTAKEN_BOUND, FALSE_ALARM = 0.05, 0.01

#: So many rows at a time go through the heads.
_BLOCK = 500

Probs = Mapping[str, NDArray[np.float64]]
Labels = Mapping[str, NDArray[np.int64]]


class Watched(Protocol):
    """What is monitored of a ``Classifier``."""

    facts: Facts
    classes: dict[str, list[str]]

    def probabilities(self, features: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """In the bundle's label space."""

    def method(self, score: str | None = None, taxonomy: str | None = None) -> Method:
        """A calibrated method, as the bundle was trained unless told."""


@dataclass(frozen=True)
class Course:
    """How it went for one task, or for all at once (``JOINT``).

    Attributes:
        covered: whether each set held the truth, bool (n,), in order.
        promised: the coverage that is promised, None where none is of this alone.
        least: what of it the draw of the calibration pictures may take, with probability as
            ``delta``: coverage of exchangeable pictures that is no less breaks no promise.
        delta: the probability that the bound of this one ever fails.
        log_martingale: of the test, the evidence now; None where nothing is tested.
        log_peak: the most it has been.
        log_limit: the evidence at which the alarm rings.
    """

    covered: NDArray[np.bool_]
    promised: float | None
    least: float | None
    delta: float
    log_martingale: float | None
    log_peak: float | None
    log_limit: float | None

    def interval(self, n: int | None = None) -> tuple[float, float]:
        """Bounds of the coverage after the first n answers, or all."""
        covered = self.covered[:n]
        return Coverage(int(covered.sum()), len(covered)).interval(self.delta)

    @property
    def alarm(self) -> bool | None:
        """Whether the evidence was ever enough; None where nothing is tested."""
        if self.log_peak is None or self.log_limit is None:
            return None
        return self.log_peak >= self.log_limit

    @property
    def kept(self) -> bool:
        """Whether the promise may be kept: the bounds do not lie below what chance leaves of it."""
        return self.least is None or self.interval()[1] >= self.least


class Monitor:
    """The courses of a bundle, which take in more and more labelled pictures."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._alpha: float = watched.facts["alpha"]
        method = watched.facts["method"]
        self._method = watched.method()
        # Scores are tested in the groups that have a promise each, where those are the classes.
        # Clusters and tasks together have none that one task's scores alone could break, or pool
        # scores that are not alike: there a task's scores are one group.
        by = "class" if method["taxonomy"] == "class" else "task"
        self._tested = watched.method(taxonomy=by)
        calibration = self._tested.calibration
        self._tests: dict[str, ExchangeabilityTest] = {}
        for name, groups in calibration.groups.items():
            members = range(int(groups.min()), int(groups.max()) + 1)
            self._tests[name] = ExchangeabilityTest.of_groups(
                (calibration.scores[group].tolist() for group in members), seed=len(self._tests)
            )
        together = self._method.simultaneous
        if together is not None:
            self._tests[JOINT] = ExchangeabilityTest(together.worst.tolist(), len(self._tests))
        self._covered: dict[str, list[NDArray[np.bool_]]] = {}
        # How many pictures came of each group of the bundle's own calibration, by task or JOINT.
        self._came = {
            name: np.zeros(len(self._method.calibration.scores), np.int64)
            for name in self._method.calibration.groups
        }

    def update(self, features: NDArray[np.float32], labels: Labels) -> None:
        """Take in m pictures in order: features (m, d), and codes {task: (m,)}, -1 unknown."""
        for start in range(0, len(features), _BLOCK):
            rows = slice(start, start + _BLOCK)
            self._update(features[rows], {task: codes[rows] for task, codes in labels.items()})

    def _update(self, features: NDArray[np.float32], labels: Labels) -> None:
        probs = self._watched.probabilities(features)
        outcomes = self._method.answer(probs, self._alpha).outcomes(labels)
        for name, came in outcomes.items():
            self._covered.setdefault(name, []).append(came.covered)
        calibration = self._tested.calibration
        if JOINT in probs:
            labels = {JOINT: joint_labels(labels, self._method.classes)}
        for name, groups in self._method.calibration.groups.items():
            told = labels[name][labels[name] >= 0]
            self._came[name] += np.bincount(groups[told], minlength=len(self._came[name]))
        for name, scores in calibration.of_truth(probs, labels).items():
            groups = calibration.groups[name] - calibration.groups[name].min()
            for row in np.flatnonzero(labels[name] >= 0).tolist():
                self._tests[name].update(float(scores[row]), int(groups[labels[name][row]]))
        together = self._method.simultaneous
        if together is not None:
            known = completely_labelled(labels)
            if known.any():
                worst = together.of_truth(
                    {task: p[known] for task, p in probs.items()},
                    {task: codes[known] for task, codes in labels.items()},
                )
                for score in worst.tolist():
                    self._tests[JOINT].update(score)

    def courses(self) -> dict[str, Course]:
        """Of each task, and under ``JOINT`` of all at once where there are several."""
        classes = self._watched.classes
        names = [*classes, JOINT] if len(classes) > 1 else list(classes)
        tests = self._tests
        if len(classes) == 1 and JOINT in tests:  # One task in the joint space.
            tests = {names[0]: tests[JOINT]}
        of_all = self._method.calibration.taxonomy in ("global", "cluster") and len(tests) > 1
        delta = MISTAKEN_BOUND / (2 * len(names))
        courses = {}
        for name in names:
            test = tests.get(name)
            courses[name] = Course(
                np.concatenate([np.empty(0, bool), *self._covered.get(name, ())]),
                None if of_all and name != JOINT else 1 - self._alpha,
                None if of_all and name != JOINT else self._least(name, delta),
                delta,
                None if test is None else test.log_value,
                None if test is None else test.log_peak,
                None if test is None else math.log(len(tests) / FALSE_ALARM),
            )
        return courses

    def _least(self, name: str, delta: float) -> float:
        """The least coverage that the draw of the calibration pictures leaves."""
        if name == JOINT and self._method.simultaneous is not None:
            return least_rate([len(self._method.simultaneous.worst)], [1], self._alpha, delta)
        # In the joint space a task is covered wherever all tasks are.
        came = self._came[name if name in self._came else JOINT]
        sizes = [len(scores) for scores in self._method.calibration.scores]
        # Until one is told of whose group is known, groups may well come as in calibration.
        return least_rate(sizes, came.tolist() if came.any() else sizes, self._alpha, delta)


def as_json(courses: Mapping[str, Course]) -> dict[str, dict[str, object]]:
    """The courses in numbers that JSON can say."""
    told: dict[str, dict[str, object]] = {}
    for name, course in courses.items():
        n, covered = len(course.covered), int(course.covered.sum())
        told[name] = {
            "n": n,
            "covered": covered,
            "coverage": covered / n if n else None,
            "interval": list(course.interval()),
            "promised": course.promised,
            "least": course.least,
            "kept": course.kept,
            "alarm": course.alarm,
            "log_martingale": course.log_martingale,
        }
    return told
