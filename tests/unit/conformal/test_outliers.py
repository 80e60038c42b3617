"""False alarms at most at the level asked for, and real strangers found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.conformal.outliers import Outliers


def test_distances_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    training, calib = rng.normal(size=(2, 40, 6)).astype(np.float32)
    found = Outliers.fit(training, calib).distances
    each = np.linalg.norm(calib[:, None].astype(float) - training[None], axis=2)
    brute = np.sort(np.sort(each, axis=1)[:, :10].mean(axis=1))
    np.testing.assert_allclose(found, brute, rtol=1e-4)


def test_a_thousand_rows_at_a_time_are_those_of_each() -> None:
    rng = np.random.default_rng(3)
    training, calib = rng.normal(size=(30, 4)), rng.normal(size=(2100, 4))
    outliers = Outliers.fit(training.astype(np.float32), calib.astype(np.float32))
    each = np.linalg.norm(calib[:, None] - training[None], axis=2)
    brute = np.sort(np.sort(each, axis=1)[:, :10].mean(axis=1))
    np.testing.assert_allclose(outliers.distances, brute, rtol=1e-4)


@pytest.mark.filterwarnings("error")
def test_a_picture_that_is_its_own_neighbour_has_a_distance() -> None:
    """Far from the origin rounding takes the square of no distance below 0."""
    rows = (1000 + np.random.default_rng(4).normal(size=(200, 6))).astype(np.float32)
    assert np.isfinite(Outliers.fit(rows, rows).distances).all()


def test_only_some_of_many_training_pictures_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.conformal.outliers._MOST_REFERENCES", 20)
    training = np.random.default_rng(5).normal(size=(50, 3)).astype(np.float32)
    kept = Outliers.fit(training, training, seed=1).reference
    assert len(kept) == 20 and {tuple(row) for row in kept} <= {tuple(row) for row in training}
    assert (Outliers.fit(training, training, seed=2).reference != kept).any()


def test_false_alarms_keep_to_their_level() -> None:
    """P(p <= a) is floor(a (n + 1)) / (n + 1); 5 deviations, as in the coverage tests."""
    rng = np.random.default_rng(1)
    training = rng.normal(size=(200, 5)).astype(np.float32)
    alarms = np.array(
        [
            Outliers.fit(training, f[:59]).p_values(f[59:])[0] <= 0.1
            for f in rng.normal(size=(2000, 60, 5)).astype(np.float32)
        ]
    )
    rate = 6 / 60
    assert abs(alarms.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / 2000)


def test_a_stranger_is_found_and_survives_saving(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    outliers = Outliers.fit(*rng.normal(size=(2, 300, 5)).astype(np.float32))
    outliers.save(tmp_path / "o.npz")
    stranger = np.full((1, 5), 9, np.float32)
    assert Outliers.load(tmp_path / "o.npz").p_values(stranger)[0] == 1 / 301


ROWS = np.zeros((5, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: Outliers.fit(ROWS[0], ROWS), r"training of shape \(3,\)"),
        (lambda: Outliers.fit(ROWS[:0], ROWS), r"training of shape \(0, 3\)"),
        (lambda: Outliers.fit(ROWS, ROWS[:, :2]), r"calibration of shape \(5, 2\) .* 3 columns"),
        (lambda: Outliers.fit(ROWS, ROWS * np.nan), r"calibration of shape .* finite"),
        (lambda: Outliers.fit(ROWS, ROWS, seed=-1), "seed must be a whole number"),
        (lambda: Outliers.fit(ROWS * 1j, ROWS), r"training of shape \(5, 3\) must hold real"),  # type: ignore[arg-type]
        (lambda: Outliers.fit(ROWS, ROWS).p_values(ROWS[:, :2]), r"features of shape \(5, 2\)"),
        (lambda: Outliers.fit(ROWS, ROWS).p_values(ROWS + np.inf), "features .* finite"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        call()
