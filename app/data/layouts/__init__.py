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

Hidden files and folders are not seen, nor are files whose name does not end like a picture's. No
path to a picture and no link to one may lead out of the folder; links that stay inside are
followed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from app.data.layouts.files import no_pictures, pictures_under
from app.data.layouts.folders import read_folders
from app.data.layouts.names import looks_named, read_names
from app.data.layouts.table import read_table
from app.data.layouts.thesis import read_thesis, splits_in
from app.data.manifest import LABELS_FILE, SPLITS, Manifest
from app.errors import SuresetError

_NAMED = ("sgvehicle", "utkface")
_SPLIT_LIKE = frozenset({*SPLITS, "val", "validation", "calibration"})

_READERS: dict[str, Callable[[Path], Manifest]] = {
    "csv": read_table,
    "thesis": read_thesis,
    **{layout: partial(read_names, layout=layout) for layout in _NAMED},
    "folders": read_folders,
}


def read_manifest(root: Path, layout: str = "auto") -> Manifest:
    """Read the labels of a folder's pictures.

    Args:
        root: the folder.
        layout: csv, thesis, sgvehicle, utkface or folders; ``auto`` takes the first of these that
            is there.

    Raises:
        SuresetError: the folder does not hold what it should, or cannot be read; the sentence says
            what to do.
    """
    if not root.is_dir():
        raise SuresetError(f"there is no folder {root}: check --data.")
    try:
        if layout == "auto":
            layout = _find_layout(root)
        manifest = _READERS[layout](root)
    except OSError as error:
        raise SuresetError(
            f"{error.filename} cannot be read ({error.strerror}): give this user the right to."
        ) from error
    if not len(manifest):
        raise no_pictures(root)
    for task, codes in manifest.labels.items():
        seen = np.unique(codes[codes >= 0])
        if len(seen) < 2:
            what = f"only the class {manifest.classes[task][seen[0]]}" if len(seen) else "no label"
            raise SuresetError(
                f"task {task} has {what} in {root} (layout {layout}): add pictures of another "
                "class, or leave the task out."
            )
    return manifest


def _find_layout(root: Path) -> str:
    if (root / LABELS_FILE).is_file():
        return "csv"
    if splits_in(root):
        return "thesis"
    images = pictures_under(root)
    if not images:
        raise no_pictures(root)
    for layout in _NAMED:
        if looks_named(images, layout):
            return layout
    tops = {image.split("/")[0] for image in images if "/" in image}
    if tops and not tops <= _SPLIT_LIKE:
        return "folders"
    raise SuresetError(
        f"how the {len(images)} pictures in {root} are labelled was not recognised: give a "
        "labels.csv, the folders train|valid|calib|test with images/ and labels/ in each, names "
        "like color_type_id.png or age_gender_race_id.jpg, or one folder a class."
    )
