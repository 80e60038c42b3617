"""Conformal prediction for one picture with several answers. Plain NumPy, and nothing of the rest.

Read ``scores`` (how strange is a class for a picture), ``taxonomies`` (which scores are compared
with each other), ``calibration`` (from held-out scores to thresholds, sets and p-values) and
``simultaneous`` (all tasks right at once), in that order. ``evaluation`` measures what that is
worth on test pictures; ``law`` says how far coverage scatters by chance, ``resplits`` shows it,
``paired`` holds differences against chance, and ``choice`` picks a method. ``monitoring`` asks if
the promise still holds.
"""

from app.conformal.calibration import Calibration, calibrate
from app.conformal.scores import SCORES
from app.conformal.simultaneous import (
    SimultaneousCalibration,
    bonferroni,
    calibrate_simultaneously,
)
from app.conformal.taxonomies import TAXONOMIES

__all__ = [
    "SCORES",
    "TAXONOMIES",
    "Calibration",
    "SimultaneousCalibration",
    "bonferroni",
    "calibrate",
    "calibrate_simultaneously",
]
