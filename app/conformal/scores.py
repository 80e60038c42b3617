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
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.conformal.blocks import by_blocks
from app.conformal.checks import as_probs

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
#: As they were given: float16, float32 or float64, (n, C), rows that sum to 1.
Probs = NDArray[np.floating]


class Score(ABC):
    """A nonconformity score.

    Its methods take a block of rows and give scores less the ceiling; sets and p-values come from
    these. All of them give a picture's class the same number to the bit, whatever the other rows.
    """

    name: ClassVar[str]
    ceiling: ClassVar[float] = 1.0

    def __call__(self, probs: ArrayLike) -> Floats:
        """The papers' scores of every class, float64 (n, C), of probabilities (n, C).

        Raises:
            ValueError: ``probs`` has another shape, or rows that are no probabilities.
        """
        checked = as_probs({self.name: probs})[self.name]
        scores = np.empty(checked.shape)

        def work(rows: slice) -> None:
            np.add(self.of_classes(checked[rows]), self.ceiling, out=scores[rows])

        by_blocks(work, *checked.shape)
        return scores

    @abstractmethod
    def of_classes(self, probs: Probs) -> Floats:
        """Score - ceiling of every class, (n, C)."""

    def of_truth(self, probs: Probs, labels: Ints) -> Floats:
        """Score - ceiling of each picture's class ``labels`` (n,), (n,)."""
        return self.of_classes(probs)[np.arange(len(probs)), labels]

    def within(self, probs: Probs, limits: Floats) -> Bools:
        """Whether each class's score - ceiling is at most its limit (C,), (n, C)."""
        return self.of_classes(probs) <= limits


@dataclass(frozen=True)
class Hinge(Score):
    """1 - p_y. Also called LAC or THR (Sadinle, Lei and Wasserman 2019, arXiv 1609.00451)."""

    name = "hinge"

    def of_classes(self, probs: Probs) -> Floats:
        p = _exact(probs)
        return np.negative(p, out=p)


@dataclass(frozen=True)
class Margin(Score):
    """max over y' != y of p_y' - p_y (Johansson et al. 2017). A class alone has no rival: -p_y."""

    name = "margin"

    def of_classes(self, probs: Probs) -> Floats:
        p = _exact(probs)
        n, classes = p.shape
        if classes == 1:
            return -p - 1
        rows, top = np.arange(n), p.argmax(axis=1)
        others = p.copy()
        others[rows, top] = 0
        rest = others.sum(axis=1)
        scores = -(p + rest[:, None])  # The rival is the top class, 1 - rest.
        scores[rows, top] = others.max(axis=1) + rest - 2
        return scores


class RankedScore(Score):
    """A score that follows from the ranked probabilities, and never falls from rank to rank."""

    @abstractmethod
    def by_rank(self, p: Floats) -> Floats:
        """Score - ceiling of every rank, of probabilities from largest to smallest, (n, C)."""

    def of_classes(self, probs: Probs) -> Floats:
        order = _ranking(probs)
        by_rank = self.by_rank(_exact(np.take_along_axis(probs, order, axis=1)))
        scores = np.empty_like(by_rank)
        np.put_along_axis(scores, order, by_rank, axis=1)
        return scores

    def of_truth(self, probs: Probs, labels: Ints) -> Floats:
        rows = np.arange(len(probs))
        own = probs[rows, labels][:, None]
        # Counted, for sorting values alone is several times faster than finding their order.
        earlier = np.arange(probs.shape[1]) < labels[:, None]
        above = np.count_nonzero((probs > own) | ((probs == own) & earlier), axis=1)
        return self.by_rank(_exact(_sorted(probs)))[rows, above]

    def within(self, probs: Probs, limits: Floats) -> Bools:
        if (limits != limits[0]).any():
            return super().within(probs, limits)
        # With one limit for all, the set is the few likeliest classes.
        ranked = _sorted(probs)
        sizes = np.count_nonzero(self.by_rank(_exact(ranked)) <= limits[0], axis=1)
        return _likeliest(probs, ranked, sizes)


@dataclass(frozen=True)
class PIP(RankedScore):
    """1 - p_y + sum over the classes ranked above y of p_(r) / r (Melki et al. 2024, 2406.08884).

    The sum stops before y's own rank, so the top class has no penalty.
    """

    name = "pip"
    ceiling = 2.0

    def by_rank(self, p: Floats) -> Floats:
        ranks = np.arange(1, p.shape[1] + 1)
        # The sum over the ranks above is 1 less what it lacks of it.
        lacking = _tail(p / ranks) + (p * (1 - 1 / ranks)).sum(axis=1, keepdims=True)
        return -(p + lacking)


@dataclass(frozen=True)
class APS(RankedScore):
    """The mass of y and of the classes ranked above it (Romano et al. 2020, 2006.02544).

    Attributes:
        draw: where given, the class's own mass counts u times.
    """

    name = "aps"
    draw: int | None = None

    def by_rank(self, p: Floats) -> Floats:
        below = _mass_below(p)
        if self.draw is not None:
            below += (1 - _uniform(p, self.draw)) * p
        return np.negative(below, out=below)


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
        if self.k_reg < 0:
            raise ValueError(f"k_reg must be at least 0, not {self.k_reg}")

    def by_rank(self, p: Floats) -> Floats:
        ranks = np.arange(1, p.shape[1] + 1)
        return APS(self.draw).by_rank(p) + self.weight * np.maximum(ranks - self.k_reg, 0)


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

    def by_rank(self, p: Floats) -> Floats:
        u = _uniform(p, self.draw)
        below_top = p[:, 1:].sum(axis=1, keepdims=True)
        scores = self.weight * (np.arange(p.shape[1]) - (1 - u)) - below_top
        scores[:, :1] = -(1 - u) * p[:, :1] - below_top
        return scores


def _check_weight(weight: float) -> None:
    if not 0 <= weight < np.inf:
        raise ValueError(f"weight must be a number of at least 0, not {weight}")


def _exact(probs: Probs) -> Floats:
    """In float64, and with sum 1: what rounding took from a sure class, the others still have."""
    # Contiguous rows of float64 are summed alike wherever they stand.
    exact = np.array(probs, dtype=np.float64, order="C")
    total = exact.sum(axis=1, keepdims=True)
    total[np.abs(total - 1) < 1e-12] = 1  # Already exact: not a bit of it changes.
    exact /= total
    return exact


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


def _likeliest(probs: Probs, ranked: Probs, sizes: Ints) -> Bools:
    """The ``sizes`` (n,) likeliest classes of each row, (n, C); ``ranked`` are the sorted rows."""
    rows = np.arange(len(probs))
    last = ranked[rows, np.maximum(sizes - 1, 0)]
    members = probs >= last[:, None]
    members[sizes == 0] = False
    # Where the last one in has equals that stay out, the order of classes decides.
    following = ranked[rows, np.minimum(sizes, ranked.shape[1] - 1)]
    for row in np.flatnonzero((following == last) & (sizes > 0) & (sizes < ranked.shape[1])):
        members[row] = False
        members[row, np.argsort(-probs[row], kind="stable")[: sizes[row]]] = True
    return members


def _tail(values: Floats) -> Floats:
    """The sum of each value and of those after it, (n, C), smallest first: nothing is lost."""
    return np.cumsum(values[:, ::-1], axis=1)[:, ::-1]


def _mass_below(p: Floats) -> Floats:
    """The mass of the classes ranked below each rank, (n, C)."""
    below = np.empty_like(p)
    below[:, -1] = 0
    np.cumsum(p[:, :0:-1], axis=1, out=below[:, -2::-1])
    return below


def _uniform(p: Floats, draw: int | None) -> Floats | float:
    """A number in [0, 1) for each row, (n, 1), by multilinear hashing; 1 without a draw.

    As a function of the picture alone it leaves calibration and new pictures exchangeable.
    """
    if draw is None:
        return 1.0
    key = np.random.default_rng(draw).integers(2**64, size=p.shape[1] + 1, dtype=np.uint64)
    bits = np.ascontiguousarray(p).view(np.uint64)
    mixed = ((bits ^ (bits >> np.uint64(32))) * (key[1:] | np.uint64(1))).sum(axis=1) + key[0]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return ((mixed >> np.uint64(11)) * 2.0**-53)[:, None]


SCORES: dict[str, Score] = {
    score.name: score for score in (Hinge(), Margin(), PIP(), APS(), RAPS(), SAPS())
}
