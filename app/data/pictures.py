"""One picture file -> one square of RGB bytes: the same for training, calibration and serving."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

#: What a picture file's name may end in, in lower case.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})

#: A picture with more pixels is refused before it is decoded: 90 million are 270 MB of RGB.
MAX_PIXELS = 90_000_000

#: The share of a picture's area that a view of it shows, and the most that its sides differ.
_AREA = 0.35, 1.0
_RATIO = 4 / 3

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow warns of oddities in pictures that it decodes all the same.
warnings.filterwarnings("ignore", module=r"PIL\.")


class PictureError(Exception):
    """A picture that cannot be read; the text is the reason, fit to follow the file's name."""


@dataclass(frozen=True)
class Preprocess:
    """The geometry a network's weights were trained with.

    Attributes:
        resize: what the shorter side is resized to, in pixels.
        size: the side of the square cut from the middle, in pixels, at most ``resize``.
        interpolation: bilinear, bicubic, lanczos, box, hamming or nearest.
    """

    resize: int
    size: int
    interpolation: str

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.resize:
            raise ValueError(f"a square of {self.size} cannot be cut from a side of {self.resize}")
        if self.interpolation.upper() not in Image.Resampling.__members__:
            raise ValueError(f"there is no interpolation {self.interpolation}")


def digest(data: bytes) -> bytes:
    """The 16 bytes that stand for a file's content."""
    return xxhash.xxh3_128_digest(data)


def read_unchanged(file: Path, expected: bytes) -> bytes:
    """The content of a file that is still the one with this digest.

    Otherwise what is computed of another picture would stand under that digest for good.

    Raises:
        PictureError: it is another, or it cannot be opened.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise PictureError(f"it cannot be opened: {error.strerror}") from error
    if digest(data) != expected:
        raise PictureError("it changed while it was being read")
    return data


def check_header(data: bytes) -> tuple[int, int]:
    """See whether a file begins like a picture that ``read_rgb`` would decode.

    Returns:
        Its width and height in pixels, as they are stored.

    Raises:
        PictureError: it does not.
    """
    try:
        with _open(data) as picture:
            return picture.size
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(_reason(error)) from error


def read_rgb(source: Path | bytes, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Decode a picture and cut the square a network sees from its middle.

    The shorter side becomes ``preprocess.resize`` and the middle ``preprocess.size`` is kept, both
    in one resampling. The picture is turned upright by its EXIF orientation. Transparency lies on
    white, a wide grey range is brought to 8 bits, of several frames the first counts, and embedded
    colour profiles are left aside.

    Args:
        source: a file or its content.
        preprocess: the geometry.

    Returns:
        RGB, (size, size, 3), read-only.

    Raises:
        PictureError: it is missing, damaged, no picture or too large.
    """
    return _read(source, preprocess.resize, lambda picture: _square(picture, preprocess))


def read_view(
    source: Path | bytes, preprocess: Preprocess, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Decode a picture as ``read_rgb`` does, and cut another square from it: an augmented view.

    A box of 0.35 to 1 of the picture's area and of a ratio between 3:4 and 4:3 is drawn from
    ``rng``, and resized to the square; every second one is mirrored (Szegedy et al. 2015, with
    larger boxes). Colours stay: one may be what is to be told.

    Returns:
        RGB, (size, size, 3), read-only.

    Raises:
        PictureError: as ``read_rgb``.
    """
    size = preprocess.size
    resampling = Image.Resampling[preprocess.interpolation.upper()]

    def cut(picture: Image.Image) -> Image.Image:
        return picture.resize((size, size), resampling, _random_box(picture.size, rng))

    # A box's side is at least half of the picture's, which is thus decoded at twice the size.
    view = _read(source, 2 * preprocess.resize, cut)
    return view[:, ::-1] if rng.random() < 0.5 else view


def _random_box(
    size: tuple[int, int], rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Left, upper, right and lower edge of a box in a picture of this width and height."""
    area = rng.uniform(*_AREA) * size[0] * size[1]
    ratio = np.exp(rng.uniform(-np.log(_RATIO), np.log(_RATIO)))
    sides = np.minimum(np.sqrt([area * ratio, area / ratio]), size)
    corner = rng.uniform(0, size - sides)
    left, upper = corner.tolist()
    right, lower = np.minimum(corner + sides, size).tolist()
    return left, upper, right, lower


def _read(
    source: Path | bytes, least: int, cut: Callable[[Image.Image], Image.Image]
) -> NDArray[np.uint8]:
    """Decode a picture, its shorter side at least ``least`` if it is, cut it and turn it."""
    try:
        with _open(source) as picture:
            # JPEG's transform can halve a picture while decoding, up to three times; what is left
            # still has to be resized down, never up.
            picture.draft("RGB", (least, least))
            picture.load()
            orientation = picture.getexif().get(_ORIENTATION)
            square = cut(_rgb(picture))
            if orientation in _UPRIGHT:
                square = square.transpose(_UPRIGHT[orientation])
            return np.asarray(square)
    except PictureError:
        raise
    # Decoders meet damaged files with whatever their bytes lead to: OSError, SyntaxError,
    # ValueError, struct.error, ... Each means the same here.
    except Exception as error:
        raise PictureError(_reason(error)) from error


def _open(source: Path | bytes) -> ImageFile.ImageFile:
    file = BytesIO(source) if isinstance(source, bytes) else source
    picture = Image.open(file, formats=_FORMATS)
    pixels = picture.width * picture.height
    if pixels > MAX_PIXELS:
        picture.close()
        raise PictureError(f"it is too large: {pixels} pixels, {MAX_PIXELS} at most")
    return picture


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        # Wider numbers do not say which of them is white: their own range is spread.
        values = np.asarray(picture, np.float64)
        if not np.isfinite(values).all():
            raise PictureError("it holds numbers that are no brightness")
        low, high = values.min(), values.max()
        values = (values - low) * (255 / (high - low) if high > low else 0)
        return Image.fromarray(values.round().astype(np.uint8)).convert("RGB")
    return picture.convert("RGB")


def _square(picture: Image.Image, preprocess: Preprocess) -> Image.Image:
    size = preprocess.size
    scale = preprocess.resize / min(picture.size)
    side = size / scale
    left, upper = (picture.width - side) / 2, (picture.height - side) / 2
    if scale == 1:
        left, upper = int(left), int(upper)
        return picture.crop((left, upper, left + size, upper + size))
    resampling = Image.Resampling[preprocess.interpolation.upper()]
    return picture.resize((size, size), resampling, (left, upper, left + side, upper + side))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is not a picture (JPEG, PNG, WebP, BMP, TIFF or GIF)"
    if isinstance(error, Image.DecompressionBombError):
        return f"it is too large: {MAX_PIXELS} pixels at most"
    if isinstance(error, OSError) and error.strerror:
        return f"it cannot be opened: {error.strerror}"
    return f"it is damaged: {error or type(error).__name__}"
