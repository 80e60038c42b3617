"""``labels.csv``: a table with a row a picture and a column a task."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pandas as pd

from app.data.layouts.codes import encode
from app.data.layouts.files import absent, first_of, refuse_outside
from app.data.manifest import LABELS_FILE, SPLITS, Manifest
from app.errors import SuresetError

_COLUMNS = "its header has to be image,<task>,...[,split][,group]"


def read_table(root: Path) -> Manifest:
    file = root / LABELS_FILE
    if not file.is_file():
        raise absent(root, "csv", LABELS_FILE)
    table = _read_cells(file)
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

    images = [plain(image) for image in table["image"]]
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

    encoded = {task: encode(table[task]) for task in tasks}
    return Manifest(
        root=root,
        layout="csv",
        images=images,
        classes={task: classes for task, (classes, _) in encoded.items()},
        labels={task: codes for task, (_, codes) in encoded.items()},
        split=np.array(table["split"].tolist(), str) if "split" in table else None,
        group=table["group"].to_numpy(object) if "group" in table else None,
    )


def plain(path: str) -> str:
    """A path without what means nothing in it: ``./a//b``, as `find .` may write it, is ``a/b``."""
    if ("./" not in path and "//" not in path) or path.startswith("/"):
        return path
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _read_cells(file: Path) -> pd.DataFrame:
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
            f"{file} names {len(again)} of its pictures more than once ({first_of(again)}): keep "
            "one row a picture."
        )
    if any("\0" in image for image in images):
        raise SuresetError(f"{file} holds a NUL in a path: mend it.")
    outside = [i for i in images if i.startswith("/") or (".." in i and ".." in i.split("/"))]
    if outside:
        raise SuresetError(
            f"{len(outside)} of {len(images)} paths in {file} lead out of its folder "
            f"({first_of(outside)}): put the pictures beside it and give paths relative to it."
        )


def _check_files(root: Path, images: list[str]) -> None:
    """One listing a folder instead of one question a picture, which takes seconds for a million."""
    wanted = set(images)
    found = set()
    for folder in {image.rpartition("/")[0] for image in images}:
        refuse_outside(root, folder)
        if not os.path.isdir(root / folder):
            continue
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if path not in wanted:
                    continue
                link = entry.is_symlink()
                if link:
                    refuse_outside(root, path)
                if os.path.isfile(entry.path) if link else entry.is_file():
                    found.add(path)
    missing = [image for image in images if image not in found]
    if missing:
        raise SuresetError(
            f"{len(missing)} of {len(images)} pictures named in {root / LABELS_FILE} are missing "
            f"({first_of(missing)}){_in_another_form(root, missing[0])}: put them there or remove "
            "their rows."
        )


def _in_another_form(root: Path, image: str) -> str:
    """Say so if a file is there whose name looks the same: a Mac writes é as two characters."""
    folder, _, name = image.rpartition("/")
    place = root / folder
    there = os.listdir(place) if os.path.isdir(place) else []
    alike = any(normalize("NFC", other) == normalize("NFC", name) for other in there)
    return ", whose names are there in another form of Unicode than in the table" if alike else ""
