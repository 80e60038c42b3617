"""Zips that no honest program writes."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path


def write_zip(
    path: Path, files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED
) -> Path:
    """An ordinary zip."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def claim(path: Path, name: str, **claimed: int) -> Path:
    """Change what a zip's directory says of a member: its ``size``, ``flags`` or ``method``."""
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(name.encode()))
    offsets = {"flags": (8, "<H"), "method": (10, "<H"), "size": (24, "<I")}
    for field, value in claimed.items():
        offset, form = offsets[field]
        struct.pack_into(form, data, at + offset, value)
    path.write_bytes(data)
    return path


def write_overlapping(path: Path, content: bytes, copies: int) -> Path:
    """A zip whose members all share the same bytes, so that it unpacks to many times its size."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", content)
    data = buffer.getvalue()
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    directory = data[start:end] * copies
    tail = bytearray(data[end:])
    struct.pack_into("<HHII", tail, 8, copies, copies, len(directory), start)
    path.write_bytes(data[:start] + directory + tail)
    return path
