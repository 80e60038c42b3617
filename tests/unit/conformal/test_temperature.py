"""The fitted temperature is the one the labels were drawn with."""

from __future__ import annotations

import numpy as np
import pytest

from app.conformal.temperature import fit_temperature
from tests.unit.conformal.draws import softmax


@pytest.mark.parametrize("true", [0.2, 0.5, 1.0, 3.0])
def test_recovers_the_temperature(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 4)) * 3
    labels = np.array([rng.choice(4, p=p) for p in softmax(logits / true)])
    assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.05)


def test_nothing_to_fit_on() -> None:
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1.0


@pytest.mark.parametrize(
    ("logits", "labels", "names"),
    [
        (np.zeros(3), [0, 0, 0], r"logits of shape \(3,\)"),
        (np.full((2, 3), np.nan), [0, 0], "logits .* finite"),
        (np.zeros((2, 3)), [0], r"^labels of shape \(1,\) must have shape \(2,\)"),
        (np.zeros((2, 3)), [0, 3], r"^labels of shape \(2,\) .* 0\.\.2"),
        (np.zeros((2, 3)), [0, -1], "labels .* known"),
    ],
)
def test_bad_arguments_are_named(logits, labels, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        fit_temperature(logits, labels)
