"""How many pictures every class and every combination of classes has."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.data.manifest import SPLITS, Manifest

Names = NDArray[np.str_]

_RAREST = 5
_MOST_EXPECTED = 10
#: More combinations are not gone through one by one.
_MOST_COMBINATIONS = 100_000
#: Greater numbers are not exact in every reader of JSON.
_MOST_COUNTED = 2**53


@dataclass(frozen=True)
class TaskCounts:
    """The pictures of one task.

    Attributes:
        classes: {class: {split: pictures}}.
        unlabelled: {split: pictures without a label}.
        rarest: the classes with the fewest pictures, those first.
    """

    classes: dict[str, dict[str, int]]
    unlabelled: dict[str, int]
    rarest: list[str]


@dataclass(frozen=True)
class NeverSeen:
    """A combination {task: class}, and how many pictures of it chance would bring."""

    classes: dict[str, str]
    expected: float


@dataclass(frozen=True)
class Combinations:
    """Combinations of the tasks' classes, over pictures that are labelled for every task.

    Attributes:
        possible: how many there are, None beyond 2^53.
        seen: how many have a picture.
        never_seen: how many have none, None beyond 2^53.
        most_expected: a few of these, those first of which most pictures would be expected if tasks
            were independent. Empty where there are too many combinations to go through.
    """

    possible: int | None
    seen: int
    never_seen: int | None
    most_expected: list[NeverSeen]


def count_labels(manifest: Manifest, split: Names) -> dict[str, TaskCounts]:
    """{task: its counts}; ``split`` (n,) are the splits of the manifest's n pictures."""
    counts = {}
    for task, names in manifest.classes.items():
        codes = manifest.labels[task]
        table = {
            name: np.bincount(codes[(split == name) & (codes >= 0)], minlength=len(names))
            for name in SPLITS
        }
        order = np.argsort(np.sum(list(table.values()), axis=0), kind="stable")[:_RAREST]
        counts[task] = TaskCounts(
            {c: {name: int(table[name][i]) for name in SPLITS} for i, c in enumerate(names)},
            {name: int(((split == name) & (codes < 0)).sum()) for name in SPLITS},
            [names[c] for c in order],
        )
    return counts


def count_combinations(manifest: Manifest) -> Combinations | None:
    """The combinations that occur and that do not; None where there is one task."""
    if len(manifest.classes) < 2:
        return None
    sizes = [len(names) for names in manifest.classes.values()]
    codes = np.stack([manifest.labels[task] for task in manifest.classes], axis=1)
    complete = codes[(codes >= 0).all(axis=1)]
    seen = np.unique(complete, axis=0)
    possible = math.prod(sizes)
    listed = _never_seen(manifest, sizes, complete) if possible <= _MOST_COMBINATIONS else []
    counted = possible <= _MOST_COUNTED
    return Combinations(
        possible if counted else None,
        len(seen),
        possible - len(seen) if counted else None,
        listed,
    )


def _never_seen(
    manifest: Manifest, sizes: list[int], complete: NDArray[np.int64]
) -> list[NeverSeen]:
    """Of the combinations that are missing in ``complete`` (m, tasks), the most expected.

    Expected are m times the product of the classes' shares among these.
    """
    expected = np.array(float(len(complete)))
    for codes, size in zip(complete.T, sizes, strict=True):
        counts = np.bincount(codes, minlength=size)
        expected = np.multiply.outer(expected, counts / max(1, len(complete)))
    expected[tuple(complete.T)] = 0
    first = np.argsort(-expected, axis=None, kind="stable")[:_MOST_EXPECTED]
    return [
        NeverSeen(
            {task: names[c] for (task, names), c in zip(manifest.classes.items(), at, strict=True)},
            round(float(expected[at]), 2),
        )
        for at in zip(*(i.tolist() for i in np.unravel_index(first, sizes)), strict=True)
        if expected[at] > 0
    ]
