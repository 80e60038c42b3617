"""Pictures out of uploaded files and zips, one after the other, whatever a zip says of itself.

Nothing is unpacked to the disk, and no name from outside is ever opened: it is only shown. What a
zip's directory says of sizes is not believed; reading stops where too much has come.
"""

from __future__ import annotations

import io
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from app.data.pictures import SUFFIXES, PictureError
from app.errors import SuresetError
from app.web.api import MOST_BYTES

#: Pictures of one batch, and bytes that its zips may unpack to.
MOST_PICTURES = 10_000
MOST_UNPACKED = 8 * 2**30

#: Bytes of a zip's directory: some 400 for each of the most pictures.
_MOST_DIRECTORY = 4 * 2**20
_ENCRYPTED = 0x1
_CHUNK = 2**18

_TOO_LARGE = f"it is larger than {MOST_BYTES // 2**20} MB"

#: What ``zipfile`` meets bytes with that are no zip, or a damaged one.
_DAMAGES = (
    *(BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError),
    *(OverflowError, MemoryError),
)


class Upload(NamedTuple):
    """A file that was uploaded: where it lies, and its name where it came from."""

    path: Path
    name: str

    @property
    def is_zip(self) -> bool:
        return self.name.lower().endswith(".zip")


class Found(NamedTuple):
    """One picture file: a name to show, and its content or why there is none."""

    name: str
    data: bytes | PictureError


class Pictures:
    """All pictures of some uploads, in their order; to be iterated over once or more often.

    Attributes:
        total: how many will come, those that cannot be read among them.
        left_out: files in zips that are no pictures by their names.
    """

    def __init__(self, uploads: Sequence[Upload]) -> None:
        """Look at the zips' directories.

        Raises:
            SuresetError: there are no pictures, or too many.
        """
        self.total = self.left_out = 0
        self._uploads = uploads
        for upload in uploads:
            members, others = _directory(upload) if upload.is_zip else ([], 0)
            # What cannot be opened is one entry that says so.
            self.total += 1 if members is None or not upload.is_zip else len(members)
            self.left_out += others
        if self.total > MOST_PICTURES:
            raise SuresetError(
                f"{self.total:,} pictures are too many for one batch: send at most "
                f"{MOST_PICTURES:,} at once."
            )
        if not self.total:
            ends = ", ".join(sorted(SUFFIXES))
            raise SuresetError(f"there is no picture in it: pictures’ names end in {ends}.")

    def __iter__(self) -> Iterator[Found]:
        told = Counter[str]()
        for name, data in self._found():
            told[name] += 1
            yield Found(name if told[name] == 1 else f"{name} ({told[name]})", data)

    def _found(self) -> Iterator[Found]:
        several = len(self._uploads) > 1
        unpacked = 0
        for upload in self._uploads:
            shown = _plain(upload.name)
            if not upload.is_zip:
                yield Found(shown, _file(upload.path))
                continue
            members, _ = _directory(upload)
            if members is None:
                yield Found(shown, PictureError("it is not a whole zip: pack it again"))
                continue
            with _open(upload.path) as archive:
                for member in members:
                    data, read = _read(archive, member, MOST_UNPACKED - unpacked)
                    unpacked += read
                    name = _plain(member.filename)
                    yield Found(f"{shown}/{name}" if several else name, data)


def _file(path: Path) -> bytes | PictureError:
    try:
        return PictureError(_TOO_LARGE) if path.stat().st_size > MOST_BYTES else path.read_bytes()
    except OSError as error:
        return PictureError(f"it cannot be opened: {error.strerror}")


def _directory(upload: Upload) -> tuple[list[ZipInfo] | None, int]:
    """What a zip holds of pictures (None if it is not a zip), and how many other files.

    Raises:
        SuresetError: its directory is larger than one of the most pictures could be.
    """
    try:
        with _open(upload.path) as archive:
            members = archive.infolist()
    except _DAMAGES:
        return None, 0
    files = [m for m in members if not m.is_dir() and not _hidden(PurePosixPath(m.filename))]
    pictures = [m for m in files if PurePosixPath(m.filename).suffix.lower() in {*SUFFIXES, ".zip"}]
    return pictures, len(files) - len(pictures)


def _hidden(path: PurePosixPath) -> bool:
    """What systems leave in archives: ``.DS_Store``, ``__MACOSX/._a.jpg``."""
    return any(part == "__MACOSX" or (part[0] == "." and part != "..") for part in path.parts)


@contextmanager
def _open(path: Path) -> Iterator[ZipFile]:
    with _Wary(path) as file, ZipFile(file) as archive:
        yield archive


class _Wary(io.FileIO):
    """A zip file of which ``ZipFile`` is given no directory that would fill the memory.

    The directory is the only thing it reads at once, with the size that the zip says it has.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        left = os.fstat(self.fileno()).st_size - self.tell()
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > _MOST_DIRECTORY:
            raise SuresetError(
                f"the zip lists too many files: send at most {MOST_PICTURES:,} pictures at once."
            )
        return super().read(wanted)


def _read(archive: ZipFile, member: ZipInfo, room: int) -> tuple[bytes | PictureError, int]:
    """A member's content or why there is none, and how many bytes were unpacked for it."""
    if member.filename.lower().endswith(".zip"):
        return PictureError("it is a zip within the zip: unpack it first"), 0
    if member.flag_bits & _ENCRYPTED:
        return PictureError("it is locked with a password: pack it without one"), 0
    # The other methods' decoders give all at once that a few bytes can be made to stand for.
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        return PictureError("it is packed in a way that is not read here: use plain zip"), 0
    # Not to be believed if it is small; but no more than this is ever unpacked.
    if member.file_size > MOST_BYTES:
        return PictureError(_TOO_LARGE), 0
    if member.file_size > room:
        most = f"{MOST_UNPACKED // 2**30} GB"
        return PictureError(f"the zips unpack to more than {most}: send them in parts"), 0
    data = bytearray()
    try:
        with archive.open(member) as content:
            # All at once it would be unpacked as far as it goes.
            while chunk := content.read(_CHUNK):
                data += chunk
    except _DAMAGES as error:
        return PictureError(f"it is damaged in the zip: {error or type(error).__name__}"), len(data)
    return bytes(data), len(data)


def _plain(name: str) -> str:
    """A name that can be written down: what is no text in it is replaced."""
    return name.encode("utf-8", "replace").decode()
