from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from app.data.manifest import Manifest
from app.data.pictures import digest
from app.data.scan import scan


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
