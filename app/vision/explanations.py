"""What speaks for a class: which places of the last feature map its probability rose by.

Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) from what the network put out anyway. The heads
are few layers on the features, so the gradient is written down rather than traced. The last layer
is the mean of its map, so each channel weighs the same everywhere, and with linear heads this is
CAM (Zhou et al. 2016, arXiv 1512.04150).

Features of earlier stages have a share in the probability too, often a large one. It has no place
in this map.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.conformal.spaces import JOINT
from app.vision.heads import Floats, Heads, Layer, softmax

Bools = NDArray[np.bool_]


def heat(
    heads: Heads,
    features: NDArray[np.float32],
    last: NDArray[np.floating],
    head: str,
    task: str,
    code: int,
) -> Floats:
    """How much each place of one picture's last map speaks for a class, and for no other.

    To first order, what a place adds to the logarithm of the class's probability; zero where it
    takes from it.

    Args:
        features: the picture's (d,), of which the last c are the means of ``last``.
        last: the map (c, h, w).
        head: whose probability: ``taskwise`` or ``joint``.
        code: of the class among the task's.

    Returns:
        (h, w), at least 0.
    """
    channels, h, w = last.shape
    weights = gradient(heads, features, head, task, code)[-channels:]
    return np.maximum(np.tensordot(weights, _finite(last), 1) / (h * w), 0)


def _finite(last: NDArray[np.floating]) -> Floats:
    """In half precision, what is too large became infinite."""
    most = float(np.finfo(np.float16).max)
    return last.astype(np.float64).clip(-most, most)


def gradient(
    heads: Heads, features: NDArray[np.float32], head: str, task: str, code: int
) -> Floats:
    """That of log P(class | picture) with respect to the picture's features (d,).

    The probability is the head's own, with its temperature; a joint head's is the sum over all
    combinations that the class is part of.
    """
    name = JOINT if head == JOINT else task
    layers, temperature = heads.layers[head][name], heads.temperatures[head][name]
    x = heads.standardise(features[None]).astype(np.float64)
    logits = heads.logits(features[None], head)[name][0] / temperature
    codes = np.arange(len(logits))
    if head == JOINT:
        shape = tuple(heads.classes.values())
        codes = np.unravel_index(codes, shape)[list(heads.classes).index(task)]
    towards_logits = _of_log_share(logits, codes == code) / temperature
    return _back(layers, x[0], towards_logits) / heads.scale


def _of_log_share(logits: Floats, inside: Bools) -> Floats:
    """The gradient of the logarithm of the part ``inside`` of a softmax, with respect to (K,).

    With P the part, r the softmax among ``inside`` alone and q the whole one: r(1 − P) inside and
    −q outside. Both parts are summed by themselves, since 1 − P of a sure network would be 0.
    """
    q = softmax(logits)
    among = softmax(np.where(inside, logits, -np.inf))
    return np.where(inside, among * q[~inside].sum(), -q)


def _back(layers: list[Layer], x: Floats, towards: Floats) -> Floats:
    """A gradient with respect to the outputs of ``layers``, carried back to their inputs (d,)."""
    inputs = [x]
    for weight, bias in layers[:-1]:
        inputs.append(np.maximum(inputs[-1] @ weight + bias, 0))
    for number in reversed(range(len(layers))):
        towards = layers[number][0] @ towards
        if number:  # A ReLU stands before every layer but the first.
            towards = towards * (inputs[number] > 0)
    return towards
