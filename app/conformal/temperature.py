"""One number that makes a network's confidence honest (Guo et al. 2017, arXiv 1706.04599)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

Floats = NDArray[np.float64]


def fit_temperature(logits: Floats, labels: NDArray[np.int64]) -> float:
    """The T that makes softmax(logits / T) likeliest, for (n, C) logits and (n,) known labels.

    Fitted on the validation split: on calibration pictures it would spend their exchangeability.
    Returns 1 where there is nothing to fit on.
    """
    if len(labels) == 0:
        return 1.0
    truth = logits[np.arange(len(labels)), labels]

    def loss(log_t: float) -> float:
        scale = np.exp(-log_t)
        return float(np.mean(logsumexp(logits * scale, axis=1) - truth * scale))

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
