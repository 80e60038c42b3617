"""Names that carry labels: those of SGVehicle and UTKFace."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from app.data.layouts.codes import encode
from app.data.layouts.files import absent, pictures_under
from app.data.manifest import Manifest

_MOST_NAMES = 0.9


@dataclass(frozen=True)
class Part:
    """One part of a name: its task, what it is sorted by, and what its class is called."""

    task: str
    key: Callable[[str], str] = str
    name: Callable[[str], str] = str


def _decade(age: str) -> str:
    """``37`` -> ``30``."""
    return str(int(age) // 10 * 10)


def _years(decade: str) -> str:
    """``30`` -> ``30-39``."""
    return f"{decade}-{int(decade) + 9}"


#: The numbers of UTKFace, as its authors give them.
_GENDERS = {"0": "male", "1": "female"}
_RACES = {"0": "White", "1": "Black", "2": "Asian", "3": "Indian", "4": "Others"}

#: Layout -> pattern of a name, its parts, and the form it is told by.
_NAMES: dict[str, tuple[re.Pattern[str], list[Part], str]] = {
    "sgvehicle": (
        re.compile(r"([^_]+)_([^_]+)_[^_]+\.png", re.IGNORECASE),
        [Part("colour"), Part("type")],
        "color_type_id.png",
    ),
    "utkface": (
        # The published files end in .jpg or, cropped, in .jpg.chip.jpg.
        re.compile(r"(1?\d?\d)_([01])_([0-4])_[^_]+\.jpe?g", re.IGNORECASE),
        [
            Part("age", _decade, _years),
            Part("gender", name=_GENDERS.__getitem__),
            Part("race", name=_RACES.__getitem__),
        ],
        "age_gender_race_id.jpg",
    ),
}


def read_names(root: Path, layout: str) -> Manifest:
    pattern, parts, form = _NAMES[layout]
    images = pictures_under(root)
    matches = [pattern.fullmatch(PurePosixPath(image).name) for image in images]
    if images and not any(matches):
        raise absent(root, layout, f"picture named like {form}")
    classes, labels = {}, {}
    for i, part in enumerate(parts, start=1):
        keys = pd.Series([part.key(match[i]) if match else "" for match in matches], dtype=str)
        found, labels[part.task] = encode(keys)
        classes[part.task] = [part.name(key) for key in found]
    return Manifest(root, layout, images, classes, labels)


def looks_named(images: Sequence[str], layout: str) -> bool:
    """Whether nearly all names fit, and no folders separate them where the pattern is weak."""
    pattern = _NAMES[layout][0]
    fitting = sum(pattern.fullmatch(PurePosixPath(image).name) is not None for image in images)
    one_folder = len({image.rpartition("/")[0] for image in images}) == 1
    return fitting >= _MOST_NAMES * len(images) and (layout == "utkface" or one_folder)
