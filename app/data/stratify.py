"""Splits in which every class has its share of each, and every combination of classes as well.

**Goal.** As iterative stratification has it (Sechidis, Tsoumakas and Vlahavas 2011; Szymański and
Kajdanowicz 2017, arXiv 1704.08756): each split holds its share of every class and of every
combination of classes, as far as whole pictures allow, rare ones first. That algorithm places one
picture at a time and lets it prefer the split that lacks its class most. This one is systematic
sampling (Madow and Madow 1944): all at once, and every picture's chance of each split is exactly
the split's share.

**Rule.** A picture's classes are sorted, the rarest of the whole set first, and the pictures by
these: so pictures of one combination are neighbours on a line, and so are combinations of one
rarest class. Within a combination their order is a hash of the seed and the content. Walking along
the line one adds up the share p that is to be held out, from a random start in [0, 1), and holds
out each picture at which the sum passes a whole number. So each is held out with probability p,
and any stretch of the line, whether a combination, a rarest class or everything, has its pictures
times p held out, to within one. The fitted ones are divided into train and valid in the same way,
the held-out ones into calib and test by pairing neighbours and tossing a coin a pair. A stretch of
n pictures then holds 0.15 n of calib and of test to within 1.5, and its share of train and of valid
to within 2. A class that is seldom a picture's rarest is balanced in its combinations alone: better
than by lot, and the less so the more tasks there are.

Tied pictures move as one and count as the rarest of their combinations. Ties are dealt out by size,
halving; what the larger ones leave uneven in the whole is made up for by the chances of the smaller
ones, which then are about the shares: beside a tie that is larger than a split's own share, fewer
of them are in train.

**Coverage.** The model depends on the fitted pictures alone. Fix these and the pairs, so that only
the coins are random, and let n pairs have scores, k = ceil((n + 1)(1 - alpha)), and the k-th
smallest of the n calibration scores be the threshold. Then at most n - k + 1 <= alpha (n + 1) of
the n test scores are expected above it: coverage is at least 1 - alpha - alpha / n on average,
whatever the scores and the classes are (with a division by lot it would be 1 - alpha). Proof: let
a < b be the scores of a pair. Of its test score and its calibration score equally many are expected
above the threshold, but for the pairs with exactly n - k calibration scores of *other* pairs above
b: those have half a test score more. Let b fall from the largest to the smallest. With every step
the calibration scores above it gain at least one with probability one half, by the coin of the pair
just left, which told nothing before. So their number stays at n - k for two steps on average at
most; and n - k calibration scores are above the threshold. This speaks of the threshold of a task
that all pictures are labelled for, where none are tied or were given. Within one combination a coin
and the hash say which pictures calibrate and which test, so there they are exchangeable.

**Given splits** are kept. What a combination has too much of by them is made up for by the chances
of its other pictures, which are the same for all of these; what is left of it by those of its
rarest class, and what is left then by those of all pictures. So chances of calib and of test are as
equal as what was given is, and no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from app.data.manifest import SPLITS
from app.data.splits import SHARES, Digests, Groups, Names, follow, places, ties_and_keys

_TRAIN, _VALID, _CALIB, _TEST = range(len(SPLITS))
_FREE = -1

#: A surplus is made up for in so many turns, for a chance that would fall below 0 leaves a rest; in
#: each as if so many more pictures were free, so that the chances of one that is added alone follow
#: its combination, its rarest class and the whole alike.
_TURNS, _MORE = 5, 20

Numbers = NDArray[np.int64]
Chances = NDArray[np.float64]


def stratify(
    labels: Mapping[str, Numbers],
    digests: Digests,
    group: Groups | None,
    given: Names | None,
    seed: int,
    images: Sequence[str] | None = None,
) -> Names:
    """Give every picture a split, so that classes and their combinations are spread by the shares.

    Pictures of one group and byte-identical pictures are tied: they share a split, and where one of
    them has a given split the others follow it. Given splits are kept. The order of the rows does
    not matter.

    Args:
        labels: {task: codes, (n,)}, -1 where unknown, which counts as a class; one task or more.
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
    split = np.full(len(keys), _FREE)
    if given is not None:
        followed = follow(tie, np.full(n, "", "<U5"), np.asarray(given), images)
        for number, name in enumerate(SPLITS):
            split[tie[followed == name]] = number

    combination, rarest_class = _combinations(labels)
    stratum = np.full(len(keys), len(rarest_class))
    np.minimum.at(stratum, tie, combination)
    size = np.bincount(tie)

    chances = np.broadcast_to(SHARES, (len(rarest_class), len(SPLITS)))
    for level in (np.arange(len(rarest_class)), rarest_class):
        chances = _make_up(chances, level, stratum, size, split)

    place = places(keys, seed)
    rng = np.random.default_rng(np.bitwise_xor.reduce(place))
    power = np.frexp(size)[1]
    for large in np.unique(power[split == _FREE])[::-1]:
        chances = _make_up(chances, np.zeros_like(rarest_class), stratum, size, split)
        line = np.flatnonzero((split == _FREE) & (power == large))
        line = line[np.lexsort((place[line], -size[line], stratum[line]))]
        split[line] = _deal(chances[stratum[line]], rng)
    return np.array(SPLITS)[split][tie]


def _combinations(labels: Mapping[str, Numbers]) -> tuple[Numbers, Numbers]:
    """Each picture's combination (n,), and each combination's rarest class (combinations,).

    Both are numbered from 0: combinations in the order of the line, classes of all tasks from the
    rarest to the most frequent.
    """
    ranks, counts = [], [np.bincount(codes + 1) for codes in labels.values()]
    rank_of = np.empty(sum(map(len, counts)), np.int64)
    rank_of[np.argsort(np.concatenate(counts), kind="stable")] = np.arange(len(rank_of))
    start = 0
    for codes, count in zip(labels.values(), counts, strict=True):
        ranks.append(rank_of[start + 1 + codes])
        start += len(count)
    rarest_first = np.sort(np.stack(ranks, axis=1), axis=1)

    combination = np.zeros(len(rarest_first), np.int64)
    for rank in rarest_first.T:
        _, first, combination = np.unique(
            combination * len(rank_of) + rank, return_index=True, return_inverse=True
        )
    return combination, rarest_first[first, 0]


def _make_up(
    chances: Chances, level: Numbers, stratum: Numbers, size: Numbers, split: Numbers
) -> Chances:
    """Correct chances by what each number in ``level`` would have too much of, (strata, 4).

    Args:
        chances: of each split for the free ties of each stratum, (strata, 4).
        level: the number of the larger stratum that each stratum is in, (strata,).
        stratum: of each tie, (ties,).
        size: the number of pictures of each tie, (ties,).
        split: number of the split that each tie is in, -1 where it is free, (ties,).
    """
    cell = stratum * (len(SPLITS) + 1) + split + 1
    counts = np.bincount(cell, size, len(level) * (len(SPLITS) + 1)).astype(np.float64)
    free, has = np.split(counts.reshape(len(level), -1), [1], axis=1)
    if not has.any():
        return chances
    meant = (free + has.sum(1, keepdims=True)) * SHARES
    for _ in range(_TURNS):
        surplus = _sums(has + chances * free - meant, level)
        chances = np.maximum(chances - (surplus / (_sums(free, level) + _MORE))[level], 0)
        chances = chances / chances.sum(1, keepdims=True)
    return chances


def _sums(values: Chances, level: Numbers) -> Chances:
    """(strata, m) -> sums over the strata of each number in ``level``, (numbers, m)."""
    return np.stack([np.bincount(level, column) for column in values.T], axis=1)


def _ratio(a: Chances, b: Chances) -> Chances:
    """a / b, and 0 where b is 0."""
    a, b = np.broadcast_arrays(a, b)
    return np.divide(a, b, out=np.zeros(a.shape), where=b > 0)


def _deal(chances: Chances, rng: np.random.Generator) -> Numbers:
    """Numbers of splits along the line, (m,), by the chances of each place on it, (m, 4)."""
    held = _systematic(chances[:, _CALIB] + chances[:, _TEST], rng)
    split = np.full(len(held), _TRAIN)
    fitted, out = chances[~held], chances[held]
    valid = _systematic(_ratio(fitted[:, _VALID], fitted[:, _TRAIN] + fitted[:, _VALID]), rng)
    test = _systematic(_ratio(out[:, _TEST], out[:, _CALIB] + out[:, _TEST]), rng)
    _toss(test, rng)
    split[~held] = np.where(valid, _VALID, _TRAIN)
    split[held] = np.where(test, _TEST, _CALIB)
    return split


def _systematic(p: Chances, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Take each of a line with its probability, and of any stretch the sum of them, within one."""
    return np.diff(np.floor(rng.random() + np.cumsum(p)), prepend=0) > 0


def _toss(taken: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Swap the first and the second of a line by a coin, the third and the fourth, and so on."""
    pairs = taken[: len(taken) // 2 * 2].reshape(-1, 2)
    heads = rng.random(len(pairs)) < 0.5
    pairs[heads] = pairs[heads, ::-1]
