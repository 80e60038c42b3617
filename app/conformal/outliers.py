"""Is this picture like the ones we calibrated on? A conformal p-value from distances to neighbours.

A picture's strangeness is its mean distance to the k nearest of some training pictures in feature
space (Laxhammar and Falkman 2010). Compared with the calibration pictures' own it gives a p-value:
a picture like them is flagged at level a with probability at most a.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.conformal.calibration import p_values
from app.conformal.checks import as_rows, check_whole

#: More training pictures than this make answers slower and hardly better.
_MOST_REFERENCES = 4000
_NEIGHBOURS = 10

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Outliers:
    """Attributes: ``reference`` features (r, d); ``distances`` of calibration (n,), sorted."""

    reference: Features
    distances: NDArray[np.float64]

    @classmethod
    def fit(cls, training: Features, calibration: Features, seed: int = 0) -> Outliers:
        """From features (n_train, d) and (n, d) on one scale; the training set is subsampled.

        Raises:
            ValueError: an argument of another shape, without a row, or not finite.
        """
        check_whole(seed, "seed")
        training = as_rows(training, "training")
        if len(training) == 0:
            raise ValueError(f"training of shape {training.shape} must hold at least one picture")
        calibration = as_rows(calibration, "calibration", training.shape[1])
        rows = np.random.default_rng(seed).permutation(len(training))[:_MOST_REFERENCES]
        reference = np.ascontiguousarray(training[np.sort(rows)], dtype=np.float32)
        own = cls(reference, np.empty(0))
        return cls(reference, np.sort(own._mean_distance(calibration)))

    def p_values(self, features: Features) -> NDArray[np.float64]:
        """How usual each picture is, (m,); small is unlike the calibration pictures.

        Raises:
            ValueError: features (m, d) of another width than calibration's, or not finite.
        """
        features = as_rows(features, "features", self.reference.shape[1])
        return p_values(self.distances, self._mean_distance(features))

    def save(self, path: str | Path) -> None:
        """Write a NumPy archive without pickle."""
        with open(path, "wb") as file:
            np.savez(file, reference=self.reference, distances=self.distances)

    @classmethod
    def load(cls, path: str | Path) -> Outliers:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as archive:
            return cls(archive["reference"], archive["distances"])

    @cached_property
    def _squares(self) -> NDArray[np.float64]:
        return np.einsum("rd,rd->r", self.reference, self.reference, dtype=np.float64)

    def _mean_distance(self, features: Features) -> NDArray[np.float64]:
        """Mean distance (m,) of (m, d) to the nearest references, a thousand rows at a time."""
        k = min(_NEIGHBOURS, len(self.reference))
        result = np.empty(len(features))
        for start in range(0, len(features), 1000):
            rows = np.asarray(features[start : start + 1000], np.float32)
            own = np.einsum("md,md->m", rows, rows, dtype=np.float64)
            squared = own[:, None] + self._squares - 2.0 * (rows @ self.reference.T)
            nearest = np.partition(squared, k - 1, axis=1)[:, :k]
            result[start : start + 1000] = np.sqrt(np.maximum(nearest, 0)).mean(axis=1)
        return result
