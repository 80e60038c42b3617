from __future__ import annotations

import os
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.data import scan as scanning
from app.data.manifest import Manifest
from app.data.pictures import digest
from app.data.scan import scan
from app.errors import SuresetError


def manifest(root: Path, images: list[str]) -> Manifest:
    codes = np.zeros(len(images), np.int64)
    return Manifest(root, "csv", images, {"kind": ["a", "b"]}, {"kind": codes})


def test_every_file_is_read_and_every_bad_one_named(tmp_path: Path) -> None:
    contents = []
    for i in range(150):  # More than one thread's share.
        file = BytesIO()
        Image.new("RGB", (8, 8), (i, 0, 0)).save(file, "PNG")
        contents.append(file.getvalue())
    contents[70] = b"no picture"
    contents[71] = b""
    for i, content in enumerate(contents):
        (tmp_path / f"{i}.png").write_bytes(content)
    (tmp_path / "149.png").unlink()

    seen = scan(manifest(tmp_path, [f"{i}.png" for i in range(150)]), tmp_path / "cache")

    assert list(seen.unreadable) == [70, 71, 149]
    assert "not a picture" in seen.unreadable[70]
    assert seen.unreadable[149] == "it cannot be opened: No such file or directory"
    for i, content in enumerate(contents[:149]):
        assert seen.digests[i].tobytes() == digest(content)
    assert seen.digests.shape == (150, 16) and not seen.digests[149].any()


def test_no_rows(tmp_path: Path) -> None:
    seen = scan(manifest(tmp_path, []), tmp_path / "cache")
    assert seen.digests.shape == (0, 16) and seen.unreadable == {}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The contents that were looked at."""
    contents: list[bytes] = []

    def keep(data: bytes) -> None:
        contents.append(data)

    monkeypatch.setattr(scanning, "check_header", keep)
    return contents


def write(path: Path, content: bytes) -> None:
    """A file that was last written a minute ago, as far as can be pretended."""
    path.write_bytes(content)
    os.utime(path, (time.time() - 60,) * 2)


def test_only_what_changed_is_read_again(
    tmp_path: Path, read: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "_YOUNG_NS", 0)
    names = [f"{i}.png" for i in range(30)]
    for name in names:
        write(tmp_path / name, name.encode())
    folder, cache = manifest(tmp_path, names), tmp_path / "cache"
    first = scan(folder, cache)
    assert len(read) == 30
    read.clear()
    second = scan(folder, cache)
    assert read == []
    assert (second.digests == first.digests).all()

    # As long, and as old, and another: in the file itself.
    written = (tmp_path / "7.png").stat().st_mtime_ns
    (tmp_path / "7.png").write_bytes(b"8.png")
    os.utime(tmp_path / "7.png", ns=(0, written))
    write(tmp_path / "new.png", b"new")
    (tmp_path / "3.png").unlink()
    folder = manifest(tmp_path, [*names, "new.png"])
    third = scan(folder, cache)
    assert sorted(read) == [b"8.png", b"new"]
    assert list(third.unreadable) == [3] and not third.digests[3].any()
    assert third.digests[7].tobytes() == digest(b"8.png")
    assert third.digests[30].tobytes() == digest(b"new")
    assert (
        np.delete(third.digests, [3, 7, 30], axis=0) == np.delete(first.digests, [3, 7], 0)
    ).all()


def test_a_file_that_may_change_unnoticed_is_read_again(tmp_path: Path, read: list[bytes]) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    folder = manifest(tmp_path, ["a.png"])
    scan(folder, tmp_path / "cache")
    scan(folder, tmp_path / "cache")
    assert read == [b"a", b"a"]


def test_what_cannot_be_read_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "_YOUNG_NS", 0)
    write(tmp_path / "a.png", b"no picture")
    for _ in range(2):
        assert list(scan(manifest(tmp_path, ["a.png"]), tmp_path / "cache").unreadable) == [0]


def test_another_folder_of_the_same_files_is_another(
    tmp_path: Path, read: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "_YOUNG_NS", 0)
    for name, content in (("one", b"a"), ("two", b"b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(content)
        os.utime(tmp_path / name / "a.png", (1e9, 1e9))
    for name, content in (("one", b"a"), ("two", b"b")):
        seen = scan(manifest(tmp_path / name, ["a.png"]), tmp_path / "cache")
        assert seen.digests[0].tobytes() == digest(content)


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(SuresetError, match=r"cannot be written to .*--cache"):
        scan(manifest(tmp_path, ["a.png"]), tmp_path / "cache")
