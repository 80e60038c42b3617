"""Turn a folder that cannot be written, or a full disk, into a sentence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


def _cannot(what: str, folder: Path, reason: str, flag: str) -> SuresetError:
    return SuresetError(
        f"{what} cannot be written to {folder} ({reason}): "
        f"make room there, or name another folder with {flag}."
    )


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())
