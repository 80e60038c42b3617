"""Bring a published data set into an empty data folder: archives, room, pins, pictures."""

from __future__ import annotations

from pathlib import Path

from app.data.datasets import (
    Archive,
    fetch_archive,
    pin,
    published_archives,
    read_pins,
    require_writable,
)
from app.data.download import length_of, part_of
from app.data.filling import NotEmptyError, filling, finish
from app.data.layouts import read_manifest
from app.data.unpacking import ArchiveError, Weight, unpack, weigh
from app.disk import Need, require_room
from app.errors import SuresetError
from app.progress import progress, say

#: In a data set's folder, so that a folder that somebody else named like it is not taken for it.
_MARKER = ".prefetched"


def fetch_dataset(name: str, root: Path, cache_dir: Path, static_dir: Path) -> None:
    """Bring the pictures of a published data set into ``root/name``, all or none.

    The archives stay in the cache, so that another folder can be filled without the network.

    Args:
        name: of the data set.
        root: the data folder: missing or empty, or with the set in it, and then nothing is done.
        cache_dir: where the archives go.
        static_dir: where the catalogue of data sets is, and the lock that pins them.

    Raises:
        SuresetError: it cannot be had, there is no room for it, or ``root`` holds something else.
    """
    what = f"the data set {name}"
    finish(root, what)
    try:
        if not _holds(root, name):
            with filling(root, what) as folder:
                _write(name, folder, root, cache_dir, static_dir)
            return
    except NotEmptyError:
        if not _holds(root, name):
            raise
    say(f"{root} holds {what} already")


def _holds(root: Path, name: str) -> bool:
    return (root / name / _MARKER).is_file()


def _write(name: str, folder: Path, root: Path, cache_dir: Path, static_dir: Path) -> None:
    what = f"the data set {name}"
    lock = static_dir / "datasets.lock"
    archives = published_archives(name, static_dir, cache_dir)
    lengths = _lengths(archives, lock)
    missing = sum(
        max(length - _arrived(archive), 0)
        for archive, length in zip(archives, lengths, strict=True)
    )
    if missing:
        # Pictures are compressed: unpacked, they take about as much again.
        require_room(
            what, [Need(cache_dir, "--cache", missing), Need(root, "--data", sum(lengths))]
        )

    weights = [_fetch(archive, lock) for archive in archives]
    require_room(what, [Need(root, "--data", sum(weight.bytes for weight in weights))])
    with progress(f"unpack {name}", sum(weight.pictures for weight in weights)) as advance:
        for archive in archives:
            try:
                unpack(archive.path, folder / name, advance)
            except ArchiveError as error:
                raise _refused(archive, error) from error
    try:
        _check_layout(folder, name)
    except SuresetError:
        for archive in archives:
            if archive.name not in read_pins(lock):
                archive.path.unlink()  # It would be taken for what the address sends.
        raise
    for archive in archives:
        if pin(archive, lock):
            say(f"{archive.name} is pinned in {lock}: commit that file")
    (folder / name / _MARKER).touch()


def _lengths(archives: list[Archive], lock: Path) -> list[int]:
    """How long the archives are: as pinned, as they are in the cache or their servers say, or 0."""
    pins = read_pins(lock)
    if any(archive.name not in pins for archive in archives):
        require_writable(lock)
    lengths = []
    for archive in archives:
        if archive.name in pins:
            length = pins[archive.name].bytes
        elif archive.path.is_file():
            length = archive.path.stat().st_size
        else:
            length = length_of(archive.url) or 0
        lengths.append(length)
    return lengths


def _arrived(archive: Archive) -> int:
    """How much of an archive is in the cache."""
    files = archive.path, part_of(archive.path)
    return sum(file.stat().st_size for file in files if file.is_file())


def _fetch(archive: Archive, lock: Path) -> Weight:
    """Bring an archive into the cache, and read it through."""
    path = fetch_archive(archive, lock)
    try:
        return weigh(path)
    except ArchiveError as error:
        raise _refused(archive, error) from error


def _refused(archive: Archive, error: ArchiveError) -> SuresetError:
    """Unless it goes, it would be taken for what the address sends."""
    archive.path.unlink(missing_ok=True)
    return SuresetError(
        f"the archive of {archive.name} is refused and was deleted, for {error}: see whether "
        "datasets.yaml names the right address."
    )


def _check_layout(folder: Path, name: str) -> None:
    try:
        layout = read_manifest(folder).layout
    except SuresetError as error:
        raise _not_the_set(name) from error
    if layout != name:
        raise _not_the_set(name)


def _not_the_set(name: str) -> SuresetError:
    return SuresetError(
        f"the names of the pictures that were fetched are not those of {name}: let datasets.yaml "
        "name the right addresses."
    )
