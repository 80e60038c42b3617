"""Evaluation on many random divisions of the same pictures into calibration and test.

One division is one draw: its coverage scatters by ``law.CoverageLaw``, and which of two methods
looks better may be luck. Many divisions of the held-out pictures show mean and spread instead, at
no cost but calibration's, since the probabilities stay what they are. All methods meet the same
divisions, so their differences are paired (``paired``).

The divisions are independent of each other *given the pool of pictures*, no more: they share its
pictures. The spread over divisions is that of one draw of a division. It is not a standard error
of what a method would come to on other pictures, and does not shrink with more divisions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.conformal.method import Answers, Method
from app.conformal.metrics import Metrics, measure
from app.conformal.simultaneous import take
from app.conformal.spaces import JOINT, completely_labelled

#: The name of what came of the tasks' own sets taken together, beside ``Answers.outcomes``'.
PRODUCT = "joint (product)"

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Division:
    """Rows that calibrate and rows that test, sorted, and the seed of whatever else is drawn."""

    calib: Ints
    test: Ints
    seed: int


@dataclass(frozen=True)
class Resplit:
    """What one division came to at one alpha: metrics by the names of ``Answers.outcomes``.

    In the taskwise space of several tasks also, by ``PRODUCT``, of the tasks' own sets taken
    together: published tables have it, though nobody promises that they hold all truths at once.
    """

    division: int
    alpha: float
    results: dict[str, Metrics]


def divisions(
    n: int, calib: int, repeats: int, seed: int, ties: Ints | None = None
) -> Iterator[Division]:
    """Divide n pictures at random, ``repeats`` times, each anew.

    Args:
        n: number of pictures.
        calib: number of them that calibrate.
        repeats: number of divisions; more of them leave the first ones as they were.
        seed: draws them all.
        ties: of each picture a number, (n,); pictures of one number (copies, or one group) stay
            together. The division is then the one nearest to ``calib`` in a random order of ties.

    Raises:
        ValueError: one side would be empty.
    """
    tied = np.arange(n) if ties is None else np.asarray(ties)
    if tied.shape != (n,):
        raise ValueError(f"ties of shape {tied.shape} must have shape ({n},)")
    if not 0 < calib < n:
        raise ValueError(f"calib must be at least 1 and less than the {n} pictures, not {calib}")
    _, tie, sizes = np.unique(tied, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise ValueError("ties must leave at least two parts to divide, not tie all pictures")
    for division in range(repeats):
        own = np.random.SeedSequence([seed, division])
        order = np.random.default_rng(own).permutation(len(sizes))
        # Cut before the last tie at the latest, so that neither side is empty.
        calibrating = np.cumsum(sizes[order])[:-1]
        cut = 1 + int(np.argmin(np.abs(calibrating - calib)))
        in_calib = np.isin(tie, order[:cut])
        yield Division(
            np.flatnonzero(in_calib), np.flatnonzero(~in_calib), int(own.generate_state(1)[0])
        )


def resplits(
    probs: Mapping[str, Floats],
    labels: Mapping[str, Ints],
    classes: Mapping[str, int],
    score: str,
    taxonomy: str,
    alphas: Sequence[float],
    divided: Sequence[Division],
) -> Iterator[Resplit]:
    """Calibrate and measure one method on each division, at each alpha.

    Args:
        probs: in a label space, {task: (n, C_task)} or {JOINT: (n, product of C)}.
        labels: of each task, true classes (n,), -1 where unknown.
        classes: the number of classes of each task.
        score, taxonomy: the method.
        alphas: the error rates.
        divided: ``divisions`` of the n pictures, the same for all methods that are compared.

    Raises:
        ValueError: a test part without a known label (``fewest_labelled``), or as in ``calibrate``.
    """
    for division, rows in enumerate(divided):
        method = Method.calibrate(
            take(probs, rows.calib), take(labels, rows.calib), classes, score, taxonomy, rows.seed
        )
        new, truths = take(probs, rows.test), take(labels, rows.test)
        for alpha, answers in zip(alphas, method.answers(new, alphas), strict=True):
            results = answers.measure(truths, alpha)
            if answers.bonferroni is not None:
                results[PRODUCT] = measure(_together(answers).outcomes(truths)[JOINT], alpha)
            yield Resplit(division, alpha, results)


def _together(answers: Answers) -> Answers:
    """The same answers, of which the tasks' own sets are to hold all truths at once."""
    return replace(answers, joint_sets=answers.sets, by_bonferroni=None)


def fewest_labelled(labels: Mapping[str, Ints], divided: Sequence[Division]) -> tuple[int, int]:
    """The fewest pictures with a label for every task: of any calibration part, of any test part.

    With none in a test part, all tasks at once cannot be measured.
    """
    complete = completely_labelled(labels)
    return (
        min(int(complete[rows.calib].sum()) for rows in divided),
        min(int(complete[rows.test].sum()) for rows in divided),
    )
