"""Which pictures are the same, and where that contradicts their labels or their splits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from app.data.checking.looks import Looks
from app.data.manifest import SPLITS, Manifest
from app.data.splits import ties
from app.rowstore import scalars

Rows = NDArray[np.int64]

#: The bits of two perceptual hashes (of 64) that may differ. As many are 0 as are 1, so they differ
#: by an even number, and 2 is the least that another JPEG quality makes.
_MOST_BITS = 2
#: One more block than bits that may differ: one block at least is equal.
_BLOCKS = ((0, 22), (22, 21), (43, 21))
#: Levels of 255 by which mean colours may differ. The hash is that of a grey picture.
_MOST_LEVELS = 8.0


@dataclass(frozen=True)
class Copy:
    """One of several pictures that are the same, or belong together."""

    image: str
    split: str
    labels: dict[str, str | None]


@dataclass(frozen=True)
class Copies:
    """Pictures that are the same.

    Attributes:
        alike: in their "bytes", to a network in their "pixels", or "nearly".
        pictures: two or more.
        differ: the tasks whose labels differ.
        splits: those they are in, unless they are the same in their bytes.
    """

    alike: str
    pictures: list[Copy]
    differ: list[str]
    splits: list[str]


def find_copies(
    manifest: Manifest, split: NDArray[np.str_], looks: Looks, rows: Rows
) -> list[Copies]:
    """All groups of pictures that are the same: first those in their bytes, then the others.

    Args:
        manifest: n pictures.
        split: of each, (n,).
        looks: at each.
        rows: the pictures that could be read.
    """
    content = _numbered(looks.digests[rows])
    near = alike(content, looks.hashes[rows], looks.colours[rows])
    found = []
    for members in sorted(_groups(content), key=itemgetter(0)):
        found.append(_copies("bytes", manifest, split, rows[members], content[members]))
    for members in sorted(_groups(near), key=itemgetter(0)):
        if len(np.unique(content[members])) > 1:
            same = (looks.pixels[rows[members]] == looks.pixels[rows[members[0]]]).all()
            how = "pixels" if same else "nearly"
            found.append(_copies(how, manifest, split, rows[members], content[members]))
    return found


def alike(
    content: NDArray[np.int64], hashes: NDArray[np.uint64], colours: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Number pictures so that those which look alike, or like one that does, share a number.

    Args:
        content: equal where the files are, (n,), numbered from 0 on.
        hashes: perceptual hashes of 64 bits, (n,).
        colours: mean colours, (n, 3).
    """
    _, first = np.unique(content, return_index=True)
    h, colour = hashes[first], colours[first]
    links = [(0, 0)] if len(first) else []
    for start, width in _BLOCKS:
        block = (h >> np.uint64(start)) & np.uint64((1 << width) - 1)
        for members in _groups(block):
            links.extend(_spanning(members, h, colour))
    if not links:
        return content
    one, other = np.array(links).T
    graph = coo_array((np.ones(len(links), bool), (one, other)), (len(first), len(first)))
    return connected_components(graph, directed=False)[1].astype(np.int64)[content]


def _spanning(
    members: Rows, hashes: NDArray[np.uint64], colours: NDArray[np.float64]
) -> Iterator[tuple[int, int]]:
    """As many pairs of members that look alike as it takes to tell which are connected."""
    free = members
    while len(free):
        reached, free = [free[0]], free[1:]
        while reached and len(free):
            at = reached.pop()
            near = np.bitwise_count(hashes[free] ^ hashes[at]) <= _MOST_BITS
            near &= np.abs(colours[free] - colours[at]).max(axis=1) <= _MOST_LEVELS
            yield from ((int(at), int(other)) for other in free[near])
            reached.extend(free[near])
            free = free[~near]


def given_two_splits(manifest: Manifest, digests: NDArray[np.uint8]) -> list[Rows]:
    """The pictures that share content or a group and are given different splits, by tie."""
    if manifest.split is None:
        return []
    given = np.flatnonzero(manifest.split != "")
    tied = ties(digests, manifest.group)[given]
    groups = (given[members] for members in sorted(_groups(tied), key=itemgetter(0)))
    return [rows for rows in groups if len(np.unique(manifest.split[rows])) > 1]


def described(manifest: Manifest, split: NDArray[np.str_], rows: Rows) -> list[Copy]:
    """Pictures with their labels by name, None where unknown.

    First one of each that differ in labels or split, for the others may not be looked at.
    """
    copies = [
        Copy(
            manifest.images[row],
            str(split[row]),
            {
                task: manifest.classes[task][codes[row]] if codes[row] >= 0 else None
                for task, codes in manifest.labels.items()
            },
        )
        for row in rows.tolist()
    ]
    first: dict[tuple[object, ...], Copy] = {}
    for copy in copies:
        first.setdefault((copy.split, *copy.labels.values()), copy)
    differing = set(map(id, first.values()))
    return sorted(copies, key=lambda copy: id(copy) not in differing)


def _copies(
    how: str, manifest: Manifest, split: NDArray[np.str_], rows: Rows, content: Rows
) -> Copies:
    differ = [task for task, codes in manifest.labels.items() if _differ(codes[rows], content)]
    across = set(split[rows].tolist()) if how != "bytes" else set()
    return Copies(
        alike=how,
        pictures=described(manifest, split, rows),
        differ=differ,
        splits=[name for name in SPLITS if name in across],
    )


def _differ(codes: Rows, content: Rows) -> bool:
    """Whether labels differ: among one file's copies, or else between different files."""
    known = codes >= 0
    between = len(np.unique(content[known])) > 1 or len(np.unique(content)) == 1
    return between and len(np.unique(codes[known])) > 1


def _numbered(digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Equal where the digests (n, 16) are, (n,), numbered from 0 on."""
    return np.unique(scalars(digests), return_inverse=True)[1].astype(np.int64)


def _groups(numbers: NDArray) -> Iterator[Rows]:
    """The places of equal numbers (n,), where there are two or more."""
    order = np.argsort(numbers, kind="stable")
    ends = np.flatnonzero(np.diff(numbers[order])) + 1
    yield from (group for group in np.split(order, ends) if len(group) > 1)
