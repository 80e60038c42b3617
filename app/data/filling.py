"""Fill an empty folder with pictures, so that it holds all of them or none.

They are written into a hidden folder inside it, which may be a mount point and so could not itself
be renamed. When they are whole, the hidden folder is renamed, which is what decides, and what is in
it is moved to its place. What was broken off before is begun anew by a later call, and what was
broken off after is moved.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from app.errors import SuresetError

_UNFINISHED = ".unfinished"
_WHOLE = ".whole"
_LOCK = ".lock"


class NotEmptyError(SuresetError):
    """There is something in the folder."""


def is_vacant(root: Path) -> bool:
    """Whether a folder is missing or empty, or what it was to hold was broken off."""
    return not root.is_dir() or bool(_unmoved(root)) or not any(_visible(root))


def finish(root: Path, what: str) -> bool:
    """Move what is whole in ``root`` to its place if that was broken off, and say whether it was.

    Raises:
        SuresetError: as ``filling``.
    """
    if not _unmoved(root):
        return False
    with _alone(root, what):
        _move(root)
    return True


@contextmanager
def filling(root: Path, what: str) -> Iterator[Path]:
    """Yield an empty folder; what is in it at the end is moved into ``root``.

    Whoever else wants to fill ``root`` waits meanwhile.

    Args:
        root: an empty folder; it is made when it is missing.
        what: what it is to hold.

    Raises:
        NotEmptyError: ``root`` holds something.
        SuresetError: it cannot be written.
    """
    with _alone(root, what):
        _move(root)
        if any(_visible(root)):
            raise NotEmptyError(
                f"{root} is not empty: {what} is written only into an empty folder; name another "
                "with --data (in Docker, DATA_DIR)."
            )
        unfinished = root / _UNFINISHED
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            yield unfinished
            unfinished.rename(root / _WHOLE)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        _move(root)


@contextmanager
def _alone(root: Path, what: str) -> Iterator[None]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / _LOCK):
            yield
    except OSError as error:
        todo = "make room there" if error.errno == errno.ENOSPC else "see to it"
        raise SuresetError(
            f"{what} cannot be written into {root}: {error.strerror}; {todo} or name another "
            "folder with --data."
        ) from error


def _unmoved(root: Path) -> list[Path]:
    """What is whole and not in its place, in the order in which it gets there."""
    whole = root / _WHOLE
    # By name: labels.csv comes after images, and nothing is labelled before it is there.
    return sorted(whole.iterdir()) if whole.is_dir() else []


def _move(root: Path) -> None:
    for entry in _unmoved(root):
        place = root / entry.name
        if os.path.lexists(place):
            raise NotEmptyError(f"{place} is in the way of {entry}: move it elsewhere.")
        entry.rename(place)
    if (root / _WHOLE).is_dir():
        (root / _WHOLE).rmdir()


def _visible(root: Path) -> Iterator[Path]:
    return (entry for entry in root.iterdir() if not entry.name.startswith("."))
