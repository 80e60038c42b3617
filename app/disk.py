"""Turn a folder that cannot be written, or a disk without room, into a sentence."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from app.errors import SuresetError

#: Libraries that write in C++ or Rust report a full disk as whatever they like, so what tells is
#: that hardly any room is left.
_HARDLY_ANY = 16 << 20


@contextmanager
def writing(what: str, folder: Path, flag: str) -> Iterator[None]:
    """Write ``what`` into ``folder``, which the user can move elsewhere by ``flag``.

    Raises:
        SuresetError: the body met an OSError, or any error while the disk is full.
    """
    try:
        yield
    except SuresetError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise _cannot(what, folder, reason, flag) from error
    except Exception as error:
        if shutil.disk_usage(_existing(folder)).free > _HARDLY_ANY:
            raise
        raise _cannot(what, folder, "hardly any room is left", flag) from error


class Need(NamedTuple):
    """So many ``bytes`` are to be written into ``folder``, which the user can move by ``flag``."""

    folder: Path
    flag: str
    bytes: int


def require_room(what: str, needs: Iterable[Need]) -> None:
    """See before it is written that there is room for it; folders of one file system share theirs.

    Raises:
        SuresetError: there is less than it needs.
    """
    by_device: dict[int, list[Need]] = {}
    for need in needs:
        if need.bytes:
            by_device.setdefault(_existing(need.folder).stat().st_dev, []).append(need)
    for sharing in by_device.values():
        needed = sum(need.bytes for need in sharing)
        free = shutil.disk_usage(_existing(sharing[0].folder)).free
        if needed > free:
            folders = " and ".join(str(need.folder) for need in sharing)
            flags = " or ".join(need.flag for need in sharing)
            raise SuresetError(
                f"{what} needs {_megabytes(needed)} in {folders}, and {_megabytes(free)} are free: "
                f"make room there, or name another folder with {flags}."
            )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _cannot(what: str, folder: Path, reason: str, flag: str) -> SuresetError:
    return SuresetError(
        f"{what} cannot be written to {folder} ({reason}): "
        f"make room there, or name another folder with {flag}."
    )


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())
