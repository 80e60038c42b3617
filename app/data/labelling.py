"""Write splits into ``labels.csv``: one column is filled, and nothing else of the file is touched.

The file is replaced whole or stays as it was.
"""

from __future__ import annotations

import csv
import io
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from app.data.layouts.table import plain
from app.data.manifest import LABELS_FILE, Manifest
from app.data.splits import Names
from app.disk import writing
from app.errors import SuresetError

_MARK = "\ufeff"
_OWN_COLUMNS = ("image", "split", "group")

# As the reader has it: a quote means something only where a cell begins, and what follows the
# closing one belongs to the cell.
_QUOTED = r'"[^"]*(?:""[^"]*)*"'
_CELL = re.compile(rf"(?:{_QUOTED})?[^,\r\n]*")
_RECORD = re.compile(rf"({_CELL.pattern}(?:,{_CELL.pattern})*)(\r\n|\r|\n|\Z)")


def check_writable(manifest: Manifest) -> None:
    """See to it, before any work is done, that the splits of a manifest can be written down.

    Raises:
        SuresetError: a ``labels.csv`` is in the way, or leads out of the folder; a name cannot
            stand in one; or the folder cannot be written.
    """
    file = manifest.root / LABELS_FILE
    if manifest.layout != "csv":
        if os.path.lexists(file):
            raise SuresetError(
                f"{file} is there already, and one made of the layout {manifest.layout} would "
                "replace it: leave --layout out, or remove the file."
            )
        _check_names(manifest)
    with _place_of(file) as place:
        tempfile.TemporaryFile(dir=place.parent).close()


def write_splits(manifest: Manifest, split: Names) -> None:
    """Write the splits into the manifest's ``labels.csv``; make one where the layout is another.

    Args:
        manifest: n pictures, as ``read_manifest`` found them.
        split: of each a name in ``SPLITS``, or "", (n,). Those that the manifest gives stay.

    Raises:
        SuresetError: as by :func:`check_writable`, or the file is no longer what was read. It
            stays as it was.
    """
    check_writable(manifest)
    with _place_of(manifest.root / LABELS_FILE) as place:
        text = (
            _filled(place, manifest, split) if manifest.layout == "csv" else _new(manifest, split)
        )
        _replace(place, text.encode())


@contextmanager
def _place_of(file: Path) -> Iterator[Path]:
    """The file itself, where ``file`` is a link to it."""
    with writing(LABELS_FILE, file.parent, "--data"):
        place = Path(os.path.realpath(file))
        if not place.is_relative_to(os.path.realpath(file.parent)):
            raise SuresetError(
                f"{file} leads out of its folder, where nothing is written: put the file itself "
                "there."
            )
        yield place


def _replace(place: Path, data: bytes) -> None:
    """Put a file in the place of another, with its rights, or leave that untouched."""
    descriptor, part = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}-", suffix=".part")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
            if place.exists():
                old = place.stat()
                with suppress(PermissionError):  # Only root may give a file back to its owner.
                    os.chown(part, old.st_uid, old.st_gid)
                os.chmod(part, old.st_mode & 0o7777)
            else:
                os.chmod(part, 0o644)
        os.replace(part, place)
    except BaseException:
        os.unlink(part)
        raise


# A file that is there


def _filled(place: Path, manifest: Manifest, split: Names) -> str:
    """The text of ``labels.csv`` with the empty cells of its column ``split`` filled."""
    changed = SuresetError(
        f"{manifest.root / LABELS_FILE} was changed while its pictures were read: try again."
    )
    try:
        text = place.read_bytes().decode()
    except UnicodeDecodeError:
        raise changed from None
    body = text.lstrip(_MARK)
    given = np.full(len(manifest), "") if manifest.split is None else manifest.split
    written = [text[: len(text) - len(body)]]
    names: list[str] = []
    row = 0
    for cells, end in _records(body):
        if cells and not names:
            names = [_value(cell) for cell in cells]
            if "image" not in names or ("split" in names) != (manifest.split is not None):
                raise changed
            if "split" not in names:
                cells.append("split")
            image, column = names.index("image"), [*names, "split"].index("split")
        elif cells:
            found = [*map(_value, cells), *[""] * (column + 1 - len(cells))]
            if (
                row == len(manifest)
                or plain(found[image]) != manifest.images[row]
                or found[column] != given[row]
            ):
                raise changed
            if not given[row] and (split[row] or manifest.split is None):
                cells += [""] * (column + 1 - len(cells))
                cells[column] = str(split[row])
            row += 1
        written += ",".join(cells), end
    if row < len(manifest):
        raise changed
    return "".join(written)


def _records(text: str) -> Iterator[tuple[list[str], str]]:
    """The cells of each record as they are written, and the end of its line.

    A line of blanks is no record to the reader: it has no cells and is all end.
    """
    for record, end in (match.groups() for match in _RECORD.finditer(text)):
        if not record.strip(" \t"):
            yield [], record + end
        elif '"' not in record:
            yield record.split(","), end
        else:
            yield list(_cells(record)), end


def _cells(record: str) -> Iterator[str]:
    at = 0
    while at <= len(record):
        cell = _CELL.match(record, at)
        assert cell is not None, "an empty cell is one too"
        yield cell[0]
        at = cell.end() + 1


def _value(cell: str) -> str:
    """What the reader makes of a cell."""
    quoted = re.match(_QUOTED, cell)
    if quoted:
        cell = quoted[0][1:-1].replace('""', '"') + cell[quoted.end() :]
    return cell.strip()


# A file that is made


def _new(manifest: Manifest, split: Names) -> str:
    """The text of a ``labels.csv`` that says what the manifest says."""
    columns = {
        "image": manifest.images,
        **{
            task: np.array([*classes, ""])[manifest.labels[task]].tolist()
            for task, classes in manifest.classes.items()
        },
        "split": split.tolist(),
    }
    if manifest.group is not None:
        columns["group"] = manifest.group.tolist()
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _check_names(manifest: Manifest) -> None:
    """Every name has to come back from the file as it is."""
    for task in manifest.classes:
        if task in _OWN_COLUMNS:
            raise SuresetError(
                f"a task cannot be called {task} in {LABELS_FILE}, where that is a column of its "
                "own: rename it."
            )
    named = {
        "task": list(manifest.classes),
        "class": [name for classes in manifest.classes.values() for name in classes],
        "picture": manifest.images,
        "group": [] if manifest.group is None else manifest.group[manifest.group != ""].tolist(),
    }
    for what, names in named.items():
        for name in names:
            if not name or name != name.strip() or re.search(r"[\r\n\ud800-\udfff]", name):
                raise SuresetError(
                    f"the {what} {name!r} cannot stand in {LABELS_FILE}, where names are UTF-8 on "
                    "one line without blanks around them: rename it."
                )
