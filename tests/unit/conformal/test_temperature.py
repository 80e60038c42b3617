"""The fitted temperature is the one the labels were drawn with."""

from __future__ import annotations

import numpy as np
import pytest

from app.conformal.temperature import fit_temperature
from tests.unit.conformal.draws import softmax


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_recovers_the_temperature(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 4)) * 3
    labels = np.array([rng.choice(4, p=p) for p in softmax(logits / true)])
    assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.05)


def test_nothing_to_fit_on() -> None:
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1.0
