"""How folders say what their pictures show: four layouts, one manifest.

``csv``
    ``labels.csv`` in UTF-8 with the header ``image,<task>,...[,split][,group]``. Paths are relative
    to the file, class names are text, an empty cell is unknown.
``thesis``
    ``train|valid|calib|test/{images,labels}/``. Beside ``images/a/b.jpg`` lies ``labels/a/b.txt``
    with one integer a task, separated by spaces, -1 where unknown. ``tasks.yaml`` in the folder
    itself names them: a mapping from each task, in the order of the integers, to the list of its
    class names, in the order of their codes::

        colour: [white, black, red]
        type: [sedan, van]

    Without it tasks are ``task1``, ``task2``, ... and classes are called by their number.
``sgvehicle``, ``utkface``
    Names that carry labels. SGVehicle: ``color_type_id.png``, tasks ``colour`` and ``type``.
    UTKFace: ``age_gender_race_id.jpg``, ages by decade. A name that does not fit leaves its
    picture's labels unknown.
``folders``
    One folder a class, of the one task ``class``; a class may have folders of its own. Pictures
    outside of all of them have no class and are left out.

Hidden files and folders are not seen, nor are files whose name does not end like a picture's, nor
what lies behind links to other folders. No path and no link may lead out of the folder.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from app.data.manifest import LABELS_FILE, SPLITS, Manifest
from app.data.pictures import SUFFIXES
from app.errors import SuresetError
from app.progress import progress

TASKS_FILE = "tasks.yaml"

_COLUMNS = "its header has to be image,<task>,...[,split][,group]"
_NAMED = ("sgvehicle", "utkface")
_MOST_NAMES = 0.9
_SPLIT_LIKE = frozenset({*SPLITS, "val", "validation", "calibration"})

Codes = NDArray[np.int64]


def read_manifest(root: Path, layout: str = "auto") -> Manifest:
    """Read the labels of a folder's pictures.

    Args:
        root: the folder.
        layout: csv, thesis, sgvehicle, utkface or folders; ``auto`` takes the first of these that
            is there.

    Raises:
        SuresetError: the folder does not hold what it should; the sentence says what to do.
    """
    if not root.is_dir():
        raise SuresetError(f"there is no folder {root}: check --data.")
    if layout == "auto":
        layout = _find_layout(root)
    manifest = _READERS[layout](root)
    if not len(manifest):
        raise _empty(root)
    for task, codes in manifest.labels.items():
        seen = np.unique(codes[codes >= 0])
        if len(seen) < 2:
            what = f"only the class {manifest.classes[task][seen[0]]}" if len(seen) else "no label"
            raise SuresetError(
                f"task {task} has {what} in {root} (layout {layout}): add pictures of another "
                "class, or leave the task out."
            )
    return manifest


# Finding out


def _find_layout(root: Path) -> str:
    if (root / LABELS_FILE).is_file():
        return "csv"
    if _thesis_splits(root):
        return "thesis"
    images = _pictures_under(root)
    if not images:
        raise _empty(root)
    for layout in _NAMED:
        if _looks_named(images, layout):
            return layout
    tops = {image.split("/")[0] for image in images if "/" in image}
    if tops and not tops <= _SPLIT_LIKE:
        return "folders"
    raise SuresetError(
        f"how the {len(images)} pictures in {root} are labelled was not recognised: give a "
        "labels.csv, the folders train|valid|calib|test with images/ and labels/ in each, names "
        "like color_type_id.png or age_gender_race_id.jpg, or one folder a class."
    )


def _looks_named(images: Sequence[str], layout: str) -> bool:
    """Whether nearly all names fit, and no folders separate them where the pattern is weak."""
    pattern = _NAMES[layout][0]
    fitting = sum(pattern.fullmatch(PurePosixPath(image).name) is not None for image in images)
    one_folder = len({image.rpartition("/")[0] for image in images}) == 1
    return fitting >= _MOST_NAMES * len(images) and (layout == "utkface" or one_folder)


def _empty(root: Path) -> SuresetError:
    return SuresetError(
        f"there are no pictures in {root}: put some there, or have the sample set written by "
        "`make train` without DATA_DIR or by `python -m app prefetch`."
    )


def _absent(root: Path, layout: str, what: str) -> SuresetError:
    return SuresetError(
        f"{root} does not have the layout {layout}: there is no {what}; leave --layout out and it "
        "is found out."
    )


# Files


def _pictures_under(root: Path, folder: str = "") -> list[str]:
    """Paths relative to ``root`` of all pictures below ``folder``, sorted."""
    found = []
    folders = [folder]
    while folders:
        inside = folders.pop()
        with os.scandir(root / inside) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = f"{inside}/{entry.name}" if inside else entry.name
                if entry.is_symlink():
                    _refuse_outside(root, path)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif not entry.is_dir() and os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                    found.append(path)
    return sorted(found)


def _refuse_outside(root: Path, path: str) -> None:
    if not Path(os.path.realpath(root / path)).is_relative_to(os.path.realpath(root)):
        raise SuresetError(
            f"{path} leads out of {root}: put the pictures themselves into the folder."
        )


def _first(names: Collection[str]) -> str:
    """The first three names, to be read in a sentence."""
    return ", ".join(islice(names, 3)) + (", ..." if len(names) > 3 else "")


# Codes


def _in_order(names: Iterable[str]) -> list[str]:
    """Class names sorted: as numbers if they all are, else as text."""
    ordered = sorted(names)
    try:
        numbers = {name: float(name) for name in ordered}
    except ValueError:
        return ordered
    return sorted(ordered, key=lambda n: (math.isnan(numbers[n]), numbers[n]))


def _encode(values: pd.Series) -> tuple[list[str], Codes]:
    """Text -> class names in order, and codes (n,), -1 where the text is empty."""
    codes, found = pd.factorize(values)
    classes = _in_order(name for name in found if name)
    code = {name: i for i, name in enumerate(classes)}
    code_of_found = np.array([code.get(name, -1) for name in found], np.int64)
    return classes, code_of_found[codes]


# labels.csv


def _read_csv(root: Path) -> Manifest:
    file = root / LABELS_FILE
    if not file.is_file():
        raise _absent(root, "csv", LABELS_FILE)
    table = _read_table(file)
    tasks = [name for name in table.columns if name not in ("image", "split", "group")]
    if "image" not in table.columns:
        raise SuresetError(
            f"{file} has no column image but {', '.join(table.columns)}: {_COLUMNS}, with commas "
            "between."
        )
    if not tasks:
        raise SuresetError(f"{file} has no column for a task: {_COLUMNS}.")
    if table.empty:
        raise SuresetError(f"{file} names no picture: add a row for each.")

    # `find .` writes ./ before every path.
    images = [image.removeprefix("./") for image in table["image"]]
    _check_rows(file, images)
    _check_files(root, images)
    if "split" in table:
        unknown = ~table["split"].isin(["", *SPLITS])
        if unknown.any():
            row = int(np.argmax(unknown))
            raise SuresetError(
                f"{file} names the split {table['split'][row]!r} for {images[row]}: it can be "
                f"{', '.join(SPLITS)}, or empty."
            )

    encoded = {task: _encode(table[task]) for task in tasks}
    return Manifest(
        root=root,
        layout="csv",
        images=images,
        classes={task: classes for task, (classes, _) in encoded.items()},
        labels={task: codes for task, (_, codes) in encoded.items()},
        split=np.array(table["split"].tolist(), str) if "split" in table else None,
        group=np.array(table["group"].tolist(), str) if "group" in table else None,
    )


def _read_table(file: Path) -> pd.DataFrame:
    """All cells as text without blanks around them, empty where nothing stands."""
    try:
        # The header is read as a row, so that no later row can be wider than it unnoticed.
        cells = pd.read_csv(
            file, header=None, dtype=str, encoding="utf-8-sig", keep_default_na=False
        )
    except UnicodeDecodeError as error:
        raise SuresetError(f"{file} is not in UTF-8: save it as CSV in UTF-8.") from error
    except pd.errors.EmptyDataError as error:
        raise SuresetError(f"{file} is empty: {_COLUMNS}.") from error
    except pd.errors.ParserError as error:
        why = str(error).strip().rsplit("error: ")[-1]
        raise SuresetError(f"{file} is not a table: {why}; mend it.") from error
    cells = cells.apply(lambda column: column.map(str.strip))
    header = cells.iloc[0].tolist()
    for name in header:
        if header.count(name) > 1 or not name:
            what = f"more than one column {name}" if name else "a column without a name"
            raise SuresetError(f"{file} has {what}: give each column one name of its own.")
    return cells.iloc[1:].set_axis(header, axis=1).reset_index(drop=True)


def _check_rows(file: Path, images: list[str]) -> None:
    if "" in images:
        raise SuresetError(
            f"{file} names no image in {images.count('')} of {len(images)} rows, the first is row "
            f"{images.index('') + 1} under the header: name a picture or remove them."
        )
    if len(set(images)) < len(images):
        again = [image for image, times in Counter(images).items() if times > 1]
        raise SuresetError(
            f"{file} names {len(again)} of its pictures more than once ({_first(again)}): keep one "
            "row a picture."
        )
    outside = [i for i in images if i.startswith("/") or (".." in i and ".." in i.split("/"))]
    if outside:
        raise SuresetError(
            f"{len(outside)} of {len(images)} paths in {file} lead out of its folder "
            f"({_first(outside)}): put the pictures beside it and give paths relative to it."
        )


def _check_files(root: Path, images: list[str]) -> None:
    """One listing a folder instead of one question a picture, which takes seconds for a million."""
    wanted = set(images)
    found = set()
    for folder in {image.rpartition("/")[0] for image in images}:
        _refuse_outside(root, folder)
        if not (root / folder).is_dir():
            continue
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if path not in wanted:
                    continue
                if entry.is_symlink():
                    _refuse_outside(root, path)
                if entry.is_file():
                    found.add(path)
    missing = [image for image in images if image not in found]
    if missing:
        raise SuresetError(
            f"{len(missing)} of {len(images)} pictures named in {root / LABELS_FILE} are missing "
            f"({_first(missing)}): put them there or remove their rows."
        )


# The thesis layout


def _thesis_splits(root: Path) -> list[str]:
    return [s for s in SPLITS if (root / s / "images").is_dir() and (root / s / "labels").is_dir()]


def _read_thesis(root: Path) -> Manifest:
    splits = _thesis_splits(root)
    if not splits:
        what = "folder train, valid, calib or test with images/ and labels/ in it"
        raise _absent(root, "thesis", what)
    for split in splits:
        _refuse_outside(root, f"{split}/images")
        _refuse_outside(root, f"{split}/labels")
    by_split = [_pictures_under(root, f"{split}/images") for split in splits]
    images = list(chain.from_iterable(by_split))
    if not images:
        raise _empty(root)
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
            f"({_first(missing)}): add them or remove the pictures."
        )
    return np.array(rows, np.int64)


def _read_row(file: Path) -> list[int]:
    try:
        row = [int(word) for word in file.read_text(encoding="utf-8").split()]
    except ValueError:
        row = []
    if not row or min(row) < -1:
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


# Names that carry labels


@dataclass(frozen=True)
class Part:
    """One part of a name: its task, what it is sorted by, and what its class is called."""

    task: str
    key: Callable[[str], str] = str
    name: Callable[[str], str] = str


def _decade(age: str) -> str:
    """``37`` -> ``30``."""
    return str(int(age) // 10 * 10)


def _years(decade: str) -> str:
    """``30`` -> ``30-39``."""
    return f"{decade}-{int(decade) + 9}"


#: The numbers of UTKFace, as its authors give them.
_GENDERS = {"0": "male", "1": "female"}
_RACES = {"0": "White", "1": "Black", "2": "Asian", "3": "Indian", "4": "Others"}

#: Layout -> pattern of a name, its parts, and the form it is told by.
_NAMES: dict[str, tuple[re.Pattern[str], list[Part], str]] = {
    "sgvehicle": (
        re.compile(r"([^_]+)_([^_]+)_[^_]+\.png", re.IGNORECASE),
        [Part("colour"), Part("type")],
        "color_type_id.png",
    ),
    "utkface": (
        # The published files end in .jpg or, cropped, in .jpg.chip.jpg.
        re.compile(r"(1?\d?\d)_([01])_([0-4])_[^_]+\.jpe?g", re.IGNORECASE),
        [
            Part("age", _decade, _years),
            Part("gender", name=_GENDERS.__getitem__),
            Part("race", name=_RACES.__getitem__),
        ],
        "age_gender_race_id.jpg",
    ),
}


def _read_names(root: Path, layout: str) -> Manifest:
    pattern, parts, form = _NAMES[layout]
    images = _pictures_under(root)
    matches = [pattern.fullmatch(PurePosixPath(image).name) for image in images]
    if images and not any(matches):
        raise _absent(root, layout, f"picture named like {form}")
    classes, labels = {}, {}
    for i, part in enumerate(parts, start=1):
        keys = pd.Series([part.key(match[i]) if match else "" for match in matches], dtype=str)
        found, labels[part.task] = _encode(keys)
        classes[part.task] = [part.name(key) for key in found]
    return Manifest(root, layout, images, classes, labels)


# One folder a class


def _read_folders(root: Path) -> Manifest:
    images = [image for image in _pictures_under(root) if "/" in image]
    if not images:
        raise _absent(root, "folders", "folder with pictures in it")
    classes, codes = _encode(pd.Series([image.split("/")[0] for image in images], dtype=str))
    return Manifest(root, "folders", images, {"class": classes}, {"class": codes})


_READERS: dict[str, Callable[[Path], Manifest]] = {
    "csv": _read_csv,
    "thesis": _read_thesis,
    "sgvehicle": lambda root: _read_names(root, "sgvehicle"),
    "utkface": lambda root: _read_names(root, "utkface"),
    "folders": _read_folders,
}
