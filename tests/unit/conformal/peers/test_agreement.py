"""Thresholds, sets and p-values equal theirs wherever the definitions coincide.

On random float64 problems, against TorchCP 1.2.1, MAPIE 1.6.0 and crepes 0.9.1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from app.conformal import SCORES
from app.pipeline.bench.libraries import known_classifier, mapie_scores
from tests.unit.conformal.draws import softmax
from tests.unit.conformal.peers.asked import (
    cluster_thresholds,
    clustered,
    draw,
    fix_draws,
    mapie_sets,
    ours,
    quiet,
    sets,
    threshold,
    torchcp_score,
)

pytestmark = quiet

#: (seed, n, classes). At n = 564 a rank that goes through a quantile function is easily one too
#: high; at 999, (n + 1) alpha is whole. With fewer classes the threshold of APS may be the whole
#: mass, 1, where rounding would decide.
PROBLEMS = [(0, 564, 7), (1, 100, 10), (2, 999, 20), (3, 250, 40)]
ALPHAS = [0.2, 0.1, 0.05, 0.02]

problems = pytest.mark.parametrize(("seed", "n", "classes"), PROBLEMS)
alphas = pytest.mark.parametrize("alpha", ALPHAS)


@pytest.mark.parametrize("score", ["hinge", "margin", "aps", "raps", "saps"])
@problems
@alphas
def test_torchcp(
    torchcp: Any,
    double: None,
    monkeypatch: pytest.MonkeyPatch,
    score: str,
    seed: int,
    n: int,
    classes: int,
    alpha: float,
) -> None:
    """The same thresholds and sets.

    TorchCP takes logits and applies softmax: ``score_type="identity"`` lets it have probabilities.
    Its scores are randomised unless told otherwise, and RAPS has no penalty by default; the penalty
    comes in torch's default type. SAPS at the
    paper's u = 1 is ours; TorchCP draws u for a true class that is on top, and 1 - u in all other
    places, hence the draws. (Its deterministic SAPS is another matter, see below.)
    """
    import torch

    probs, labels, new, _ = draw(seed, n, classes)
    predictor = torchcp.predictor.SplitPredictor(torchcp_score(torchcp, score), alpha=alpha)
    on_top = torch.from_numpy((probs.argmax(axis=1) == labels).astype(float))
    fix_draws(monkeypatch, on_top)
    # Its margin writes into what it is given.
    predictor.calculate_threshold(torch.from_numpy(probs.copy()), torch.from_numpy(labels))
    fix_draws(monkeypatch, torch.zeros(1, dtype=torch.float64))
    theirs = predictor.predict_with_logits(torch.from_numpy(new)).numpy()

    calibration = ours(probs, labels, score)
    assert float(predictor.q_hat) == pytest.approx(threshold(calibration, alpha), rel=1e-12)
    assert np.array_equal(theirs, sets(calibration, new, alpha))


@pytest.mark.parametrize("score", ["hinge", "margin", "aps"])
def test_torchcp_p_values(torchcp: Any, score: str) -> None:
    """The same p-values, where no score is rounded.

    ``calibrate`` and ``predict_p`` turn what the model says into float32. Here all probabilities
    are multiples of 1/4096, so that their sums are exact as well; scores of different pictures
    often tie, but no two classes of one picture do, whose order would be anybody's.
    """
    import torch

    rng = np.random.default_rng(0)
    drawn = rng.multinomial(4096, rng.dirichlet(np.ones(5), 300)) / 4096
    drawn = drawn[[len(set(row)) == 5 for row in drawn.tolist()]]
    probs, new = drawn[:150], drawn[150:200]
    labels = rng.integers(0, 5, 150)
    predictor = torchcp.predictor.SplitPredictor(
        torchcp_score(torchcp, score), model=torch.nn.Identity(), device="cpu"
    )
    predictor.calibrate([(torch.from_numpy(probs.copy()), torch.from_numpy(labels))])
    theirs = predictor.predict_p(torch.from_numpy(new)).numpy()
    mine = ours(probs, labels, score).p_values({"t": new})["t"]
    assert theirs == pytest.approx(mine, rel=1e-6)


@pytest.mark.parametrize("n", [8, 9])
def test_torchcp_with_too_few_scores(torchcp: Any, n: int) -> None:
    """Both say infinity where k > n: nine scores are enough for 0.1, eight are not."""
    import torch

    probs, labels, _, _ = draw(0, n, 4)
    predictor = torchcp.predictor.SplitPredictor(torchcp_score(torchcp, "hinge"), alpha=0.1)
    predictor.calculate_threshold(torch.from_numpy(probs), torch.from_numpy(labels))
    assert float(predictor.q_hat) == threshold(ours(probs, labels), 0.1)
    assert math.isinf(predictor.q_hat) == (n == 8)


@pytest.mark.parametrize("score", ["hinge", "aps", "raps"])
@problems
@alphas
def test_torchcp_by_class(
    torchcp: Any, double: None, score: str, seed: int, n: int, classes: int, alpha: float
) -> None:
    """The same thresholds and sets a class, infinite for rare classes and for one unseen.

    TorchCP makes alpha and thresholds tensors of torch's default type; float64 here, see below.
    Classes whose threshold is the score of the last rank are left out: nothing lies below it, so
    the class is in every set with us; with TorchCP rounding decides, in its sum of all masses.
    """
    import torch

    probs, labels, new, _ = draw(seed, n, classes)
    labels[labels == 2] = 1
    predictor = torchcp.predictor.ClassConditionalPredictor(
        torchcp_score(torchcp, score), alpha=alpha
    )
    predictor.calculate_threshold(torch.from_numpy(probs), torch.from_numpy(labels))
    calibration = ours(probs, labels, score, "class")
    limits = calibration.thresholds(alpha)["t"]
    assert math.isinf(limits[2])
    assert predictor.q_hat.numpy() == pytest.approx(limits, rel=1e-12)
    theirs = predictor.predict_with_logits(torch.from_numpy(new)).numpy()
    mine = sets(calibration, new, alpha)
    of_last = limits == SCORES[score](probs).max()
    assert of_last.sum() <= 1 and mine[:, of_last].all()
    assert np.array_equal(theirs[:, ~of_last], mine[:, ~of_last])


@alphas
def test_torchcp_by_cluster(torchcp: Any, double: None, alpha: float) -> None:
    """Given the same clusters and halves, the same thresholds in all clusters.

    Which pictures find the clusters is drawn by each in its own way, and the numbers of clusters
    differ: TorchCP's follows the paper's share of pictures, which ours does not. A class without a
    cluster has the pooled threshold with us, as in the paper; with TorchCP, infinity.
    """
    scores, labels, calibration, clusters = clustered()
    theirs = cluster_thresholds(torchcp, clusters, scores, labels, alpha)
    limits = calibration.thresholds(alpha)["t"]
    assert theirs[clusters >= 0] == pytest.approx(limits[clusters >= 0], rel=1e-12)
    assert math.isinf(theirs[6]) and math.isfinite(limits[6])


def test_torchcp_finds_the_same_clusters(torchcp: Any) -> None:
    """Two easy classes and two hard ones: both find them, from halves drawn differently."""
    import torch

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 4000)
    logits = rng.normal(size=(4000, 4))
    logits[np.arange(4000), labels] += np.where(labels % 2 == 0, 6, 0)
    probs = softmax(logits)
    torch.manual_seed(0)
    predictor = torchcp.predictor.ClusteredPredictor(
        torchcp_score(torchcp, "hinge"), ratio_clustering=0.5, num_clusters=2
    )
    predictor.calculate_threshold(torch.from_numpy(probs), torch.from_numpy(labels), 0.1)
    for found in (
        predictor.cluster_assignments.numpy(),
        ours(probs, labels, "hinge", "task_cluster").groups["t"],
    ):
        assert found[0] == found[2] != found[1] == found[3]


@pytest.mark.parametrize("score", ["hinge", "aps", "raps"])
@problems
@alphas
def test_mapie(mapie: Any, score: str, seed: int, n: int, classes: int, alpha: float) -> None:
    """The same thresholds; the same sets, but that MAPIE's APS and RAPS leave none empty.

    Its APS subtracts a drawn share of the true class's mass from calibration scores alone: the draw
    is 0 here. It includes the label that crosses the threshold, ``include_last_label=True``, unless
    told otherwise, and has the top class in every set. Its RAPS chooses lambda and k_reg on a part
    of the pictures; here both are given. Comparisons allow 1e-8, less than any gap here.
    """
    probs, labels, new, _ = draw(seed, n, classes)
    theirs_limit, theirs = mapie_sets(
        mapie, (probs, labels), new, round(1 - alpha, 9), mapie_scores()[score]()
    )
    calibration = ours(probs, labels, score)
    mine = sets(calibration, new, alpha)
    if score != "hinge":
        empty = ~mine.any(axis=1)
        mine[empty, new.argmax(axis=1)[empty]] = True
    assert theirs_limit == pytest.approx(threshold(calibration, alpha), rel=1e-12)
    assert np.array_equal(theirs, mine)


@pytest.mark.parametrize("score", ["hinge", "margin"])
@pytest.mark.parametrize("taxonomy", ["task", "class"])
def test_crepes(crepes: Any, score: str, taxonomy: str) -> None:
    """The same p-values and sets, for all pictures together and by class; one class is unseen.

    crepes smooths p-values by a draw unless told otherwise. Its sets hold p >= 1 - confidence where
    ours hold p > alpha: they may differ where p is alpha, see below.
    """
    probs, labels, new, _ = draw(0, 563, 4)
    labels[labels == 2] = 3
    classifier = crepes.WrapClassifier(known_classifier(4))
    nonconformity = getattr(crepes.extras, score)
    classifier.calibrate(probs, labels, nc=nonconformity, class_cond=taxonomy == "class")
    calibration = ours(probs, labels, score, taxonomy)
    p = calibration.p_values({"t": new})["t"]
    assert np.array_equal(classifier.predict_p(new, smoothing=False), p)
    for alpha, confidence in ((0.05, 0.95), (0.1, 0.9), (0.2, 0.8)):
        theirs = classifier.predict_set(new, labels=False, confidence=confidence, smoothing=False)
        differ = theirs != sets(calibration, new, alpha)
        assert not differ[p != alpha].any()
