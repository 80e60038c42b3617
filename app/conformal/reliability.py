"""Do the probabilities mean what they say? The sets' promise does not rest on it; their size does.

Of the pictures whose top class has the probability 0.8, four in five should be of that class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.conformal.metrics import Rates, rates

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Probs = NDArray[np.floating[Any]]

#: The number of bins of Guo et al. (2017).
_BINS = 15
_EDGES = np.arange(_BINS + 1) / _BINS


@dataclass(frozen=True)
class ReliabilityCurve:
    """Top classes in 15 bins of equal width by their probability, the right edge in the bin.

    Attributes:
        correct: how often the top class is the truth in each bin.
        confidence: mean probability of the top class in each bin, (15,); NaN in an empty one.
    """

    correct: Rates
    confidence: Floats

    @property
    def edges(self) -> Floats:
        """Where the bins begin and end, (16,)."""
        return _EDGES

    @property
    def expected_calibration_error(self) -> float:
        """Mean over pictures of |accuracy - confidence| of their bin, 0..1.

        Top-label ECE (Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599).
        """
        some = self.correct.n > 0
        gaps = np.abs(self.correct.rate[some] - self.confidence[some])
        return float(np.average(gaps, weights=self.correct.n[some]))


def reliability_curve(probs: Probs, labels: Ints) -> ReliabilityCurve:
    """The curve of probabilities (n, C) with labels (n,), of which -1 is unknown and left out.

    Raises:
        ValueError: the shapes do not fit, or no label is known.
    """
    probs, labels = _known(probs, labels)
    top = probs.argmax(axis=1)
    confidence = probs[np.arange(len(probs)), top].astype(np.float64)
    # A row's sum, and with it the top probability, may be a rounding error above 1.
    within = np.searchsorted(_EDGES, np.minimum(confidence, 1.0), side="left") - 1
    correct = rates(within, top == labels, _BINS)
    total = np.bincount(within, confidence, minlength=_BINS)
    mean = np.divide(total, correct.n, out=np.full(_BINS, np.nan), where=correct.n > 0)
    return ReliabilityCurve(correct, mean)


def brier_score(probs: Probs, labels: Ints) -> float:
    """Mean over pictures of the sum over classes of (p_c - [c is the truth])^2, 0..2 (Brier 1950).

    Arguments and errors as in ``reliability_curve``. 0 is certain and right, 2 certain and wrong.
    """
    probs, labels = _known(probs, labels)
    errors = probs.astype(np.float64)
    errors[np.arange(len(errors)), labels] -= 1
    return float(np.einsum("nc,nc->n", errors, errors).mean())


def _known(probs: Probs, labels: Ints) -> tuple[Probs, Ints]:
    """The rows with a known label."""
    if probs.ndim != 2 or labels.shape != probs.shape[:1]:
        raise ValueError(
            f"labels of shape {labels.shape} must have a number for each row of probs of shape "
            f"{probs.shape}"
        )
    known = np.flatnonzero(labels >= 0)
    if len(known) == 0:
        raise ValueError("labels must hold at least one known label")
    return probs[known], labels[known]
