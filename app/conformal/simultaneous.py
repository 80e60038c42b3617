"""All tasks right at once, with probability at least 1 - alpha.

The tasks' scores live on different scales. A first half of the calibration pictures puts each on
the scale of ranks (a Calibration's p-values); a picture's worst task then has a score of its own,
1 - min over tasks of p, and the second half calibrates that one number as usual. Since it looks at
how tasks fail together, it is tighter than ``bonferroni``, which gives each task alpha / tasks. But
that needs no picture labelled for every task, and spends no half on a scale: with few pictures, or
tasks that fail apart, its sets may be the smaller ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.conformal.calibration import Calibration, calibrate, fewest_scores, p_values, threshold
from app.conformal.checks import as_alpha, as_labels, as_probs, check_whole
from app.conformal.scores import Score
from app.conformal.spaces import completely_labelled

Floats = NDArray[np.float64]


def calibrate_simultaneously(
    probs: Mapping[str, ArrayLike],
    labels: Mapping[str, ArrayLike],
    score: str | Score = "hinge",
    taxonomy: str = "task",
    seed: int = 0,
) -> SimultaneousCalibration:
    """Calibrate the sets of all tasks together. Arguments and errors as in ``calibrate``.

    The second half is of the pictures whose every label is known; all others are in the first.
    """
    check_whole(seed, "seed")
    checked = as_probs(probs)
    n = len(next(iter(checked.values())))
    truths = as_labels(labels, {task: p.shape[1] for task, p in checked.items()}, n)
    order = np.random.default_rng(seed).permutation(n)
    complete = order[completely_labelled(truths)[order]]
    second = np.sort(complete[len(complete) // 2 :])
    first = np.setdiff1d(order, second)

    scale = calibrate(take(checked, first), take(truths, first), score, taxonomy, seed)
    scaled = SimultaneousCalibration(scale, np.empty(0))
    worst = scaled.of_truth(take(checked, second), take(truths, second))
    return replace(scaled, worst=np.sort(worst))


def bonferroni(
    calibration: Calibration, probs: Mapping[str, ArrayLike], alpha: float
) -> dict[str, NDArray[np.bool_]]:
    """Sets {task: (m, C_task)} that hold all truths at once: each task errs alpha / tasks at most.

    The tasks' errors may depend on each other as they like. What is promised of each task is what
    its groups promise: with ``global`` and ``cluster`` they promise a mean over tasks only.
    """
    return calibration.predict(probs, as_alpha(alpha) / len(calibration.groups))


def fewest_to_calibrate(tasks: int, alpha: float) -> int:
    """The fewest pictures, labelled for every task, that allow finite thresholds at ``alpha``."""
    fewest = fewest_scores(as_alpha(alpha))
    # Of several tasks half of the pictures, rounded up, calibrate the sets of all at once.
    return fewest if tasks == 1 else 2 * fewest - 1


def take(arrays: Mapping[str, NDArray], rows: NDArray[np.int64]) -> dict[str, NDArray]:
    """Some rows of every task."""
    return {task: array[rows] for task, array in arrays.items()}


@dataclass(frozen=True)
class SimultaneousCalibration:
    """Attributes: ``scale`` makes the tasks comparable; ``worst`` (n,) are the sorted scores."""

    scale: Calibration
    worst: Floats

    def predict(self, probs: Mapping[str, ArrayLike], alpha: float) -> dict[str, NDArray[np.bool_]]:
        """Sets {task: (m, C_task)} that hold all truths at once."""
        return self.within(self.scale.p_values(probs), alpha)

    def within(self, p: Mapping[str, Floats], alpha: float) -> dict[str, NDArray[np.bool_]]:
        """The same from the p-values of ``scale``, which are those of every alpha."""
        limit = threshold(self.worst, as_alpha(alpha))
        return {task: 1 - of_task <= limit for task, of_task in p.items()}

    def p_values(self, probs: Mapping[str, ArrayLike]) -> dict[str, Floats]:
        """p-values {task: (m, C_task)}; a combination of classes has the least of its classes'."""
        return {task: p_values(self.worst, 1 - p) for task, p in self.scale.p_values(probs).items()}

    def of_truth(
        self, probs: Mapping[str, ArrayLike], labels: Mapping[str, NDArray[np.int64]]
    ) -> Floats:
        """The scores (m,) of pictures whose every label is known: of their worst task."""
        of_task = self.scale.p_values(probs)
        p = [of_task[task][np.arange(len(labels[task])), labels[task]] for task in of_task]
        return 1 - np.min(p, axis=0)

    def save(self, folder: str | Path) -> None:
        """Write ``scale.npz`` and ``worst.npy`` into ``folder``, without pickle."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.scale.save(Path(folder) / "scale.npz")
        np.save(Path(folder) / "worst.npy", self.worst, allow_pickle=False)

    @classmethod
    def load(cls, folder: str | Path) -> SimultaneousCalibration:
        """Read what ``save`` wrote."""
        worst = np.load(Path(folder) / "worst.npy", allow_pickle=False)
        return cls(Calibration.load(Path(folder) / "scale.npz"), worst)
