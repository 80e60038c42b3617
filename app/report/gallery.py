"""The test pictures that a person should look at: what is odd, wrong or undecided about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.conformal.method import Answers
from app.data.manifest import Manifest
from app.report.thumbnails import thumbnail

#: So many pictures of a kind, tasks of a picture and classes of a set are shown.
_PICTURES = 12
_TASKS = 3
_CLASSES = 5
_SIDE = 112

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Said:
    """What is said of one picture in one task.

    Attributes:
        truth: the class by its label, None where unknown.
        shown: some classes of its set, and ``more`` others.
        p_value: of the truth, None where that is unknown.
        missed: whether the truth is known and not in the set.
    """

    task: str
    truth: str | None
    shown: list[str]
    more: int
    p_value: float | None
    missed: bool


@dataclass(frozen=True)
class Shown:
    """One picture: its path, itself as a data URI, its outlier p-value and what is said of it."""

    image: str
    uri: str
    outlier_p: float
    said: list[Said]


def uncertain(answers: Answers, probs: Mapping[str, Floats]) -> Ints:
    """Rows with the most classes in their sets, the product over tasks; then the least sure."""
    size = sum(np.log1p(sets.sum(axis=1)) for sets in answers.sets.values())
    sure = sum(np.log(np.maximum(p.max(axis=1), 1e-300)) for p in probs.values())
    return np.lexsort((sure, -np.asarray(size)))


def missed(answers: Answers, probs: Mapping[str, Floats], labels: Mapping[str, Ints]) -> Ints:
    """Rows whose truth is outside a task's set, those with the surest wrong answer first."""
    surest = np.zeros(len(next(iter(labels.values()))))
    for task, sets in answers.sets.items():
        wrong = (labels[task] >= 0) & ~_at(sets, labels[task])
        # Only what is taken for another class is a sure mistake; the rest is least sure.
        mistaken = np.where(answers.top[task] == labels[task], 0.0, probs[task].max(axis=1))
        surest = np.maximum(surest, np.where(wrong, np.maximum(mistaken, 1e-300), 0))
    return np.argsort(-surest, kind="stable")[: int((surest > 0).sum())]


def show(
    rows: Iterable[int],
    test: Manifest,
    answers: Answers,
    p_values: Mapping[str, Floats],
    outlier_p: Floats,
) -> list[Shown]:
    """The first dozen of these rows; a file that is gone meanwhile is left out."""
    shown: list[Shown] = []
    for row in map(int, rows):
        if len(shown) == _PICTURES:
            break
        uri = thumbnail(test.path(row), _SIDE)
        if uri is not None:
            said = [
                _say(task, names, int(test.labels[task][row]), answers.sets[task][row], p)
                for task, names in test.classes.items()
                for p in [p_values[task][row]]
            ]
            # With many tasks, those that have something to tell.
            said.sort(key=lambda one: (not one.missed, -len(one.shown) - one.more))
            shown.append(Shown(test.images[row], uri, float(outlier_p[row]), said[:_TASKS]))
    return shown


def _say(
    task: str, names: Sequence[str], truth: int, members: NDArray[np.bool_], p_values: Floats
) -> Said:
    inside = sorted(np.flatnonzero(members).tolist(), key=lambda c: -p_values[c])
    known = truth >= 0
    return Said(
        task=task,
        truth=names[truth] if known else None,
        shown=[names[c] for c in inside[:_CLASSES]],
        more=max(0, len(inside) - _CLASSES),
        p_value=float(p_values[truth]) if known else None,
        missed=known and not members[truth],
    )


def _at(sets: NDArray[np.bool_], labels: Ints) -> NDArray[np.bool_]:
    """Whether each set holds its label, (n,); anything where that is unknown."""
    return sets[np.arange(len(labels)), np.maximum(labels, 0)]
