"""One look at every picture: what breaks off, what is odd, and what perceptual hashes keep."""

from __future__ import annotations

import os
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.data.checking import looks as looking
from app.data.checking.looks import ISSUES, Looks, look
from app.data.drawing.picture import draw_picture
from app.data.manifest import Manifest
from app.data.pictures import MAX_PIXELS, digest
from app.errors import SuresetError


def manifest(root: Path, images: list[str]) -> Manifest:
    codes = np.zeros(len(images), np.int64)
    return Manifest(root, "csv", images, {"kind": ["a", "b"]}, {"kind": codes})


def look_at(root: Path) -> tuple[list[str], Looks]:
    images = sorted(file.name for file in root.iterdir())
    return images, look(manifest(root, images))


def drawn(seed: int) -> Image.Image:
    return draw_picture(np.random.default_rng(seed), "red", "van").picture


def bomb() -> bytes:
    """A picture of 10 × 10 whose header says 60,000 × 60,000."""
    file = BytesIO()
    Image.new("RGB", (10, 10)).save(file, "BMP")
    content = bytearray(file.getvalue())
    content[18:26] = struct.pack("<ii", 60_000, 60_000)
    return bytes(content)


def test_what_cannot_be_read_is_told_apart(tmp_path: Path) -> None:
    drawn(0).save(tmp_path / "a.jpg", quality=90)
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "bomb.bmp").write_bytes(bomb())
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "gone.png").symlink_to("nowhere")
    images, seen = look_at(tmp_path)

    unreadable = {images[row]: reason for row, reason in seen.unreadable.items()}
    assert set(unreadable) == {"bomb.bmp", "empty.png", "gone.png", "text.png"}
    assert str(MAX_PIXELS) in unreadable["bomb.bmp"] and "too large" in unreadable["bomb.bmp"]
    assert "not a picture" in unreadable["text.png"]
    assert unreadable["gone.png"] == "it cannot be opened: No such file or directory"
    assert [images[row] for row in seen.broken] == ["cut.jpg"]
    assert "truncated" in seen.broken[images.index("cut.jpg")]

    assert seen.digests[images.index("a.jpg")].tobytes() == digest(whole)
    assert seen.sizes[images.index("a.jpg")].tolist() == list(drawn(0).size)
    assert {len(rows) for rows in seen.issues.values()} == {0}


def test_nothing_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    _, seen = look_at(tmp_path)
    assert list(seen.unreadable) == [0]
    assert tuple(seen.issues) == ISSUES and not any(len(rows) for rows in seen.issues.values())


def test_oddities_are_found_and_the_worst_comes_first(tmp_path: Path) -> None:
    for seed in range(8):
        drawn(seed).save(tmp_path / f"{seed}.png")
    size = drawn(0).size
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(noise // 20).save(tmp_path / "dark.png")
    Image.fromarray(noise // 40).save(tmp_path / "darker.png")
    Image.fromarray(255 - noise // 40).save(tmp_path / "light.png")
    Image.new("RGB", size, (90, 90, 200)).save(tmp_path / "plain.png")
    down, right = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
    glow = (255 - 127 * (down**2 + right**2)).clip(0).astype(np.uint8)  # It has no edge.
    Image.fromarray(glow).convert("RGB").save(tmp_path / "blurred.png")
    drawn(0).resize((900, 200)).save(tmp_path / "wide.png")
    images, seen = look_at(tmp_path)
    found = {issue: [images[row] for row in rows] for issue, rows in seen.issues.items()}
    assert found["dark"] == ["darker.png", "dark.png"]
    assert found["light"] == ["light.png"]
    assert found["low_information"][0] == "plain.png"
    assert found["blurry"] == ["blurred.png"]
    assert found["odd_size"] == found["odd_aspect_ratio"] == ["wide.png"]
    assert not any(f"{seed}.png" in rows for rows in found.values() for seed in range(8))


def test_other_processes_see_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(40):  # More than one task's share.
        drawn(seed).save(tmp_path / f"{seed}.jpg")
    (tmp_path / "20.jpg").write_text("no picture")
    _, here = look_at(tmp_path)
    monkeypatch.setattr(looking, "_FEW", 10)
    _, there = look_at(tmp_path)
    for name in ("digests", "pixels", "hashes", "colours", "sizes"):
        assert getattr(here, name).any()
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name))
    assert here.unreadable == there.unreadable and len(here.unreadable) == 1
    assert {k: v.tolist() for k, v in here.issues.items()} == {
        k: v.tolist() for k, v in there.issues.items()
    }


def end(_: list[Path]) -> None:
    """As the system does for want of memory."""
    os._exit(9)


def test_a_process_that_is_ended_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        drawn(seed).save(tmp_path / f"{seed}.jpg")
    monkeypatch.setattr(looking, "_FEW", 1)
    monkeypatch.setattr(looking, "_look_all", end)
    with pytest.raises(SuresetError, match="a process that looked at the pictures was ended"):
        look_at(tmp_path)


def test_a_picture_is_seen_upright_and_the_same_pixels_in_another_file(tmp_path: Path) -> None:
    picture = drawn(3)
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.bmp")
    orientation = Image.Exif()
    orientation[0x0112] = 6  # To be turned by 90 degrees to the right.
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "c.png", exif=orientation)
    _, seen = look_at(tmp_path)
    assert len(np.unique(seen.digests, axis=0)) == 3
    assert len(np.unique(seen.pixels, axis=0)) == len(np.unique(seen.hashes)) == 1


def test_nothing_is_said_but_progress(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    drawn(0).save(tmp_path / "a.png")
    look_at(tmp_path)
    said = capfd.readouterr()
    assert said.out == "" and said.err.startswith("check: 1/1 pictures in ")
    assert len(said.err.splitlines()) == 1
