"""Archives as they are published, and as somebody makes them who means harm."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image


def picture(number: int = 0, form: str = "PNG") -> bytes:
    """A small picture unlike that of any other number."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256 % 256, 7)).save(file, form)
    return file.getvalue()


def vehicles(colours: Iterable[str] = ("red", "blue"), each: int = 4) -> dict[str, bytes]:
    """A set named as SGVehicle is."""
    return {
        f"Gen_img/{colour}_{kind}_{i}.png": picture(1000 * c + 100 * k + i)
        for c, colour in enumerate(colours)
        for k, kind in enumerate(("sedan", "bus"))
        for i in range(each)
    }


def faces(part: int, each: int = 4) -> dict[str, bytes]:
    """A part named as those of UTKFace are."""
    return {
        f"part{part}/{20 + 10 * part + i}_{i % 2}_{i % 5}_2017.jpg": picture(100 * part + i, "JPEG")
        for i in range(each)
    }


def member(name: str, content: bytes = b"", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member of a tar, with whatever else is to be said of it."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, content


def tarred(
    *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz", form: int = tarfile.GNU_FORMAT
) -> bytes:
    """A tar of just these members."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=form) as tar:  # type: ignore[call-overload]
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def tar_of(files: Mapping[str, bytes], mode: str = "w:gz") -> bytes:
    return tarred(*(member(name, content) for name, content in files.items()), mode=mode)


def zip_of(files: Mapping[Any, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The keys are names, or what else a zip says of a member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def put(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file
