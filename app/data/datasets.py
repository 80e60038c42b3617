"""Published data sets: where they are, and what was seen there first.

The catalogue ``datasets.yaml`` names the archives of each. ``datasets.lock`` beside it pins what an
address sent: a line of sha256, length in bytes and address for each, which the user commits.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from filelock import FileLock
from pydantic import Field, StringConstraints, TypeAdapter

from app.catalogue import ADDRESS, read_catalogue
from app.checksums import sha256_of
from app.data.download import ChecksumError, DownloadError, fetch, without_credentials
from app.data.unpacking import is_archive
from app.errors import SuresetError

_Address = Annotated[str, StringConstraints(pattern=ADDRESS)]
_CATALOGUE = TypeAdapter(dict[str, Annotated[list[_Address], Field(min_length=1)]])

_LINE = re.compile(r"([0-9a-f]{64}) +(\d+) +(\S+)")
_HEADER = """\
# What the addresses of datasets.yaml sent first: sha256, length in bytes, address. Commit this
# file, and nothing else is taken from them. To accept what one of them sends now, remove its line.
"""


@dataclass(frozen=True)
class Archive:
    """An archive of a data set, and its place in the cache."""

    url: str
    path: Path

    @property
    def name(self) -> str:
        """Its address as it may be shown."""
        return without_credentials(self.url)


@dataclass(frozen=True)
class Pin:
    """What an address sent first."""

    sha256: str
    bytes: int


def published_archives(name: str, static_dir: Path, cache_dir: Path) -> list[Archive]:
    """Look a data set up in the catalogue.

    Raises:
        SuresetError: the catalogue is missing or malformed, or it has no such data set.
    """
    file = static_dir / "datasets.yaml"
    todo = "give each data set the list of the urls of its archives"
    entries = read_catalogue(file, _CATALOGUE, of="data sets", todo=todo)
    if name not in entries:
        raise SuresetError(f"there is no data set {name} in {file}: add the urls of its archives.")
    return [Archive(url, _place(url, cache_dir / "datasets" / name)) for url in entries[name]]


def _place(url: str, folder: Path) -> Path:
    """Another address is another file, whatever both call it."""
    digest = hashlib.sha256(url.encode()).hexdigest()
    return folder / f"{folder.name}-{digest[:8]}.archive"


def fetch_archive(archive: Archive, lock: Path) -> Path:
    """Bring an archive into the cache: what is pinned, or else what its address sends.

    Raises:
        DownloadError: it cannot be had, is not what is pinned, or no archive at all.
        SuresetError: the lock is malformed.
    """
    pin = read_pins(lock).get(archive.name)
    sha256 = None if pin is None else pin.sha256
    try:
        return fetch(archive.url, sha256, archive.path, check=partial(_refuse_pages, archive))
    except ChecksumError as error:
        raise DownloadError(
            f"{archive.name} sent a file with the checksum {error.found}, which was deleted, for "
            f"{lock} has {sha256}: if you know why it changed, remove its line there and prefetch "
            "again."
        ) from error


def _refuse_pages(archive: Archive, file: Path) -> None:
    if is_archive(file):
        return
    with open(file, "rb") as opened:
        page = opened.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    raise DownloadError(
        f"{archive.name} sent {'an HTML page' if page else 'something else'} instead of a tar, "
        "tar.gz or zip: open the address in a browser to see what it asks for, or name another in "
        "datasets.yaml."
    )


def read_pins(lock: Path) -> dict[str, Pin]:
    """{address: what is pinned}, of a file ``datasets.lock`` that need not be there.

    Raises:
        SuresetError: it is malformed.
    """
    try:
        lines = lock.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SuresetError(f"{lock} cannot be read as text: restore it.") from error
    pins = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise SuresetError(
                f"line {number} of {lock} is not a sha256, a length and an address: mend it, or "
                "remove the line."
            )
        sha256, length, address = found.groups()
        pins[address] = Pin(sha256, int(length))
    return pins


def require_writable(lock: Path) -> None:
    """See that a pin could be written.

    Raises:
        SuresetError: it could not.
    """
    try:
        tempfile.TemporaryFile(dir=lock.parent).close()
    except OSError as error:
        raise SuresetError(
            f"{lock} does not tell yet what is to be fetched, and cannot be written "
            f"({error.strerror}): let it be written, or give --static another folder like it."
        ) from error


def pin(archive: Archive, lock: Path) -> bool:
    """Pin an archive that is in the cache, and say whether it was not yet.

    Raises:
        SuresetError: the lock cannot be written, or is malformed.
    """
    # Not beside the lock itself, where it would lie in the repository.
    with FileLock(archive.path.parent.with_name("pins.lock")):
        pins = read_pins(lock)
        if archive.name in pins:
            return False
        pins[archive.name] = Pin(sha256_of(archive.path), archive.path.stat().st_size)
        lines = [f"{pin.sha256} {pin.bytes} {url}\n" for url, pin in sorted(pins.items())]
        new = lock.with_name(f".{lock.name}.new")
        try:
            new.write_text(_HEADER + "".join(lines), encoding="utf-8")
            new.replace(lock)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise SuresetError(
                f"{lock} cannot be written: {error.strerror}; let it be written."
            ) from error
    return True
