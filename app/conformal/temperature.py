"""One number that makes a network's confidence honest (Guo et al. 2017, arXiv 1706.04599)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from app.conformal.checks import as_labels_of_task, as_rows


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The T that makes softmax(logits / T) likeliest, for (n, C) logits and (n,) known labels.

    Fitted on the validation split: on calibration pictures it would spend their exchangeability.
    Returns 1 where there is nothing to fit on.

    Raises:
        ValueError: an argument of another shape, type or range; it names the argument.
    """
    logits = as_rows(logits, "logits").astype(np.float64)
    labels = as_labels_of_task(labels, "labels", logits.shape[1], len(logits))
    if (labels < 0).any():
        raise ValueError(f"labels of shape {labels.shape} must be known, but some are -1")
    if len(labels) == 0:
        return 1.0
    truth = logits[np.arange(len(labels)), labels]

    def loss(log_t: float) -> float:
        scale = np.exp(-log_t)
        return float(np.mean(logsumexp(logits * scale, axis=1) - truth * scale))

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
