"""What the cache holds, how large it is, and since when nobody needed it."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from stat import S_ISREG

from filelock import FileLock, Timeout
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from app.errors import SuresetError
from app.progress import say
from app.settings import Settings

#: The folders of a cache that hold what was fetched; the others' can be computed again from it.
_FETCHED = ("weights", "datasets")

_DAY_S = 24 * 60 * 60


@dataclass(frozen=True)
class Entry:
    """What lies in one of the cache's folders.

    Attributes:
        kind: the folder's name.
        path: where.
        size: in bytes.
        used: when it was last written or, of features, networks and weights that were trained,
            used; a Unix time.
    """

    kind: str
    path: Path
    size: int
    used: float

    def __str__(self) -> str:
        facts = self.path / "facts.json"
        if not facts.is_file():
            return self.path.name.removeprefix(".")
        of = json.loads(facts.read_text())
        return f"{of['encoder']}, {of['runtime']}"


def entries(cache_dir: Path) -> list[Entry]:
    """All that lies in a cache but locks, by kind and name."""
    found = []
    for path in sorted(cache_dir.glob("*/*")):
        if path.suffix == ".lock":
            continue
        with suppress(FileNotFoundError):  # Another run needed it no more.
            parts = [file.stat() for file in (path, *path.rglob("*"))]
            size = sum(s.st_size for s in parts if S_ISREG(s.st_mode))
            found.append(Entry(path.parent.name, path, size, max(s.st_mtime for s in parts)))
    return found


def cache(settings: Settings, prune: int | None) -> None:
    """Print what the cache holds; remove what was computed and not used for ``prune`` days.

    Raises:
        SuresetError: something cannot be removed.
    """
    if prune is not None:
        _prune(settings.cache_dir, prune)
    found = entries(settings.cache_dir)
    table = Table(title=f"{settings.cache_dir}: {decimal(sum(entry.size for entry in found))}")
    for column in ("what", "which", "size", "last used"):
        table.add_column(column, justify="right" if column == "size" else "left")
    for entry in found:
        used = datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d")
        table.add_row(entry.kind, str(entry), decimal(entry.size), used)
    Console(soft_wrap=True).print(table)


def _prune(cache_dir: Path, days: int) -> None:
    freed = 0
    for entry in entries(cache_dir):
        if entry.kind in _FETCHED or entry.used > time.time() - days * _DAY_S:
            continue
        try:
            if entry.path.is_dir() and not entry.path.is_symlink():
                _remove(entry.path)
            else:
                entry.path.unlink(missing_ok=True)
            freed += entry.size
        except Timeout:
            say(f"{entry.path} is in use: it stays")
        except OSError as error:
            raise SuresetError(
                f"{error.filename} cannot be removed ({error.strerror}): give this user the right."
            ) from error
    say(f"removed {decimal(freed)} that nobody used for {days} days")


def _remove(folder: Path) -> None:
    """Take a folder away at once, so that nobody ever finds half of it.

    Raises:
        Timeout: somebody has it open.
    """
    gone = folder
    if not folder.name.startswith("."):  # Which is what a killed run left of one.
        gone = folder.with_name(f".{folder.name}")
        with FileLock(folder.with_name(folder.name + ".lock"), timeout=0):
            shutil.rmtree(gone, ignore_errors=True)
            folder.rename(gone)
    shutil.rmtree(gone)
