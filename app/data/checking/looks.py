"""Look at every picture once: is it whole, what does it resemble, is it dark, blurred, odd?

CleanVision measures each picture and judges the measures by its own thresholds. It is given the
square that a network sees, decoded by ``read_rgb``, and the size that the file's header names.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from cleanvision.issue_managers.duplicate_issue_manager import DuplicateIssueManager, get_hash
from cleanvision.issue_managers.image_property_issue_manager import ImagePropertyIssueManager
from numpy.typing import NDArray
from PIL import Image, ImageStat

from app.data.manifest import Manifest
from app.data.pictures import PictureError, Preprocess, check_header, digest, read_rgb
from app.errors import SuresetError
from app.processes import processes
from app.progress import progress

#: CleanVision's names of what a person may want to look at.
ISSUES = ("dark", "light", "blurry", "low_information", "odd_size", "odd_aspect_ratio")

#: Between the geometries of the networks, which differ little.
_GEOMETRY = Preprocess(resize=256, size=224, interpolation="bilinear")

#: What a picture is measured for; "light" is judged by the measures of "dark".
_MEASURED = ("dark", "blurry", "low_information")
_MEASURES = (
    "brightness_perc_5",
    "brightness_perc_99",
    "blurriness",
    "blurriness_grayscale_std",
    "entropy",
)

_PROPERTIES = ImagePropertyIssueManager().image_properties
_HASHES = DuplicateIssueManager().get_default_params()

#: So many pictures are looked at by the time that other processes have started.
_FEW = 1000
_PICTURES_A_TASK = 32


@dataclass(frozen=True)
class Looks:
    """What n files hold. Rows that could not be read hold zeros.

    Attributes:
        digests: of every file's content, (n, 16).
        unreadable: row -> reason, of files that do not begin like a picture.
        broken: row -> reason, of those that do and cannot be decoded to their end.
        pixels: of what a network sees, (n, 16): equal where all pixels are.
        hashes: perceptual hashes, (n,): few bits differ where pictures look alike but for colour.
        colours: mean red, green and blue, 0 to 255, (n, 3).
        sizes: width and height in pixels, (n, 2).
        issues: of each in ``ISSUES``, the rows that have it, the worst first.
    """

    digests: NDArray[np.uint8]
    unreadable: dict[int, str]
    broken: dict[int, str]
    pixels: NDArray[np.uint8]
    hashes: NDArray[np.uint64]
    colours: NDArray[np.float64]
    sizes: NDArray[np.int64]
    issues: dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class _Seen:
    """One picture; ``measures`` as named by ``_MEASURES``."""

    digest: bytes
    size: tuple[int, int]
    pixels: bytes
    hash: int
    colour: tuple[float, ...]
    measures: tuple[float, ...]


@dataclass(frozen=True)
class _Unseen:
    digest: bytes
    reason: str
    begun: bool


def look(manifest: Manifest) -> Looks:
    """Read and decode every picture of a manifest, on all cores."""
    n = len(manifest)
    looks = Looks(
        digests=np.zeros((n, 16), np.uint8),
        unreadable={},
        broken={},
        pixels=np.zeros((n, 16), np.uint8),
        hashes=np.zeros(n, np.uint64),
        colours=np.zeros((n, 3)),
        sizes=np.zeros((n, 2), np.int64),
        issues={},
    )
    measures = np.zeros((n, len(_MEASURES)))
    paths = [manifest.path(row) for row in range(n)]
    tasks = [paths[i : i + _PICTURES_A_TASK] for i in range(0, n, _PICTURES_A_TASK)]
    row = 0
    with progress("check", n) as advance, _mapping(n) as mapped, _deaths_told():
        for found in mapped(_look_all, tasks):
            for one in found:
                looks.digests[row] = np.frombuffer(one.digest, np.uint8)
                if isinstance(one, _Unseen):
                    (looks.broken if one.begun else looks.unreadable)[row] = one.reason
                else:
                    looks.pixels[row] = np.frombuffer(one.pixels, np.uint8)
                    looks.hashes[row] = one.hash
                    looks.colours[row] = one.colour
                    looks.sizes[row] = one.size
                    measures[row] = one.measures
                row += 1
            advance(len(found))
    whole = np.setdiff1d(np.arange(n), [*looks.unreadable, *looks.broken])
    looks.issues.update(_judge(whole, measures[whole], looks.sizes[whole]))
    return looks


def _judge(
    rows: NDArray[np.int64], measures: NDArray[np.float64], sizes: NDArray[np.int64]
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Of each issue, the rows that CleanVision says have it, the lowest score first.

    Args:
        rows: of the pictures, (m,).
        measures: as named by ``_MEASURES``, (m, 5).
        sizes: widths and heights, (m, 2).
    """
    if not len(rows):
        yield from ((issue, rows) for issue in ISSUES)
        return
    table = pd.DataFrame(measures, index=rows, columns=list(_MEASURES))
    table["size"] = np.sqrt(sizes.prod(axis=1))
    table["aspect_ratio"] = sizes.min(axis=1) / sizes.max(axis=1)
    manager = ImagePropertyIssueManager()
    manager.issues = pd.DataFrame(index=rows)
    manager.update_issues(table, list(ISSUES))
    for issue in ISSUES:
        found = manager.issues[manager.issues[f"is_{issue}_issue"]]
        worst_first = found.sort_values(f"{issue}_score", kind="stable")
        yield issue, worst_first.index.to_numpy(np.int64)


@contextmanager
def _deaths_told() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise SuresetError(
            "a process that looked at the pictures was ended, maybe for want of memory: the "
            "largest pictures take up to 2 GB in each; make room for it and try again."
        ) from error


@contextmanager
def _mapping(n: int) -> Iterator[Callable[..., Iterable[list[_Seen | _Unseen]]]]:
    """A ``map`` on all cores, unless starting processes would take longer.

    Threads would wait for each other: half of the measuring is Python. Spawned processes would each
    load this module for seconds, so they are forked from a server that has loaded it once.
    """
    if n <= _FEW:
        yield map
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with processes(context) as pool:
        yield pool.map


def _look_all(paths: list[Path]) -> list[_Seen | _Unseen]:
    return [_look(path) for path in paths]


def _look(path: Path) -> _Seen | _Unseen:
    content = bytes(16)
    begun = False
    try:
        data = path.read_bytes()
        content = digest(data)
        size = check_header(data)
        begun = True
        square = read_rgb(data, _GEOMETRY)
    except PictureError as error:
        return _Unseen(content, str(error), begun)
    except OSError as error:
        return _Unseen(content, f"it cannot be opened: {error.strerror}", begun)
    picture = Image.fromarray(square)
    measured = {
        name: value
        for issue in _MEASURED
        for name, value in _PROPERTIES[issue].calculate(picture).items()
    }
    return _Seen(
        content,
        size,
        pixels=bytes.fromhex(get_hash(picture, _HASHES["exact_duplicates"])),
        hash=int(get_hash(picture, _HASHES["near_duplicates"]), 16),
        colour=tuple(ImageStat.Stat(picture).mean),
        measures=tuple(float(measured[name]) for name in _MEASURES),
    )
