"""Split conformal calibration: from held-out scores to thresholds, sets and p-values.

With n scores in a group and k = ceil((n + 1)(1 - alpha)), the threshold is the k-th smallest
score, or infinite when k > n. A new picture's true class, exchangeable with the n, scores at most
that with probability at least 1 - alpha (Vovk et al. 2005; Papadopoulos et al. 2002).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.conformal.checks import (
    as_alpha,
    as_labels,
    as_probs,
    by_checked_rows,
    check_whole,
    name_of,
)
from app.conformal.scores import SCORES, Probs, Score
from app.conformal.taxonomies import TAXONOMIES

Floats = NDArray[np.float64]


def calibrate(
    probs: Mapping[str, ArrayLike],
    labels: Mapping[str, ArrayLike],
    score: str | Score = "hinge",
    taxonomy: str = "task",
    seed: int = 0,
) -> Calibration:
    """Calibrate on pictures that no part of training has seen.

    Args:
        probs: of each task, probabilities (n, C_task), float.
        labels: of each task, true classes (n,), int, -1 where unknown.
        score: a name in ``SCORES``, or a score with parameters of its own, ``RAPS(k_reg=2)``.
        taxonomy: a name in ``TAXONOMIES``.
        seed: draws the pictures that find the clusters, for the taxonomies that cluster.

    Raises:
        ValueError: an argument of another shape, type or range; it names the argument.
    """
    if not isinstance(score, Score):
        if not isinstance(score, str) or score not in SCORES:
            raise ValueError(f"score must be one of {', '.join(SCORES)}, not {score!r}")
        score = SCORES[score]
    if not isinstance(taxonomy, str) or taxonomy not in TAXONOMIES:
        raise ValueError(f"taxonomy must be one of {', '.join(TAXONOMIES)}, not {taxonomy!r}")
    check_whole(seed, "seed")
    checked = as_probs(probs)
    classes = {task: p.shape[1] for task, p in checked.items()}
    truths = as_labels(labels, classes, n=len(next(iter(checked.values()))))
    true = {task: _of_truth(score, task, p, truths[task]) for task, p in checked.items()}

    partition = TAXONOMIES[taxonomy](true, truths, classes, seed)
    collected = []
    for group in range(1 + max(int(g.max()) for g in partition.groups.values())):
        parts = []
        for task, truth in truths.items():
            pooled = task in partition.pools.get(group, ())
            member = (partition.groups[task][truth] == group) | pooled
            parts.append(true[task][member & (truth >= 0) & ~partition.spent])
        collected.append(np.sort(np.concatenate(parts)))
    return Calibration(score, taxonomy, partition.groups, tuple(collected))


def _of_truth(score: Score, task: str, probs: Probs, labels: NDArray[np.int64]) -> Floats:
    """Scores of the true classes, (n,), less the ceiling; any number where the label is unknown."""
    true = np.empty(len(labels))

    def work(rows: slice, block: Probs, total: Floats) -> None:
        true[rows] = score.of_truth(block, total, np.maximum(labels[rows], 0))

    by_checked_rows(work, probs, name_of(task, probs))
    return true


def rank(n: int, alpha: Fraction) -> int:
    """k = ceil((n + 1)(1 - alpha)), in exact arithmetic."""
    kept = alpha.denominator - alpha.numerator
    return -(-(n + 1) * kept // alpha.denominator)


def fewest_scores(alpha: Fraction) -> int:
    """The least n for which a threshold is finite, k <= n."""
    return math.ceil(1 / alpha) - 1


def threshold(scores: Floats, alpha: Fraction) -> float:
    """The k-th smallest of sorted ``scores`` (n,), or inf when k > n."""
    k = rank(len(scores), alpha)
    return float(scores[k - 1]) if k <= len(scores) else math.inf


def p_values(scores: Floats, of: Floats) -> Floats:
    """(1 + #{scores >= s}) / (n + 1) for every s in ``of``, any shape; ``scores`` (n,) sorted."""
    at_least = len(scores) - np.searchsorted(scores, of, side="left")
    return (1 + at_least) / (len(scores) + 1)


@dataclass(frozen=True)
class Calibration:
    """The sorted calibration scores of every group. Thresholds follow for any alpha.

    Attributes:
        score: the nonconformity score.
        taxonomy: name of the taxonomy.
        groups: of each task, the group of each class, int64 (C_task,).
        scores: of each group, its calibration scores less the score's ceiling, sorted, (n_group,).
    """

    score: Score
    taxonomy: str
    groups: dict[str, NDArray[np.int64]]
    scores: tuple[Floats, ...]

    @property
    def classes(self) -> dict[str, int]:
        """The number of classes of each task."""
        return {task: len(groups) for task, groups in self.groups.items()}

    def thresholds(self, alpha: float | Fraction) -> dict[str, Floats]:
        """The largest score that is still in the set: {task: (C_task,)}, inf where unlimited."""
        return {task: limits + self.score.ceiling for task, limits in self._limits(alpha).items()}

    def _limits(self, alpha: float | Fraction) -> dict[str, Floats]:
        """Thresholds less the score's ceiling."""
        exact = as_alpha(alpha)
        of_group = np.array([threshold(scores, exact) for scores in self.scores])
        return {task: of_group[groups] for task, groups in self.groups.items()}

    def predict(
        self, probs: Mapping[str, ArrayLike], alpha: float | Fraction, nonempty: bool = False
    ) -> dict[str, NDArray[np.bool_]]:
        """Prediction sets {task: (m, C_task)}: True where the class is in.

        An empty set says that no class conforms. With ``nonempty`` it holds the likeliest class
        instead, which can only raise coverage; sets and p-values then no longer say the same.
        """
        checked = as_probs(probs, self.classes)
        sets = {task: self._sets(task, checked[task], c) for task, c in self._limits(alpha).items()}
        for task in sets if nonempty else ():
            empty = np.flatnonzero(~sets[task].any(axis=1))
            sets[task][empty, checked[task][empty].argmax(axis=1)] = True
        return sets

    def _sets(self, task: str, probs: Probs, limits: Floats) -> NDArray[np.bool_]:
        sets = np.empty(probs.shape, bool)

        def work(rows: slice, block: Probs, total: Floats) -> None:
            self.score.within(block, total, limits, out=sets[rows])

        by_checked_rows(work, probs, name_of(task, probs))
        return sets

    def p_values(self, probs: Mapping[str, ArrayLike]) -> dict[str, Floats]:
        """p-values {task: (m, C_task)}: a class is in the set just when its p-value > alpha."""
        checked = as_probs(probs, self.classes)
        return {task: self._p_values(task, checked[task]) for task in self.groups}

    def _p_values(self, task: str, probs: Probs) -> Floats:
        result = np.empty(probs.shape)

        def work(rows: slice, block: Probs, total: Floats) -> None:
            scores = self.score.of_classes(block, total)
            for group, members in self._members[task]:
                result[rows, members] = p_values(self.scores[group], scores[:, members])

        by_checked_rows(work, probs, name_of(task, probs))
        return result

    def of_truth(
        self, probs: Mapping[str, ArrayLike], labels: Mapping[str, ArrayLike]
    ) -> dict[str, Floats]:
        """Scores of the true classes {task: (m,)}, less the ceiling as ``scores`` are.

        Any number where the label is -1, unknown.
        """
        checked = as_probs(probs, self.classes)
        truths = as_labels(labels, self.classes, n=len(next(iter(checked.values()))))
        return {task: _of_truth(self.score, task, p, truths[task]) for task, p in checked.items()}

    @cached_property
    def _members(self) -> dict[str, list[tuple[int, NDArray[np.int64]]]]:
        """Of each task, its groups and the classes in each.

        Found once: with a group a class, to look for each is the square of the classes.
        """
        members = {}
        for task, groups in self.groups.items():
            present, starts = np.unique(np.sort(groups), return_index=True)
            of_group = np.split(np.argsort(groups, kind="stable"), starts[1:])
            members[task] = list(zip(present.tolist(), of_group, strict=True))
        return members

    def save(self, path: str | Path) -> None:
        """Write a NumPy archive without pickle; the same calibration gives the same bytes."""
        facts = {
            "score": self.score.name,
            "parameters": asdict(self.score),
            "taxonomy": self.taxonomy,
            "tasks": list(self.groups),
        }
        arrays = {f"groups_{i}": groups for i, groups in enumerate(self.groups.values())}
        with open(path, "wb") as file:
            np.savez(
                file,
                # A score's parameters may be NumPy's numbers, which JSON knows not.
                facts=np.frombuffer(json.dumps(facts, default=np.generic.item).encode(), np.uint8),
                scores=np.concatenate(self.scores),
                sizes=np.array([len(scores) for scores in self.scores]),
                **arrays,  # type: ignore[arg-type]
            )

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as archive:
            facts = json.loads(archive["facts"].tobytes())
            groups = {task: archive[f"groups_{i}"] for i, task in enumerate(facts["tasks"])}
            ends = np.cumsum(archive["sizes"])[:-1]
            scores = tuple(np.split(archive["scores"], ends))
        score = replace(SCORES[facts["score"]], **facts["parameters"])
        return cls(score, facts["taxonomy"], groups, scores)
