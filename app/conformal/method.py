"""One method, whole: calibrated in a label space, it answers every task and all tasks at once.

In the taskwise space each task has its own sets, and ``simultaneous`` makes those that hold all
truths together, with Bonferroni's to compare. In the joint space the combinations of classes are
one ordinary task; a task's set holds the classes that occur in the set of combinations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.conformal.calibration import Calibration, calibrate
from app.conformal.metrics import Metrics, Outcomes, measure
from app.conformal.simultaneous import (
    SimultaneousCalibration,
    bonferroni,
    calibrate_simultaneously,
)
from app.conformal.spaces import (
    JOINT,
    completely_labelled,
    joint_labels,
    likeliest,
    marginalise,
    project,
)

#: The name of what came of Bonferroni's sets, beside the tasks' and ``JOINT``.
BONFERRONI = "joint (Bonferroni)"

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What is said of m pictures at one alpha.

    Attributes:
        sets: of each task, its prediction sets, (m, C_task).
        top: of each task, the likeliest class, (m,).
        joint_sets: of each task, the classes in the sets that hold all truths at once, (m, C_task).
        joint_top: of each task, its class in the likeliest combination, (m,).
        combinations: in the joint space, the combinations in the set, (m, product of C).
        bonferroni: in the taskwise space, the other sets that hold all truths at once, (m, C_task):
            only there to be compared, so worked out when it is asked for.
    """

    sets: dict[str, Bools]
    top: dict[str, Ints]
    joint_sets: dict[str, Bools]
    joint_top: dict[str, Ints]
    combinations: Bools | None = None
    by_bonferroni: Callable[[], dict[str, Bools]] | None = None

    @cached_property
    def bonferroni(self) -> dict[str, Bools] | None:
        return None if self.by_bonferroni is None else self.by_bonferroni()

    @property
    def joint_sizes(self) -> Floats:
        """The number of combinations in the joint sets, (m,): float, inf where beyond it."""
        if self.combinations is not None:
            return self.combinations.sum(axis=1, dtype=np.float64)
        return _combinations_in(self.joint_sets)

    def joint_size(self, row: int) -> int:
        """The number of combinations in one joint set, exactly, however enormous."""
        if self.combinations is not None:
            return int(self.combinations[row].sum())
        return math.prod(int(sets[row].sum()) for sets in self.joint_sets.values())

    def outcomes(self, labels: Mapping[str, Ints]) -> dict[str, Outcomes]:
        """What came of each task's sets and, under ``JOINT`` and ``BONFERRONI``, of all at once.

        Of ``labels`` {task: (m,)}, -1 is unknown: that picture is left out of that task, and of
        all at once.
        """
        results = {}
        for task, sets in self.sets.items():
            known = np.flatnonzero(labels[task] >= 0)
            truth = labels[task][known]
            results[task] = Outcomes(
                correct=self.top[task][known] == truth,
                covered=sets[known, truth],
                sizes=sets[known].sum(axis=1),
                truth=truth,
            )
        classes = {task: sets.shape[1] for task, sets in self.sets.items()}
        known = np.flatnonzero(completely_labelled({task: labels[task] for task in classes}))
        truths = {task: labels[task][known] for task in classes}
        # Only combinations that occur are numbered: there may be too many to number them all.
        occurring = np.zeros(len(known), np.int64)
        for task, count in classes.items():
            occurring = np.unique(occurring * count + truths[task], return_inverse=True)[1]
        correct = np.all([self.joint_top[t][known] == truths[t] for t in classes], axis=0)
        if self.combinations is not None:
            covered = self.combinations[known, joint_labels(truths, classes)]
        else:
            covered = np.all([self.joint_sets[t][known, truths[t]] for t in classes], axis=0)
        results[JOINT] = Outcomes(correct, covered, self.joint_sizes[known], occurring)
        if self.bonferroni is not None:
            covered = np.all([self.bonferroni[t][known, truths[t]] for t in classes], axis=0)
            sizes = _combinations_in(self.bonferroni)[known]
            results[BONFERRONI] = Outcomes(correct, covered, sizes, occurring)
        return results

    def measure(self, labels: Mapping[str, Ints], alpha: float) -> dict[str, Metrics]:
        """Metrics of each task and of all at once, by the names of ``outcomes``.

        Raises:
            ValueError: no picture has a known label for every task.
        """
        return {name: measure(came, alpha) for name, came in self.outcomes(labels).items()}


def _combinations_in(sets: Mapping[str, Bools]) -> Floats:
    """How many combinations have each class in its task's set, (m,): inf where beyond a float."""
    sizes = np.stack([members.sum(axis=1) for members in sets.values()])
    # A product with 0 is 0, whatever the others come to: inf times 0 would be NaN.
    with np.errstate(over="ignore"):
        some = np.prod(np.maximum(sizes, 1), axis=0, dtype=np.float64)
    return np.where((sizes == 0).any(axis=0), 0.0, some)


@dataclass(frozen=True)
class Method:
    """A calibrated method.

    Attributes:
        classes: the number of classes of each task.
        calibration: of the tasks, or of the one task ``JOINT``.
        simultaneous: in the taskwise space of several tasks, what makes all right at once.
    """

    classes: dict[str, int]
    calibration: Calibration
    simultaneous: SimultaneousCalibration | None

    @classmethod
    def calibrate(
        cls,
        probs: Mapping[str, Floats],
        labels: Mapping[str, Ints],
        classes: Mapping[str, int],
        score: str,
        taxonomy: str,
        seed: int,
    ) -> Method:
        """Calibrate on probabilities {task: (n, C_task)}, or {JOINT: (n, product of C)}.

        ``labels`` are the tasks' in either case: {task: (n,)}, -1 where unknown.
        """
        if JOINT in probs:
            numbers = {JOINT: joint_labels(labels, classes)}
            return cls(dict(classes), calibrate(probs, numbers, score, taxonomy, seed), None)
        return cls(
            dict(classes),
            calibrate(probs, labels, score, taxonomy, seed),
            # One task alone is right at once when it is right: a scale would cost it pictures.
            calibrate_simultaneously(probs, labels, score, taxonomy, seed)
            if len(classes) > 1
            else None,
        )

    def answer(self, probs: Mapping[str, Floats], alpha: float) -> Answers:
        """Answer probabilities in the same space as calibration's."""
        [answers] = self.answers(probs, [alpha])
        return answers

    def answers(self, probs: Mapping[str, Floats], alphas: Iterable[float]) -> Iterator[Answers]:
        """``answer`` at each alpha; what does not depend on it is worked out once."""
        if JOINT in probs:
            yield from self._jointly(probs, alphas)
            return
        top = {task: p.argmax(axis=1) for task, p in probs.items()}
        p = {} if self.simultaneous is None else self.simultaneous.scale.p_values(probs)
        for alpha in alphas:
            sets = self.calibration.predict(probs, alpha)
            if self.simultaneous is None:
                yield Answers(sets, top, joint_sets=sets, joint_top=top)
                continue
            yield Answers(
                sets=sets,
                top=top,
                joint_sets=self.simultaneous.within(p, alpha),
                joint_top=top,
                by_bonferroni=partial(bonferroni, self.calibration, probs, alpha),
            )

    def _jointly(self, probs: Mapping[str, Floats], alphas: Iterable[float]) -> Iterator[Answers]:
        marginals = marginalise(probs[JOINT], self.classes)
        top = {task: p.argmax(axis=1) for task, p in marginals.items()}
        best = np.unravel_index(probs[JOINT].argmax(axis=1), tuple(self.classes.values()))
        joint_top = dict(zip(self.classes, best, strict=True))
        for alpha in alphas:
            combinations = self.calibration.predict(probs, alpha)[JOINT]
            touched = project(combinations, self.classes)
            yield Answers(touched, top, touched, joint_top, combinations)

    def p_values(self, probs: Mapping[str, Floats]) -> dict[str, Floats]:
        """Of each task, its classes' p-values, (m, C_task): in the set where more than alpha.

        In the joint space a class has that of the best combination it is part of.
        """
        p_values = self.calibration.p_values(probs)
        return p_values if JOINT not in p_values else project(p_values[JOINT], self.classes)

    def likeliest(self, probs: Mapping[str, Floats], count: int) -> tuple[dict[str, Ints], Floats]:
        """The most probable combinations of classes, best first: {task: (m, count)}, and how much.

        In the taskwise space, where tasks have no probabilities together, as if independent.
        """
        best, mass = likeliest(probs, count)
        if JOINT not in best:
            return best, mass
        at = np.unravel_index(best[JOINT], tuple(self.classes.values()))
        return dict(zip(self.classes, at, strict=True)), mass

    def save(self, folder: Path) -> None:
        """Write the calibration into a new folder."""
        folder.mkdir(parents=True)
        self.calibration.save(folder / "calibration.npz")
        if self.simultaneous is not None:
            self.simultaneous.save(folder / "simultaneous")

    @classmethod
    def load(cls, folder: Path, classes: Mapping[str, int]) -> Method:
        """Read what ``save`` wrote."""
        together = folder / "simultaneous"
        return cls(
            dict(classes),
            Calibration.load(folder / "calibration.npz"),
            SimultaneousCalibration.load(together) if together.is_dir() else None,
        )
