"""A manifest: which pictures there are, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: The file that labels a folder's pictures.
LABELS_FILE = "labels.csv"

#: The splits, in the order of the run.
SPLITS = ("train", "valid", "calib", "test")


@dataclass(frozen=True, eq=False)
class Manifest:
    """n labelled pictures in one folder.

    Attributes:
        root: the folder.
        layout: the name of the layout that was read.
        images: paths relative to ``root``, with ``/`` between their parts.
        classes: {task: class names, in the order of their codes}.
        labels: {task: codes, (n,)}, -1 where unknown.
        split: given splits, (n,), "" where none is given; None when the layout gives none.
        group: names, (n,), "" where there is none; or None. Pictures of one group share a split.
    """

    root: Path
    layout: str
    images: list[str]
    classes: dict[str, list[str]]
    labels: dict[str, NDArray[np.int64]]
    split: NDArray[np.str_] | None = None
    group: NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __str__(self) -> str:
        tasks = ", ".join(f"{task} ({len(names)})" for task, names in self.classes.items())
        return f"{self.root}: {len(self)} pictures, layout {self.layout}, tasks {tasks}"

    def take(self, rows: NDArray[np.int64]) -> Manifest:
        """The manifest of some rows, in their order; the classes stay."""
        return replace(
            self,
            images=[self.images[i] for i in rows],
            labels={task: codes[rows] for task, codes in self.labels.items()},
            split=None if self.split is None else self.split[rows],
            group=None if self.group is None else self.group[rows],
        )

    def path(self, i: int) -> Path:
        """The file of picture ``i``."""
        return self.root / self.images[i]
