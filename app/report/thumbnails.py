"""Pictures in a page: small, and in the page itself."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

from PIL import Image

from app.data.pictures import PictureError, Preprocess, read_rgb


def thumbnail(file: Path, side: int) -> str | None:
    """A small square JPEG as a data URI, None if the picture cannot be read (any more)."""
    try:
        square = read_rgb(file, Preprocess(resize=side, size=side, interpolation="bilinear"))
    except PictureError:
        return None
    small = BytesIO()
    Image.fromarray(square).save(small, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(small.getvalue()).decode()
