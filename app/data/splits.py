"""Which split a picture belongs to, told from the picture alone.

A picture's place in [0, 1) is a hash of the seed and of its group, or of its content where it has
no group; the shares of the splits, laid end to end, say which split that place is in. So no picture
moves when others are added. No rule that looks at one picture can balance the classes exactly: each
class is spread over the splits by these shares in expectation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xxhash
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from app.data.manifest import SPLITS
from app.errors import SuresetError
from app.rowstore import scalars

#: How much of the pictures each of ``SPLITS`` is meant to hold.
SHARES = (0.60, 0.10, 0.15, 0.15)

Digests = NDArray[np.uint8]
Names = NDArray[np.str_]
#: Objects, for a text of NumPy's own is as long as the longest.
Groups = NDArray[np.object_]


def assign(
    digests: Digests,
    group: Groups | None,
    given: Names | None,
    seed: int,
    images: Sequence[str] | None = None,
) -> Names:
    """Give every picture a split.

    Pictures of one group and byte-identical pictures are tied: they share a split, and where one of
    them has a given split the others follow it. Given splits are kept. An old picture moves only
    when an added one ties it to what it was apart from, or brings it a given split.

    Args:
        digests: of each picture's content, (n, 16).
        group: name of each picture's group, "" where it has none, (n,); or None.
        given: split that each picture has to be in, "" where it is free, (n,); or None.
        seed: 0 or more; another seed is another independent split.
        images: the pictures' names, for the error.

    Returns:
        train, valid, calib or test, (n,).

    Raises:
        SuresetError: tied pictures are given different splits.
    """
    n = len(digests)
    if n == 0:
        return np.empty(0, "<U5")
    tie, keys = ties_and_keys(digests, group)
    split = np.array(SPLITS)[_draw(keys, seed)][tie]
    return split if given is None else follow(tie, split, np.asarray(given), images)


def ties(digests: Digests, group: Groups | None) -> NDArray[np.int64]:
    """The tie of each picture, (n,) numbered from 0: one group or one content share a tie."""
    return ties_and_keys(digests, group)[0]


def ties_and_keys(digests: Digests, group: Groups | None) -> tuple[NDArray[np.int64], Digests]:
    """The tie that each row belongs to (n,), and each tie's key (ties, 16).

    The key is the content's digest, or the digest of the group's name (of the first name, where
    copies of one picture tie groups together), so that a group can grow and keep its place.
    """
    contents, content = np.unique(scalars(digests), return_inverse=True)
    keys = np.frombuffer(contents.tobytes(), np.uint8).reshape(-1, 16)
    if group is None or not (grouped := np.flatnonzero(group != "")).size:
        return content, keys

    of_grouped, groups = pd.factorize(group[grouped], sort=True)
    nodes = len(contents) + len(groups)
    links = (np.ones(len(grouped), bool), (content[grouped], len(contents) + of_grouped))
    ties, tie_of_node = connected_components(coo_array(links, (nodes, nodes)), directed=False)

    key_of_tie = np.empty((ties, 16), np.uint8)
    key_of_tie[tie_of_node[: len(contents)]] = keys
    # Backwards, so that the first name is the last to be written.
    for name, tie in zip(groups[::-1], tie_of_node[len(contents) :][::-1], strict=True):
        key_of_tie[tie] = np.frombuffer(xxhash.xxh3_128_digest(name.encode()), np.uint8)
    return tie_of_node[content].astype(np.int64), key_of_tie


def _draw(keys: Digests, seed: int) -> NDArray[np.int64]:
    """Keys (m, 16) -> number of the split, (m,)."""
    ends = np.cumsum(SHARES)[:-1]
    return np.searchsorted(ends, (places(keys, seed) >> np.uint64(11)) * 2.0**-53, side="right")


def places(keys: Digests, seed: int) -> NDArray[np.uint64]:
    """Keys (m, 16) -> the hash of each with the seed, (m,), spread evenly over all 64 bits."""
    halves = np.ascontiguousarray(keys).view("<u8")
    return _mix(halves[:, 1] ^ _mix(halves[:, 0] ^ _mix(np.array([seed], np.uint64))))


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea and Flood 2014): every bit of the input stirs every bit."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def follow(
    tie: NDArray[np.int64], split: Names, given: Names, images: Sequence[str] | None
) -> Names:
    """Replace ``split`` by the given split of the tie, where it has one.

    Raises:
        SuresetError: tied pictures are given different splits.
    """
    rows = np.flatnonzero(given != "")
    leader = np.full(tie.max() + 1, -1)
    leader[tie[rows[::-1]]] = rows[::-1]
    against = rows[given[rows] != given[leader[tie[rows]]]]
    if len(against):
        pair = (int(leader[tie[against[0]]]), int(against[0]))
        first, second = (images[row] if images is not None else f"row {row}" for row in pair)
        raise SuresetError(
            f"{len(against)} of {len(given)} pictures are copies, or of the group, of pictures "
            f"that are given another split (the first: {first} in {given[pair[0]]}, {second} in "
            f"{given[pair[1]]}): give them the same split or remove them."
        )
    lead = leader[tie]
    return np.where(lead >= 0, given[lead], split)
