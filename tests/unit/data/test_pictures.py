"""Every kind of file that may come in, and every kind that may not."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.data.pictures import PictureError, Preprocess, check_header, digest, read_rgb, read_view

# pytest sets aside the filter of the module itself.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

PLAIN = Preprocess(resize=32, size=32, interpolation="bilinear")
RED, GREEN, BLUE = (200, 30, 40), (30, 180, 60), (20, 60, 190)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def quarters(width: int = 64, height: int = 64) -> Image.Image:
    """Red, green, blue and white, clockwise from the upper left."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[: height // 2, : width // 2] = RED
    pixels[: height // 2, width // 2 :] = GREEN
    pixels[height // 2 :, width // 2 :] = BLUE
    return Image.fromarray(pixels)


def corners(square: np.ndarray) -> list[list[int]]:
    """The colours of the middles of the quarters, clockwise from the upper left."""
    near, far = len(square) // 4, 3 * len(square) // 4
    return [square[at].tolist() for at in ((near, near), (near, far), (far, far), (far, near))]


def assert_close(square: np.ndarray, expected: list[tuple[int, int, int]], by: int = 6) -> None:
    assert np.abs(np.array(corners(square), int) - np.array(expected)).max() <= by


UPRIGHT = [RED, GREEN, BLUE, (255, 255, 255)]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("GIF", {}),
    ],
)
def test_all_formats_give_the_same_square(kind: str, options: dict[str, Any]) -> None:
    square = read_rgb(encoded(quarters(), kind, **options), PLAIN)
    assert square.shape == (32, 32, 3) and square.dtype == np.uint8
    assert_close(square, UPRIGHT)


def test_a_file_and_its_bytes_are_the_same(tmp_path: Path) -> None:
    data = encoded(quarters(90, 70), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.jpg", PLAIN), read_rgb(data, PLAIN))


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "really-a-png.jpg").write_bytes(encoded(quarters(), "PNG"))
    assert_close(read_rgb(tmp_path / "really-a-png.jpg", PLAIN), UPRIGHT)


def test_the_middle_of_a_wide_picture_is_kept() -> None:
    picture = Image.new("RGB", (96, 32), RED)
    picture.paste(GREEN, (32, 0, 64, 32))
    picture.paste(BLUE, (64, 0, 96, 32))
    assert_close(read_rgb(encoded(picture, "PNG"), PLAIN), [GREEN] * 4)
    assert_close(read_rgb(encoded(picture.rotate(90, expand=True), "PNG"), PLAIN), [GREEN] * 4)


def test_a_picture_of_the_right_size_is_only_cut() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (256, 300, 3), dtype=np.uint8)
    square = read_rgb(encoded(Image.fromarray(pixels), "PNG"), Preprocess(256, 224, "bicubic"))
    np.testing.assert_array_equal(square, pixels[16:240, 38:262])


def test_one_resampling_equals_resizing_and_then_cutting() -> None:
    rng = np.random.default_rng(0)
    rough = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(rough).resize((480, 360), Image.Resampling.BICUBIC)
    square = read_rgb(encoded(picture, "PNG"), Preprocess(120, 100, "bilinear"))
    two_steps = picture.resize((160, 120), Image.Resampling.BILINEAR).crop((30, 10, 130, 110))
    assert np.abs(square.astype(int) - np.asarray(two_steps, int)).max() <= 1


def test_a_small_picture_is_enlarged() -> None:
    assert_close(read_rgb(encoded(quarters(8, 8), "PNG"), PLAIN), UPRIGHT)


def test_a_big_jpeg_is_shrunk_while_it_is_decoded() -> None:
    data = encoded(quarters(1600, 1600), "JPEG", quality=95)
    assert_close(read_rgb(data, PLAIN), UPRIGHT)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(kind: str, orientation: int) -> None:
    turned = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    picture = quarters(80, 64)
    stored = picture.transpose(turned) if turned is not None else picture
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    assert_close(read_rgb(encoded(stored, kind, exif=exif, **options), PLAIN), UPRIGHT)


def test_grey_palette_and_bilevel() -> None:
    grey = quarters().convert("L")
    square = read_rgb(encoded(grey, "PNG"), PLAIN)
    assert (square[..., 0] == square[..., 1]).all() and (square[..., 1] == square[..., 2]).all()
    palette = quarters().convert("P", palette=Image.Palette.ADAPTIVE)
    assert_close(read_rgb(encoded(palette, "PNG"), PLAIN), UPRIGHT)
    bilevel = read_rgb(encoded(quarters().convert("L").point(lambda v: v > 200, "1"), "PNG"), PLAIN)
    assert_close(bilevel, [(0, 0, 0), (0, 0, 0), (0, 0, 0), (255, 255, 255)])


def test_cmyk_jpeg() -> None:
    square = read_rgb(encoded(quarters().convert("CMYK"), "JPEG", quality=95), PLAIN)
    assert_close(square, UPRIGHT, by=12)


def test_transparency_lies_on_white() -> None:
    picture = quarters().convert("RGBA")
    picture.putalpha(Image.new("L", picture.size, 0))
    picture.paste((*RED, 255), (0, 0, 32, 32))
    for kind in ("PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        assert_close(read_rgb(encoded(picture, kind, **options), PLAIN), [RED, *[(255,) * 3] * 3])
    palette = Image.new("P", (64, 64), 1)
    palette.putpalette([0, 0, 0, *GREEN])
    palette.paste(0, (32, 0, 64, 64))
    data = encoded(palette, "PNG", transparency=0)
    assert_close(read_rgb(data, PLAIN), [GREEN, (255,) * 3, (255,) * 3, GREEN])
    keyed = encoded(quarters(), "PNG", transparency=BLUE)
    assert_close(read_rgb(keyed, PLAIN), [RED, GREEN, (255,) * 3, (255,) * 3])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_brightness(kind: str) -> None:
    values = np.full((64, 64), 0x8000, np.uint16)
    values[:32] = 0x2000
    square = read_rgb(encoded(Image.fromarray(values), kind), PLAIN)
    assert_close(square, [(0x20,) * 3, (0x20,) * 3, (0x80,) * 3, (0x80,) * 3], by=1)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_numbers_without_a_white_are_spread(dtype: type) -> None:
    values: np.ndarray = np.full((64, 64), 3, dtype)
    values[32:] = 7
    square = read_rgb(encoded(Image.fromarray(values), "TIFF"), PLAIN)
    assert_close(square, [(0,) * 3, (0,) * 3, (255,) * 3, (255,) * 3])
    values[:] = 5
    assert not read_rgb(encoded(Image.fromarray(values), "TIFF"), PLAIN).any()


def test_numbers_that_are_none() -> None:
    data = encoded(Image.fromarray(np.full((40, 40), np.nan, np.float32)), "TIFF")
    with pytest.raises(PictureError, match="no brightness"):
        read_rgb(data, PLAIN)


def test_the_first_frame_counts() -> None:
    later = [Image.new("RGB", (64, 64), "black")] * 2
    data = encoded(quarters(), "GIF", save_all=True, append_images=later)
    assert_close(read_rgb(data, PLAIN), UPRIGHT)


# What is refused


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header promises more than its few bytes hold."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    magic = b"\x89PNG\r\n\x1a\n"
    return magic + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_500, 60_000])
def test_bombs_are_refused_before_they_are_decoded(side: int) -> None:
    for read in (lambda data: read_rgb(data, PLAIN), check_header):
        with pytest.raises(PictureError, match="too large"):
            read(png_of(side, side))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"])
def test_cut_off_pictures_are_refused(kind: str) -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(picture, kind)
    with pytest.raises(PictureError, match=r"damaged|not a picture"):
        read_rgb(data[: len(data) * 2 // 3], PLAIN)


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg></svg>", b"%PDF-1.7", b"\xff\xd8\xff"])
def test_what_is_no_picture(data: bytes) -> None:
    for read in (lambda data: read_rgb(data, PLAIN), check_header):
        with pytest.raises(PictureError, match=r"it is (not a picture|damaged)"):
            read(data)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="cannot be opened: No such file"):
        read_rgb(tmp_path / "missing.jpg", PLAIN)
    with pytest.raises(PictureError, match="cannot be opened: Is a directory"):
        read_rgb(tmp_path, PLAIN)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_is_a_reason_or_harmless(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"]))
    file = bytearray(encoded(quarters(40, 40), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert read_rgb(bytes(file), PLAIN).shape == (32, 32, 3)
    except PictureError as error:
        assert str(error).startswith("it ") and len(str(error)) < 300


def views(data: bytes, n: int = 60) -> list[np.ndarray]:
    return [read_view(data, PLAIN, np.random.default_rng(i)) for i in range(n)]


def test_a_view_is_a_box_of_the_picture() -> None:
    """Of a picture whose colours tell where in it they are."""
    width, height = 200, 160
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    ramps = np.stack([x, y, 0 * x], axis=2).astype(np.uint8)
    flipped = []
    for view in views(encoded(Image.fromarray(ramps), "PNG")):
        assert view.shape == (32, 32, 3) and view.dtype == np.uint8
        across, down = np.ptp(view[16, :, 0].astype(int)), np.ptp(view[:, 16, 1].astype(int))
        # The outermost pixels' middles are half a pixel inside the box.
        box = across * 32 / 31, down * 32 / 31
        assert 0.3 < box[0] * box[1] / (width * height) <= 1.02
        assert 0.7 < box[0] / box[1] < 1.42
        flipped.append(view[16, 0, 0] > view[16, -1, 0])
        assert view[0, 16, 1] < view[-1, 16, 1]
    assert 15 < sum(flipped) < 45


@pytest.mark.parametrize("orientation", range(1, 9))
def test_views_are_mirrored_upright(orientation: int) -> None:
    """However the file is turned, what was above stays above."""
    stored = quarters().transpose(Image.Transpose.ROTATE_90) if orientation >= 5 else quarters()
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = read_rgb(encoded(stored, "PNG", exif=exif), PLAIN)
    above = {tuple(colour) for colour in (upright[2, 2].tolist(), upright[2, -3].tolist())}
    for view in views(encoded(stored, "PNG", exif=exif), 10):
        assert {tuple(view[0, 0].tolist()), tuple(view[0, -1].tolist())} <= above


def test_a_view_is_drawn_by_the_generator_alone() -> None:
    data = encoded(quarters(), "PNG")
    for a, b in zip(views(data), views(data), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(PictureError, match="it is not a picture"):
        read_view(b"hello", PLAIN, np.random.default_rng(0))


def test_impossible_geometry() -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        Preprocess(resize=224, size=256, interpolation="bilinear")
    with pytest.raises(ValueError, match="no interpolation"):
        Preprocess(resize=224, size=224, interpolation="cubist")


def test_digests_tell_contents_apart() -> None:
    assert len(digest(b"")) == 16
    assert digest(b"a") == digest(bytes([97])) != digest(b"b")
