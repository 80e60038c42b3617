"""Random classification problems for the tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from app.conformal.checks import by_checked_rows


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def problem(
    rng: np.random.Generator, n: int, classes: dict[str, int], signal: float = 1.5
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """n exchangeable pictures: probabilities that know something of the labels."""
    labels = {task: rng.integers(0, count, n) for task, count in classes.items()}
    probs = {}
    for task, count in classes.items():
        logits = rng.normal(size=(n, count))
        logits[np.arange(n), labels[task]] += signal
        probs[task] = softmax(logits)
    return probs, labels


def totals(probs: np.ndarray) -> np.ndarray:
    """What ``by_checked_rows`` says that the rows sum to."""
    found = np.empty((len(probs), 1))

    def work(rows: slice, _: np.ndarray, total: np.ndarray) -> None:
        found[rows] = total

    by_checked_rows(work, probs, "probs")
    return found


@st.composite
def probabilities(draw, max_rows: int = 6, max_classes: int = 7):
    """float64 (n, C), often with ties and zeros."""
    n = draw(st.integers(1, max_rows))
    classes = draw(st.integers(1, max_classes))
    weights = draw(
        st.lists(
            st.lists(st.integers(0, 6), min_size=classes, max_size=classes).filter(any),
            min_size=n,
            max_size=n,
        )
    )
    array = np.array(weights, np.float64)
    return array / array.sum(axis=1, keepdims=True)
