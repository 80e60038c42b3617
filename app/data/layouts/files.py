"""What lies in a folder of pictures, and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Collection
from itertools import islice
from pathlib import Path

from app.data.pictures import SUFFIXES
from app.errors import SuresetError


def pictures_under(root: Path, folder: str = "") -> list[str]:
    """Paths relative to ``root`` of all pictures below ``folder``, sorted.

    A folder that both a link and a path without one lead to is seen by the latter.
    """
    found = []
    seen: set[str] = set()
    folders, links = [folder], list[str]()
    while folders or links:
        inside = folders.pop() if folders else links.pop(links.index(min(links)))
        real = os.path.realpath(root / inside)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(root / inside) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = f"{inside}/{entry.name}" if inside else entry.name
                link = entry.is_symlink()
                if link:
                    refuse_outside(root, path)
                if os.path.isdir(entry.path) if link else entry.is_dir():
                    (links if link else folders).append(path)
                elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and (
                    link or entry.is_file()  # Links that lead nowhere are found out later.
                ):
                    found.append(path)
    return sorted(found)


def refuse_outside(root: Path, path: str) -> None:
    if not Path(os.path.realpath(root / path)).is_relative_to(os.path.realpath(root)):
        raise SuresetError(
            f"{path} leads out of {root}: put the pictures themselves into the folder."
        )


def no_pictures(root: Path) -> SuresetError:
    return SuresetError(
        f"there are no pictures in {root}: put some there, or have the sample set written by "
        "`make train` without DATA_DIR or by `python -m app prefetch`."
    )


def absent(root: Path, layout: str, what: str) -> SuresetError:
    return SuresetError(
        f"{root} does not have the layout {layout}: there is no {what}; leave --layout out and it "
        "is found out."
    )


def first_of(names: Collection[str]) -> str:
    """The first three names, to be read in a sentence."""
    return ", ".join(islice(names, 3)) + (", ..." if len(names) > 3 else "")
