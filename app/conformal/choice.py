"""Choose the method with the smallest sets among those whose classes are covered as evenly.

Every candidate (head, label space, score, taxonomy) is measured on random halvings of the
*validation* pictures: calibrated on one half, measured on the other. Of the candidates whose class
coverage gap (CovGap, Ding et al. 2023, arXiv 2306.09335) is no worse than the reference's, the one
with the smallest mean set size is chosen.

What is promised: the guarantee of the method that is chosen, whole. The choice looks at neither
calibration nor test pictures, so to them the method is as good as fixed beforehand. A taxonomy that
is chosen brings its own promise, which may be weaker than another's (see ``taxonomies``).

What is not: that the choice is the best there is. The halvings share one small set of pictures, so
more of them do not make it larger; among many candidates of nearly the same size the smallest is
partly luck, and on new pictures it comes out a little larger than here. The candidates meet the
same halvings, so their differences are better known than their values. The heads' early stopping
and temperatures have looked at the validation pictures too, so all candidates may look a little
better than they are. And half of a validation split may have far fewer pictures than what will
calibrate, which speaks against taxonomies of many groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from app.conformal.calibration import fewest_scores
from app.conformal.checks import as_alpha
from app.conformal.resplits import Division, divisions, fewest_labelled, resplits
from app.conformal.spaces import completely_labelled

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: How many halvings.
HALVINGS = 10

#: The method that is used where none is chosen.
_DEFAULT = ("taskwise", "taskwise", "hinge", "task")


@dataclass(frozen=True)
class Candidate:
    """A method, and what it came to: means over the tasks and over the halvings."""

    head: str
    space: str
    score: str
    taxonomy: str
    coverage: float
    avg_set_size: float
    covgap: float

    @property
    def method(self) -> tuple[str, str, str, str]:
        """Head, label space, score and taxonomy."""
        return self.head, self.space, self.score, self.taxonomy


@dataclass(frozen=True)
class Choice:
    """The candidate that was chosen, and the one whose class coverage gap was the limit."""

    chosen: Candidate
    reference: Candidate


def halve(
    labels: Mapping[str, Ints], alpha: float, seed: int, ties: Ints | None = None
) -> list[Division]:
    """Random halvings of the validation pictures, fit to measure candidates at ``alpha``.

    Args:
        labels: of each task, true classes (n,), -1 where unknown.
        alpha: the error rate.
        seed: draws the halvings.
        ties: of each picture a number, (n,); pictures of one number stay together.

    Raises:
        ValueError: there are too few pictures. Every half needs enough of them that are labelled
            for every task for a finite threshold (if one score of a task calibrates it).
    """
    n = len(next(iter(labels.values())))
    least = fewest_scores(as_alpha(alpha))
    complete = int(completely_labelled(labels).sum())
    if complete < 2 * least:
        raise ValueError(
            f"labels must hold at least {2 * least} pictures with a label for every task to be "
            f"halved at alpha {alpha}, not {complete}"
        )
    halvings = list(divisions(n, n // 2, HALVINGS, seed, ties))
    fewest = min(fewest_labelled(labels, halvings))
    if fewest < least:
        raise ValueError(
            f"labels must leave in every half at least {least} pictures with a label for every "
            f"task at alpha {alpha}, not {fewest}"
        )
    return halvings


def measure_candidates(
    probs: Mapping[tuple[str, str], Mapping[str, Floats]],
    labels: Mapping[str, Ints],
    classes: Mapping[str, int],
    scores: Sequence[str],
    taxonomies: Sequence[str],
    alpha: float,
    halvings: Sequence[Division],
) -> Iterator[Candidate]:
    """Measure every candidate: each head and space with each score and each taxonomy, in order.

    What is fixed is the only one of its kind: ``scores=["aps"]``.

    Args:
        probs: of each (head, space), the n validation pictures' probabilities {task: (n, C_task)},
            or {JOINT: (n, product of C)} in the joint space. The simpler come first.
        labels: of each task, true classes (n,), -1 where unknown.
        classes: the number of classes of each task.
        scores, taxonomies: names in ``SCORES`` and ``TAXONOMIES``. The simpler come first.
        alpha: the error rate.
        halvings: from ``halve``.
    """
    for (head, space), score, taxonomy in product(probs, scores, taxonomies):
        measured = [
            [resplit.results[task] for task in classes]
            for resplit in resplits(
                probs[head, space], labels, classes, score, taxonomy, [alpha], halvings
            )
        ]
        yield Candidate(
            *(head, space, score, taxonomy),
            coverage=fmean(m.coverage for tasks in measured for m in tasks),
            avg_set_size=fmean(m.avg_set_size for tasks in measured for m in tasks),
            covgap=fmean(m.covgap for tasks in measured for m in tasks),
        )


def choose(candidates: Iterable[Candidate]) -> Choice:
    """The smallest sets at a class coverage gap no worse than the reference's.

    The reference is the candidate nearest to the default method (hinge by task, the taskwise head
    in its own space): the default itself, or what it becomes with the parts that are fixed. Of
    equal candidates the first wins.

    Raises:
        ValueError: there is no candidate.
    """
    table = list(candidates)
    if not table:
        raise ValueError("candidates must hold at least one method")
    reference = max(table, key=_parts_of_default)
    fair = [candidate for candidate in table if candidate.covgap <= reference.covgap]
    return Choice(min(fair, key=lambda c: c.avg_set_size), reference)


def _parts_of_default(candidate: Candidate) -> int:
    return sum(part == usual for part, usual in zip(candidate.method, _DEFAULT, strict=True))
