"""The thesis's layout: a folder a split, and a file of integers a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import yaml

from app.data.layouts.codes import Codes
from app.data.layouts.files import absent, first_of, no_pictures, pictures_under, refuse_outside
from app.data.manifest import SPLITS, Manifest
from app.errors import SuresetError
from app.progress import progress

TASKS_FILE = "tasks.yaml"


def splits_in(root: Path) -> list[str]:
    return [s for s in SPLITS if (root / s / "images").is_dir() and (root / s / "labels").is_dir()]


def read_thesis(root: Path) -> Manifest:
    splits = splits_in(root)
    if not splits:
        what = "folder train, valid, calib or test with images/ and labels/ in it"
        raise absent(root, "thesis", what)
    for split in splits:
        refuse_outside(root, f"{split}/images")
        refuse_outside(root, f"{split}/labels")
    by_split = [pictures_under(root, f"{split}/images") for split in splits]
    images = list(chain.from_iterable(by_split))
    if not images:
        raise no_pictures(root)
    codes = _read_codes(root, images)

    named = _read_tasks(root / TASKS_FILE) if (root / TASKS_FILE).is_file() else None
    if named is not None:
        _check_codes(root, images, codes, named)
        classes = named
        labels = {task: codes[:, i] for i, task in enumerate(named)}
    else:
        classes, labels = {}, {}
        for i, column in enumerate(codes.T):
            task = f"task{i + 1}"
            seen = np.unique(column[column >= 0])
            classes[task] = [str(number) for number in seen]
            labels[task] = np.where(column < 0, -1, np.searchsorted(seen, column))
    given = np.repeat(splits, [len(found) for found in by_split])
    return Manifest(root, "thesis", images, classes, labels, given)


def _read_codes(root: Path, images: Sequence[str]) -> Codes:
    """The integers of every picture's label file, (n, tasks)."""
    rows: list[list[int]] = []
    missing = []
    with progress("labels", len(images), "files") as advance:
        for image in images:
            advance(1)
            split, _, rest = image.split("/", 2)
            file = root / split / "labels" / f"{os.path.splitext(rest)[0]}.txt"
            try:
                row = _read_row(file)
            except FileNotFoundError:
                missing.append(image)
                continue
            if rows and len(row) != len(rows[0]):
                raise SuresetError(
                    f"{file} has {len(row)} integers where others have {len(rows[0])}: give one a "
                    "task, -1 where unknown."
                )
            rows.append(row)
    if missing:
        raise SuresetError(
            f"{len(missing)} of {len(images)} pictures in {root} have no label file "
            f"({first_of(missing)}): add them or remove the pictures."
        )
    return np.array(rows, np.int64)


def _read_row(file: Path) -> list[int]:
    try:
        row = [int(word) for word in file.read_text(encoding="utf-8").split()]
    except ValueError:
        row = []
    if not row or min(row) < -1 or max(row) > np.iinfo(np.int64).max:
        raise SuresetError(
            f"{file} has to hold one integer a task, separated by spaces, from 0 or -1 where "
            "unknown: mend it."
        )
    return row


def _read_tasks(file: Path) -> dict[str, list[str]]:
    """Task -> class names; every scalar is text, so that a class may be called ``no`` or ``1``."""
    try:
        tasks = yaml.load(file.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SuresetError(f"{file} is not YAML in UTF-8: mend it.") from error
    well_formed = isinstance(tasks, dict) and all(
        isinstance(task, str)
        and isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and len(names) == len(set(names))
        for task, names in tasks.items()
    )
    if not tasks or not well_formed:
        raise SuresetError(
            f"{file} has to map each task to the list of its class names, as in "
            "`colour: [white, black]`: mend it."
        )
    return tasks


def _check_codes(
    root: Path, images: Sequence[str], codes: Codes, tasks: dict[str, list[str]]
) -> None:
    if codes.shape[1] != len(tasks):
        raise SuresetError(
            f"{root / TASKS_FILE} names {len(tasks)} tasks and the label files hold "
            f"{codes.shape[1]} integers: make them agree."
        )
    for column, (task, names) in zip(codes.T, tasks.items(), strict=True):
        row = int(column.argmax())
        if column[row] >= len(names):
            raise SuresetError(
                f"the label of {images[row]} for {task} is {column[row]} and {root / TASKS_FILE} "
                f"names {len(names)} classes, counted from 0: make them agree."
            )
