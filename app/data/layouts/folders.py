"""One folder a class, of one task."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from app.data.layouts.codes import encode
from app.data.layouts.files import absent, pictures_under
from app.data.manifest import Manifest


def read_folders(root: Path) -> Manifest:
    images = [image for image in pictures_under(root) if "/" in image]
    if not images:
        raise absent(root, "folders", "folder with pictures in it")
    classes, codes = encode(pd.Series([image.split("/")[0] for image in images], dtype=str))
    return Manifest(root, "folders", images, {"class": classes}, {"class": codes})
