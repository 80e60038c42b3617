"""How ours and theirs are asked for thresholds and sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.conformal import SCORES, TAXONOMIES, Calibration, calibrate
from app.pipeline.bench.libraries import K_REG, WEIGHT, NoDraw, known_classifier
from tests.unit.conformal.draws import problem

#: TorchCP warns of an argument it gives itself, and says where it answers infinity.
quiet = pytest.mark.filterwarnings(
    "ignore:The 'temperature' parameter is deprecated",
    "ignore:The value of quantile exceeds 1",
    "ignore:The number of scores is 0",
)

NEW = 300


def draw(
    seed: int, n: int, classes: int, signal: float = 2.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (n, C) and labels to calibrate on, and of ``NEW`` more pictures."""
    probs, labels = problem(np.random.default_rng(seed), n + NEW, {"t": classes}, signal)
    return probs["t"][:n], labels["t"][:n], probs["t"][n:], labels["t"][n:]


def ours(
    probs: np.ndarray, labels: np.ndarray, score: str = "hinge", taxonomy: str = "task"
) -> Calibration:
    return calibrate({"t": probs}, {"t": labels}, score=score, taxonomy=taxonomy)


def threshold(calibration: Calibration, alpha: float) -> float:
    return float(calibration.thresholds(alpha)["t"][0])


def sets(calibration: Calibration, probs: np.ndarray, alpha: float) -> np.ndarray:
    return calibration.predict({"t": probs}, alpha)["t"]


def coverage(answer: np.ndarray, truth: np.ndarray) -> float:
    return float(answer[np.arange(len(truth)), truth].mean())


def torchcp_score(torchcp: Any, name: str) -> Any:
    """TorchCP's score of probabilities as they are, deterministic where that can be said."""
    score = torchcp.score
    if name == "hinge":
        return score.LAC("identity")
    if name == "margin":
        return score.Margin("identity")
    if name == "aps":
        return score.APS("identity", randomized=False)
    if name == "raps":
        return score.RAPS("identity", randomized=False, penalty=WEIGHT, kreg=K_REG)
    return score.SAPS("identity")


def fix_draws(monkeypatch: pytest.MonkeyPatch, draws: Any) -> None:
    """Let ``torch.rand`` give these numbers, broadcast to the shape that is asked for."""
    import torch

    monkeypatch.setattr(torch, "rand", lambda *shape, **_: draws.expand(*shape))


def mapie_sets(
    mapie: Any,
    calibration: tuple[np.ndarray, np.ndarray],
    new: np.ndarray,
    confidence: float,
    score: Any,
    include_last_label: bool = False,
    random_state: Any = None,
) -> tuple[float, np.ndarray]:
    """MAPIE's quantile of the calibration scores, and its sets, bool (m, C)."""
    classifier = mapie.SplitConformalClassifier(
        known_classifier(new.shape[1]),
        confidence_level=confidence,
        conformity_score=score,
        random_state=NoDraw() if random_state is None else random_state,
    )
    classifier.conformalize(*calibration)
    _, answer = classifier.predict_set(new, {"include_last_label": include_last_label})
    return float(classifier._mapie_classifier.quantiles_[0]), answer[:, :, 0]


def clustered() -> tuple[np.ndarray, np.ndarray, Calibration, np.ndarray]:
    """Our clusters' thresholds, and their inputs, with class 6 too rare to be clustered.

    Returns:
        Scores (n,) and labels (n,) that calibrate, the calibration, and each class's cluster, -1
        where it has none, (C,).
    """
    probs, labels, _, _ = draw(4, 900, 8)
    labels[np.flatnonzero(labels == 6)[10:]] = 0
    true = {"t": SCORES["hinge"](probs)[np.arange(900), labels]}
    spent = TAXONOMIES["task_cluster"](true, {"t": labels}, {"t": 8}, 0).spent
    calibration = ours(probs, labels, "hinge", "task_cluster")
    clusters = calibration.groups["t"] - 1  # Group 0 is the null group.
    assert clusters[6] == -1 and clusters.max() > 0
    return true["t"][~spent], labels[~spent], calibration, clusters


def cluster_thresholds(
    torchcp: Any, clusters: np.ndarray, scores: np.ndarray, labels: np.ndarray, alpha: float
) -> np.ndarray:
    import torch

    predictor = torchcp.predictor.ClusteredPredictor(torchcp_score(torchcp, "hinge"))
    found = predictor._ClusteredPredictor__compute_cluster_specific_qhats(
        *(torch.from_numpy(array) for array in (clusters, scores, labels)), alpha
    )
    return found.numpy()
