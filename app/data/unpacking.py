"""Unpack archives that nobody vouches for: their pictures, inside one folder, or nothing.

What could lead elsewhere is refused and not made harmless: an archive that holds it was made by
somebody who means harm, or is not what it was taken for. No link is ever written, so that no path
can lead through one.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from app.data.pictures import SUFFIXES
from app.errors import SuresetError

#: A bound on what one archive makes of a file system, far above what a set of pictures needs.
_MOST_MEMBERS = 1 << 16
#: Pictures are compressed already: a bomb is, by a thousand to one.
_MOST_TIMES = 100
#: Of all that goes before a member's content, such as a long name.
_MOST_HEADER = 1 << 16
#: Of the zeros at the end of a tar, which is written in records.
_MOST_PADDING = 1 << 20

_GZIP, _ZIP = b"\x1f\x8b", b"PK"
_BLOCK = 512
_CHUNK = 1 << 16

#: What reading a damaged archive ends in.
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, struct.error),
    *(EOFError, ValueError, OverflowError, RecursionError, NotImplementedError),
)


class ArchiveError(SuresetError):
    """What is wrong with an archive, as a clause: it is damaged, or nothing to unpack."""


class Weight(NamedTuple):
    """How much there is to unpack."""

    pictures: int
    bytes: int


class _Member(NamedTuple):
    """A member of an archive of either kind, described as tar does, and how it is opened."""

    info: tarfile.TarInfo
    open: Callable[[], IO[bytes]]


def is_archive(file: Path) -> bool:
    """Whether a file begins like a tar, tar.gz or zip."""
    with open(file, "rb") as opened:
        head = opened.read(_BLOCK)
    return head.startswith((_GZIP, _ZIP)) or head[257:262] == b"ustar"


def weigh(archive: Path) -> Weight:
    """Read an archive to its end as if it were unpacked, and write nothing.

    Raises:
        ArchiveError: it cannot be unpacked as a whole, or holds what is refused, or no picture.
    """
    pictures = size = 0
    with _damage_told():
        for _, member in _pictures(archive):
            pictures += 1
            size += sum(map(len, _content(member)))
    if not pictures:
        raise ArchiveError("there is no picture in it")
    return Weight(pictures, size)


def unpack(archive: Path, folder: Path, advance: Callable[[int], None]) -> None:
    """Write an archive's pictures into ``folder``, which nobody else writes into.

    Args:
        archive: a tar, tar.gz or zip.
        folder: where paths begin.
        advance: told of every picture.

    Raises:
        ArchiveError: as ``weigh``; what was written before is left there.
        OSError: it cannot be written.
    """
    with _damage_told():
        for path, member in _pictures(archive):
            place = folder / path
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                file = open(place, "xb")  # noqa: SIM115
            except (FileExistsError, NotADirectoryError) as error:
                raise ArchiveError(f"something else is in the place of its {path}") from error
            with file:
                for chunk in _content(member):
                    file.write(chunk)
            advance(1)


@contextmanager
def _damage_told() -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise ArchiveError(f"it is damaged ({error})") from error


def _pictures(archive: Path) -> Iterator[tuple[PurePosixPath, _Member]]:
    """The pictures among the members, all of which are looked at."""
    with open(archive, "rb") as file:
        zipped = file.read(len(_ZIP)) == _ZIP
    most = _MOST_TIMES * archive.stat().st_size
    size = 0
    for count, member in enumerate((_in_zip if zipped else _in_tar)(archive), start=1):
        if count > _MOST_MEMBERS:
            raise ArchiveError(f"it has more than {_MOST_MEMBERS} members")
        _refuse_hostile(member.info)
        size += member.info.size
        if size > most:
            raise ArchiveError(f"it would become more than {_MOST_TIMES} times as large")
        path = PurePosixPath(member.info.name)
        hidden = any(part.startswith(".") for part in path.parts)
        if member.info.isreg() and not hidden and path.suffix.lower() in SUFFIXES:
            yield path, member


def _refuse_hostile(info: tarfile.TarInfo) -> None:
    """Refuse what is no file or folder below the one it is unpacked into."""
    path = PurePosixPath(info.name)
    if path.is_absolute() or ".." in path.parts or "\0" in info.name:
        raise ArchiveError(f"it holds {info.name!r}, which leads out of its folder")
    if info.size < 0 or info.issparse():
        raise ArchiveError(f"it holds {info.name!r}, of which not all is there")
    if not (info.isreg() or info.isdir()):
        raise ArchiveError(f"it holds {info.name!r}, which is a link or a device")


def _content(member: _Member) -> Iterator[bytes]:
    """Exactly as many bytes as the archive declares."""
    left = member.info.size
    with member.open() as stream:
        # One byte more is asked for: a zip is checked as its end is reached.
        while chunk := stream.read(min(_CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
    if left:
        raise ArchiveError(f"{member.info.name!r} is not as large as it says")


def _in_tar(archive: Path) -> Iterator[_Member]:
    with open(archive, "rb") as file:
        zipped = file.read(len(_GZIP)) == _GZIP
    with gzip.open(archive) if zipped else open(archive, "rb") as plain:
        stream = _Forward(cast(IO[bytes], plain))
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            while (info := tar.next()) is not None:
                stream.left = max(info.size, 0)
                yield _Member(info, partial(_extracted, tar, info))
                stream.left = _MOST_HEADER
        # It ends at a header that is none, be it of zeros, as the last has to be, or damaged.
        rest = plain.read(_MOST_PADDING + 1)
        if stream.last != bytes(_BLOCK) or len(rest) > _MOST_PADDING or any(rest):
            raise ArchiveError("it is damaged, for it breaks off")


def _extracted(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    opened = tar.extractfile(info)
    assert opened is not None, "only regular files are opened"
    return opened


class _Forward(io.RawIOBase):
    """A stream for tarfile that goes forward alone, and reads no more than ``left`` allows.

    By itself tarfile reads a header of any size into memory, and goes back where a negative size
    leads (CVE-2025-8194).
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.left = _MOST_HEADER
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.left:
            raise tarfile.ReadError("a header has no end")
        self.left -= size
        self.last = self._stream.read(size)
        return self.last

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if position < self._stream.tell():
            raise tarfile.ReadError("it leads back")
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()


def _in_zip(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            if not entry.filename or entry.header_offset < 0:
                raise ArchiveError("it is damaged (its directory leads nowhere)")
            if entry.flag_bits & 1:
                raise ArchiveError(f"its {entry.filename!r} is encrypted")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ArchiveError(f"its {entry.filename!r} is compressed in an unusual way")
            yield _Member(_as_in_tar(entry), partial(opened.open, entry))


def _as_in_tar(entry: zipfile.ZipInfo) -> tarfile.TarInfo:
    """So that one set of rules is for both."""
    info = tarfile.TarInfo(entry.filename)
    info.size = entry.file_size
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if entry.is_dir():
        info.type = tarfile.DIRTYPE
    elif kind not in (0, stat.S_IFREG):
        info.type = tarfile.CHRTYPE  # Or a link: it is refused all the same.
    return info
