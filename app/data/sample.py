"""The sample set: drawn vehicles and their labels, the same bytes for the same seed.

Every picture is drawn from its own stream of random numbers, seeded by the set's seed and the
picture's number, so a larger set begins with the smaller one, and which tasks are labelled changes
no picture.
"""

from __future__ import annotations

import csv
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from app.data.drawing.picture import TASKS, draw_picture
from app.data.filling import filling, finish
from app.data.manifest import LABELS_FILE
from app.errors import SuresetError
from app.processes import processes
from app.progress import progress

#: How often a type and a colour occur, in percent: some are rare, as in the street.
TYPES = {
    "sedan": 20,
    "hatchback": 17,
    "suv": 16,
    "van": 10,
    "truck": 9,
    "pickup": 7,
    "bus": 6,
    "coupe": 5,
    "motorcycle": 4,
    "bicycle": 3,
    "tractor": 3,
}
COLOURS = {
    "white": 17,
    "black": 14,
    "grey": 14,
    "silver": 12,
    "blue": 12,
    "red": 10,
    "green": 6,
    "beige": 4,
    "brown": 4,
    "yellow": 3,
    "orange": 2,
    "purple": 2,
}

#: Colours that are this many times as frequent on some types.
_LIKED = {
    ("bus", "red"): 3,
    ("bus", "yellow"): 6,
    ("coupe", "red"): 3,
    ("coupe", "yellow"): 4,
    ("tractor", "green"): 5,
    ("tractor", "red"): 3,
    ("van", "white"): 3,
    ("truck", "orange"): 4,
}

#: What a sample set is labelled by, unless told.
USUAL_TASKS = ("colour", "type")

#: As many pictures at the beginning show the classes in turn, so that small sets lack none.
_IN_TURN = 24

_QUALITY = 90

#: So many pictures are drawn by the time that other processes have started.
_FEW = 100
_MOST_PROCESSES = 8

#: A path, and the class of each task.
Labelled = tuple[str, dict[str, str]]


def write_sample(root: Path, size: int, seed: int = 0, tasks: Sequence[str] = USUAL_TASKS) -> bool:
    """Write ``labels.csv`` and ``images/`` into an empty folder, both or none.

    A set that was broken off when it was whole already is finished instead.

    Args:
        root: the folder; it is made when it is missing.
        size: number of pictures.
        seed: 0 or more.
        tasks: what they are labelled by, of ``TASKS``: the columns of ``labels.csv``. A cell is
            empty where the picture does not show it.

    Returns:
        Whether it was drawn as asked for now.

    Raises:
        SuresetError: there is no such task; the folder holds something else, or cannot be written.
    """
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise SuresetError(
            f"the sample set has no task {unknown[0]!r}: --tasks takes {', '.join(TASKS)}, with "
            "commas between."
        )
    what = "the sample set"
    if finish(root, what):
        return False
    with filling(root, what) as folder:
        _draw(folder, size, seed, tuple(dict.fromkeys(tasks)))
    return True


def _draw(folder: Path, size: int, seed: int, tasks: Sequence[str]) -> None:
    (folder / "images").mkdir(parents=True)
    rows = []
    with progress("sample set", size) as advance, _mapping(size) as mapped:
        for image, labels in mapped(partial(_draw_one, folder, seed), range(size)):
            rows.append([image, *(labels[task] for task in tasks)])
            advance(1)
    with open(folder / LABELS_FILE, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("image", *tasks))
        table.writerows(rows)


@contextmanager
def _mapping(size: int) -> Iterator[Callable[..., Iterable[Labelled]]]:
    """A ``map`` that draws on all cores, unless starting processes would take longer.

    Threads would wait for each other: most of the drawing is Python.
    """
    if size <= _FEW:
        yield map
        return
    with processes(multiprocessing.get_context("spawn"), _MOST_PROCESSES) as pool:
        yield partial(pool.map, chunksize=16)


def _draw_one(folder: Path, seed: int, index: int) -> Labelled:
    rng = np.random.default_rng([seed, index])
    colour, kind = _classes(rng, index)
    image = f"images/{index:05d}.jpg"
    picture, labels = draw_picture(rng, colour, kind)
    picture.save(folder / image, quality=_QUALITY)
    return image, labels


def _classes(rng: np.random.Generator, index: int) -> tuple[str, str]:
    if index < _IN_TURN:
        return sorted(COLOURS)[index % len(COLOURS)], sorted(TYPES)[index % len(TYPES)]
    kind = _choose(rng, TYPES)
    liked = {colour: n * _LIKED.get((kind, colour), 1) for colour, n in COLOURS.items()}
    return _choose(rng, liked), kind


def _choose(rng: np.random.Generator, frequencies: dict[str, int]) -> str:
    ends = np.cumsum(list(frequencies.values()))
    return list(frequencies)[int(np.searchsorted(ends, rng.integers(ends[-1]), side="right"))]
