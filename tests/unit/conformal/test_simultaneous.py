"""All tasks at once: ranks, maximum, and what it gains over Bonferroni."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np

from app.conformal import (
    SimultaneousCalibration,
    bonferroni,
    calibrate,
    calibrate_simultaneously,
)
from tests.unit.conformal.draws import problem, softmax

CLASSES = {"a": 5, "b": 4, "c": 3}


def test_equals_the_definition() -> None:
    probs, labels = problem(np.random.default_rng(0), 200, CLASSES)
    labels["b"][::7] = -1
    both = calibrate_simultaneously(probs, labels, "aps", "task", seed=4)
    order = np.random.default_rng(4).permutation(200)
    complete = [i for i in order if all(labels[t][i] >= 0 for t in CLASSES)]
    second = complete[len(complete) // 2 :]
    first = [i for i in order if i not in second]
    scale = calibrate(
        {t: p[first] for t, p in probs.items()}, {t: y[first] for t, y in labels.items()}, "aps"
    )
    worst = []
    for i in second:
        p = scale.p_values({t: probs[t][i : i + 1] for t in CLASSES})
        worst.append(1 - min(p[t][0, labels[t][i]] for t in CLASSES))
    assert both.worst.tolist() == sorted(worst)
    assert len(worst) == math.ceil(len(complete) / 2)


def test_sets_and_p_values_agree() -> None:
    probs, labels = problem(np.random.default_rng(1), 300, CLASSES)
    both = calibrate_simultaneously(probs, labels)
    for alpha in (0.05, 0.1, 0.33):
        sets, p = both.predict(probs, alpha), both.p_values(probs)
        for task in CLASSES:
            assert (sets[task] == (p[task] > alpha)).all()


def test_smaller_sets_than_bonferroni_when_tasks_fail_together() -> None:
    """A blurred picture is hard for every task: then alpha / tasks each is wasteful."""
    rng = np.random.default_rng(2)
    n = 6000
    sharp = rng.choice([0.0, 4.0], n)
    labels = {t: rng.integers(0, 4, n) for t in "abcde"}
    probs = {}
    for task, y in labels.items():
        logits = rng.normal(size=(n, 4)) * 0.3
        logits[np.arange(n), y] += sharp
        probs[task] = softmax(logits)
    half = n // 2
    calib = {t: p[:half] for t, p in probs.items()}, {t: y[:half] for t, y in labels.items()}
    new = {t: p[half:] for t, p in probs.items()}
    together = calibrate_simultaneously(*calib).predict(new, 0.4)
    apart = bonferroni(calibrate(*calib), new, 0.4)
    size = {
        name: np.prod([sets[t].sum(axis=1) for t in labels], axis=0).mean()
        for name, sets in (("together", together), ("bonferroni", apart))
    }
    for sets in (together, apart):
        covered = np.all([sets[t][np.arange(half), labels[t][half:]] for t in labels], axis=0)
        assert covered.mean() > 0.6 - 4 * np.sqrt(0.6 * 0.4 * (1 / half + 2 / half))
    assert size["together"] < 0.8 * size["bonferroni"]


def test_bonferroni_shares_alpha_exactly() -> None:
    """At alpha 0.3 three tasks have 1/10 each: rank 27 of 29, where 0.3 / 3 < 0.1 gives 28."""
    probs, labels = problem(np.random.default_rng(5), 29, CLASSES)
    calibration = calibrate(probs, labels)
    assert math.ceil(30 * (1 - Fraction(0.3 / 3))) == 28
    sets = bonferroni(calibration, probs, 0.3)
    for task in CLASSES:
        assert (sets[task] == calibration.predict(probs, 0.1)[task]).all()
        true = np.sort(1 - probs[task][np.arange(29), labels[task]])
        assert (sets[task] == (1 - probs[task] <= true[27 - 1])).all()


def test_saved_and_loaded(tmp_path: Path) -> None:
    probs, labels = problem(np.random.default_rng(3), 100, CLASSES)
    both = calibrate_simultaneously(probs, labels)
    both.save(tmp_path / "both")
    loaded = SimultaneousCalibration.load(tmp_path / "both")
    for task in CLASSES:
        assert (loaded.p_values(probs)[task] == both.p_values(probs)[task]).all()
