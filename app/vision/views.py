"""The pictures of one epoch, decoded in threads as training asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.data.pictures import PictureError, Preprocess, read_rgb, read_unchanged, read_view
from app.threads import in_threads

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """n labelled pictures.

    Attributes:
        path_of: the file of each, by its row.
        digests: their contents' digests, (n, 16).
        labels: codes, (n, tasks), -1 where unknown.
    """

    path_of: Callable[[int], Path]
    digests: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.digests)


@dataclass(frozen=True)
class Batch:
    """One process's share of a batch, and the known labels of the batch as a whole."""

    rows: Rows
    known: int


@dataclass(frozen=True)
class Views:
    """An epoch's batches: pictures, uint8 (b, size, size, 3), labels (b, tasks), ``known``.

    Attributes:
        examples: the pictures.
        batches: what each batch is made of.
        preprocess: the geometry.
        draw: seed and epoch that the views are drawn by; None for the pictures as they are.
    """

    examples: Examples
    batches: list[Batch]
    preprocess: Preprocess
    draw: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        rows = chain.from_iterable(batch.rows.tolist() for batch in self.batches)
        largest = max(len(batch.rows) for batch in self.batches)
        views = in_threads(self._view, rows, 2 * largest)
        for batch in self.batches:
            pictures, labels = zip(*islice(views, len(batch.rows)), strict=True)
            yield torch.from_numpy(np.stack(pictures)), torch.tensor(np.stack(labels)), batch.known

    def _view(self, row: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """One picture and its labels, unknown where it can no longer be read."""
        examples, size = self.examples, self.preprocess.size
        content = examples.digests[row]
        try:
            data = read_unchanged(examples.path_of(row), content.tobytes())
            if self.draw is None:
                return read_rgb(data, self.preprocess), examples.labels[row]
            # By what is in the picture, not by its row: other pictures change nothing.
            rng = np.random.default_rng([*self.draw, *content.view(np.uint32).tolist()])
            return read_view(data, self.preprocess, rng), examples.labels[row]
        except PictureError:
            # It teaches nothing. That it is left out is said when its features are computed.
            return np.zeros((size, size, 3), np.uint8), np.full_like(examples.labels[row], -1)


def shuffled(
    labels: NDArray[np.int64], size: int, draw: tuple[int, int], share: tuple[int, int]
) -> list[Batch]:
    """An epoch's batches of ``size`` in an order by seed and epoch alone, ``draw``.

    ``share`` is a process's number and how many there are: their shares of a batch together are
    the batch that one process alone would have. What is left over waits for another epoch.
    """
    order = np.random.default_rng(draw).permutation(len(labels))
    whole = order[: len(order) // size * size].reshape(-1, size)
    number, processes = share
    return [Batch(rows[number::processes], int((labels[rows] >= 0).sum())) for rows in whole]


def in_sequence(labels: NDArray[np.int64], size: int, share: tuple[int, int]) -> list[Batch]:
    """A process's share of all pictures, each once, in batches of at most ``size``."""
    number, processes = share
    own = np.arange(len(labels))[number::processes]
    parts = np.split(own, range(size, len(own), size))
    return [Batch(rows, int((labels[rows] >= 0).sum())) for rows in parts]
