"""Nonconformity scores: how badly each class conforms to what the network said of a picture.

A score is a function of one picture's probabilities and of a class: the score that the class would
have if it were the truth. Larger is stranger. Classes of equal probability are ranked by index.

A sure network says 1 - 1e-20 of one class and 1e-30 of another. Written as in the papers, 1 - p_y
is then 1 for every class but one, and calibration can no longer tell them apart. So scores are
counted from their ceiling, the value that they crowd at, and computed from small numbers alone:
hinge as -p_y, APS as minus the mass ranked below y. A constant changes no set and no p-value.
``score(probs)`` adds it again and gives the papers' numbers. (What still ties are truths of which
the network is sure to more than 1e-16, and in PIP, RAPS and SAPS sums of a rank and of less than
that. Ties are in.)

Deterministic by default. ``APS``, ``RAPS`` and ``SAPS`` have the papers' randomised form, in which
the last class counts with a uniform share u: ``APS(draw=7)``. The draw u is a hash of the picture's
own probabilities and of ``draw``, which is saved with the calibration: asked twice, a picture gets
the same set twice, and calibration and prediction use one and the same function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.conformal.checks import as_probs_of_task, by_checked_rows, check_whole

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
#: As they were given: float16, float32 or float64, (n, C), rows that sum to 1.
Probs = NDArray[np.floating]

#: Ranks that are looked at together. Most sets are smaller.
_CHUNK = 64


@dataclass(frozen=True)
class Score(ABC):
    """A nonconformity score.

    Its methods take rows of probabilities (n, C) and what each sums to (n, 1), from
    ``by_checked_rows``, and give scores less the ceiling; sets and p-values come from these. All of
    them give a picture's class the same number to the bit, whatever the other rows.
    """

    name: ClassVar[str]
    ceiling: ClassVar[float] = 1.0

    def __call__(self, probs: ArrayLike) -> Floats:
        """The papers' scores of every class, float64 (n, C), of probabilities (n, C).

        Raises:
            ValueError: ``probs`` has another shape, or rows that are no probabilities.
        """
        checked = as_probs_of_task(probs, "probs")
        scores = np.empty(checked.shape)

        def work(rows: slice, block: Probs, total: Floats) -> None:
            np.add(self.of_classes(block, total), self.ceiling, out=scores[rows])

        by_checked_rows(work, checked, f"probs of shape {checked.shape}")
        return scores

    @abstractmethod
    def of_classes(self, probs: Probs, total: Floats) -> Floats:
        """Score - ceiling of every class, (n, C)."""

    def of_truth(self, probs: Probs, total: Floats, labels: Ints) -> Floats:
        """Score - ceiling of each picture's class ``labels`` (n,), (n,)."""
        return self.of_classes(probs, total)[np.arange(len(probs)), labels]

    def within(self, probs: Probs, total: Floats, limits: Floats, out: Bools) -> None:
        """Write into ``out`` (n, C): is each class's score - ceiling at most its limit (C,)?"""
        np.less_equal(self.of_classes(probs, total), limits, out=out)


@dataclass(frozen=True)
class Hinge(Score):
    """1 - p_y. Also called LAC or THR (Sadinle, Lei and Wasserman 2019, arXiv 1609.00451)."""

    name = "hinge"

    def of_classes(self, probs: Probs, total: Floats) -> Floats:
        return -(probs / total)

    def within(self, probs: Probs, total: Floats, limits: Floats, out: Bools) -> None:
        if (limits != limits[0]).any() or (probs.dtype == np.float64 and (total != 1).any()):
            super().within(probs, total, limits, out)
            return
        # Rows are compared as they are, with the least number that is in once it is divided.
        least = (-limits[0] * total).astype(probs.dtype)
        low = least / total < -limits[0]  # It was rounded down; the next number is in.
        least[low] = np.nextafter(least[low], probs.dtype.type(np.inf))
        np.greater_equal(probs, least, out=out)


@dataclass(frozen=True)
class Margin(Score):
    """max over y' != y of p_y' - p_y (Johansson et al. 2017). A class alone has the rival 0: -1."""

    name = "margin"

    def of_classes(self, probs: Probs, total: Floats) -> Floats:
        p = probs / total
        rows, top = np.arange(len(p)), p.argmax(axis=1)
        others = p.copy()
        others[rows, top] = 0
        rest = others.sum(axis=1)
        scores = -(p + rest[:, None])  # The rival is the top class, 1 - rest.
        scores[rows, top] = others.max(axis=1) + rest - 2
        return scores


class RankedScore(Score):
    """A score that follows from the ranked probabilities, and never falls from rank to rank."""

    #: Seed of the shares u; without one the score is deterministic, u = 1.
    draw: int | None = None

    @abstractmethod
    def by_rank(self, p: Floats, below: Floats, u: Floats | float) -> Floats:
        """Score - ceiling of the K first ranks, (n, K).

        Args:
            p: their probabilities, from the largest on, (n, K).
            below: the mass of the classes ranked below each of them, (n, K).
            u: the share with which the last class counts, (n, 1) or 1.
        """

    def of_classes(self, probs: Probs, total: Floats) -> Floats:
        order = _ranking(probs)
        by_rank = self._first(np.take_along_axis(probs, order, axis=1), total, probs.shape[1])
        scores = np.empty_like(by_rank)
        np.put_along_axis(scores, order, by_rank, axis=1)
        return scores

    def of_truth(self, probs: Probs, total: Floats, labels: Ints) -> Floats:
        rows = np.arange(len(probs))
        own = probs[rows, labels][:, None]
        # Counted, for sorting values alone is several times faster than finding their order.
        earlier = np.arange(probs.shape[1]) < labels[:, None]
        above = np.count_nonzero((probs > own) | ((probs == own) & earlier), axis=1)
        return self._first(_sorted(probs), total, above.max() + 1)[rows, above]

    def within(self, probs: Probs, total: Floats, limits: Floats, out: Bools) -> None:
        if (limits != limits[0]).any():
            super().within(probs, total, limits, out)
            return
        # With one limit for all, the set is the few likeliest classes: look no further than needed.
        ranked = _sorted(probs)
        n, classes = probs.shape
        sizes, growing = np.zeros(n, np.int64), np.arange(n)
        for count in (_CHUNK, 4 * _CHUNK, classes):
            scores = self._first(ranked[growing], total[growing], min(count, classes))
            sizes[growing] = np.count_nonzero(scores <= limits[0], axis=1)
            growing = growing[sizes[growing] == count]
            if len(growing) == 0 or count >= classes:
                break
        _likeliest(probs, ranked, sizes, out)

    def _first(self, ranked: Probs, total: Floats, count: int) -> Floats:
        """Score - ceiling of the ``count`` first ranks of sorted rows, (n, count)."""
        p = ranked.astype(np.float64)
        below = _mass_below(p, count)
        u = 1.0 if self.draw is None else _uniform(p, self.draw)
        return self.by_rank(p[:, :count] / total, below / total, u)


@dataclass(frozen=True)
class PIP(RankedScore):
    """1 - p_y + sum over the classes ranked above y of p_(r) / r (Melki et al. 2024, 2406.08884).

    The sum stops before y's own rank, so the top class has no penalty.
    """

    name = "pip"
    ceiling = 2.0

    def by_rank(self, p: Floats, below: Floats, u: Floats | float) -> Floats:
        scores = np.empty_like(p)
        scores[:, 0] = -p[:, 0] - 1
        # From the second rank on the sum holds p_(1) / 1, which is 1 - below_1.
        others = np.cumsum(p[:, 1:-1] / np.arange(2, p.shape[1]), axis=1)
        scores[:, 1:] = -p[:, 1:]
        scores[:, 2:] += others
        scores[:, 1:] -= below[:, :1]
        return scores


@dataclass(frozen=True)
class APS(RankedScore):
    """The mass of y and of the classes ranked above it (Romano et al. 2020, 2006.02544).

    Attributes:
        draw: where given, the class's own mass counts u times.
    """

    name = "aps"
    draw: int | None = None

    def __post_init__(self) -> None:
        _check_draw(self.draw)

    def by_rank(self, p: Floats, below: Floats, u: Floats | float) -> Floats:
        return -below - (1 - u) * p


@dataclass(frozen=True)
class RAPS(RankedScore):
    """APS plus ``weight`` a rank beyond ``k_reg`` (Angelopoulos et al. 2021, 2009.14193).

    Attributes:
        weight: lambda in the paper, at least 0.
        k_reg: the last rank without a penalty, at least 0.
        draw: where given, the class's own mass counts u times.
    """

    name = "raps"
    weight: float = 0.01
    k_reg: int = 5
    draw: int | None = None

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        check_whole(self.k_reg, "k_reg")
        _check_draw(self.draw)

    def by_rank(self, p: Floats, below: Floats, u: Floats | float) -> Floats:
        ranks = np.arange(1, p.shape[1] + 1)
        return self.weight * np.maximum(ranks - self.k_reg, 0) - below - (1 - u) * p


@dataclass(frozen=True)
class SAPS(RankedScore):
    """The top class's mass plus ``weight`` for every rank below it (Huang et al. 2024, 2310.06430).

    Of the probabilities only the largest enters.

    Attributes:
        weight: lambda in the paper, at least 0.
        draw: where given, the last step (the top class's mass, or the weight) counts u times.
    """

    name = "saps"
    weight: float = 0.2
    draw: int | None = None

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        _check_draw(self.draw)

    def by_rank(self, p: Floats, below: Floats, u: Floats | float) -> Floats:
        scores = self.weight * (np.arange(p.shape[1]) - (1 - u)) - below[:, :1]
        scores[:, :1] = -below[:, :1] - (1 - u) * p[:, :1]
        return scores


def _check_weight(weight: float) -> None:
    if not (isinstance(weight, Real) and 0 <= weight < np.inf):
        raise ValueError(f"weight must be a number of at least 0, not {weight!r}")


def _check_draw(draw: int | None) -> None:
    if draw is not None:
        check_whole(draw, "draw")


def _sorted(probs: Probs) -> Probs:
    """Each row from its largest to its smallest."""
    ranked = -probs
    ranked.sort(axis=1)
    return np.negative(ranked, out=ranked)


def _ranking(probs: Probs) -> Ints:
    """Class indices from likeliest to least likely, (n, C)."""
    order = np.argsort(-probs, axis=1)
    ranked = np.take_along_axis(probs, order, axis=1)
    # Sorting that keeps the order of equals is several times slower, and equals are rare.
    tied = (ranked[:, 1:] == ranked[:, :-1]).any(axis=1)
    order[tied] = np.argsort(-probs[tied], axis=1, kind="stable")
    return order


def _likeliest(probs: Probs, ranked: Probs, sizes: Ints, out: Bools) -> None:
    """Write the ``sizes`` (n,) likeliest classes of each row; ``ranked`` are the sorted rows."""
    rows = np.arange(len(probs))
    last = ranked[rows, np.maximum(sizes - 1, 0)]
    np.greater_equal(probs, last[:, None], out=out)
    out[sizes == 0] = False
    # Where the last one in has equals that stay out, the order of classes decides.
    following = ranked[rows, np.minimum(sizes, ranked.shape[1] - 1)]
    for row in np.flatnonzero((following == last) & (sizes > 0) & (sizes < ranked.shape[1])):
        out[row] = False
        out[row, np.argsort(-probs[row], kind="stable")[: sizes[row]]] = True


def _mass_below(p: Floats, count: int) -> Floats:
    """The mass ranked below each of the ``count`` first ranks of sorted rows (n, C), (n, count).

    What is ranked low is added up before what is ranked above it, so that no small number is lost
    in a large one; chunk by chunk, so that the first ranks have the same numbers to the bit however
    many are asked for.
    """
    classes = p.shape[1]
    starts = np.arange(0, classes, _CHUNK)
    # The mass from each chunk on, and of none after the last.
    from_chunk = np.zeros((len(p), len(starts) + 1))
    in_chunk = np.add.reduceat(p, starts, axis=1)
    np.cumsum(in_chunk[:, ::-1], axis=1, out=from_chunk[:, -2::-1])
    below = np.empty((len(p), count))
    for chunk, start in enumerate(range(0, count, _CHUNK)):
        end = min(start + _CHUNK, classes)
        mass = np.zeros((len(p), end - start))
        np.cumsum(p[:, end - 1 : start : -1], axis=1, out=mass[:, -2::-1])
        mass += from_chunk[:, chunk + 1, None]
        below[:, start:end] = mass[:, : count - start]
    return below


def _uniform(p: Floats, draw: int) -> Floats:
    """A number in [0, 1) for each row, (n, 1), by multilinear hashing.

    As a function of the picture alone it leaves calibration and new pictures exchangeable.
    """
    key = np.random.default_rng(draw).integers(2**64, size=p.shape[1] + 1, dtype=np.uint64)
    # Plus 0, for -0.0 is 0 to every comparison and yet has other bits.
    bits = np.ascontiguousarray(p + 0.0).view(np.uint64)
    mixed = ((bits ^ (bits >> np.uint64(32))) * (key[1:] | np.uint64(1))).sum(axis=1) + key[0]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return ((mixed >> np.uint64(11)) * 2.0**-53)[:, None]


SCORES: dict[str, Score] = {
    score.name: score for score in (Hinge(), Margin(), PIP(), APS(), RAPS(), SAPS())
}
