"""The core against TorchCP 1.2.1, MAPIE 1.6.0 and crepes 0.9.1.

The first part holds thresholds, sets and p-values equal on random float64 problems, wherever the
definitions coincide. The second shows where a peer leaves the definition: a test there that fails
after an update of the peer tells of a deviation that is gone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from app.conformal import SCORES, TAXONOMIES, Calibration, calibrate
from app.pipeline.bench.libraries import (
    K_REG,
    WEIGHT,
    NoDraw,
    known_classifier,
    let_torchcp_be_imported,
    mapie_scores,
)
from tests.unit.conformal.draws import problem, softmax

#: TorchCP warns of an argument it gives itself, and says where it answers infinity.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The 'temperature' parameter is deprecated",
    "ignore:The value of quantile exceeds 1",
    "ignore:The number of scores is 0",
)

NEW = 300

#: (seed, n, classes). At n = 564 a rank that goes through a quantile function is easily one too
#: high; at 999, (n + 1) alpha is whole. With fewer classes the threshold of APS may be the whole
#: mass, 1, where rounding would decide.
PROBLEMS = [(0, 564, 7), (1, 100, 10), (2, 999, 20), (3, 250, 40)]
ALPHAS = [0.2, 0.1, 0.05, 0.02]

problems = pytest.mark.parametrize(("seed", "n", "classes"), PROBLEMS)
alphas = pytest.mark.parametrize("alpha", ALPHAS)


def imported(package: str) -> ModuleType:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed (make peers installs it)")
    return import_module(package)


@pytest.fixture(scope="module")
def torchcp() -> Any:
    let_torchcp_be_imported()
    return imported("torchcp").classification


@pytest.fixture(scope="module")
def mapie() -> Any:
    imported("mapie")
    return import_module("mapie.classification")


@pytest.fixture(scope="module")
def crepes() -> Any:
    imported("crepes")
    import_module("crepes.extras")
    return import_module("crepes")


@pytest.fixture
def double() -> Iterator[None]:
    """Let what torch makes be float64 unless told otherwise."""
    import torch

    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


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


# ---- where definitions coincide


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


def clustered(alpha: float) -> tuple[np.ndarray, np.ndarray, Calibration, np.ndarray]:
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


@alphas
def test_torchcp_by_cluster(torchcp: Any, double: None, alpha: float) -> None:
    """Given the same clusters and halves, the same thresholds in all clusters.

    Which pictures find the clusters is drawn by each in its own way, and the numbers of clusters
    differ: TorchCP's follows the paper's share of pictures, which ours does not. A class without a
    cluster has the pooled threshold with us, as in the paper; with TorchCP, infinity.
    """
    scores, labels, calibration, clusters = clustered(alpha)
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


# ---- where a peer leaves the definition


def test_torchcp_and_mapie_round_the_rank_up(torchcp: Any, mapie: Any) -> None:
    """150 x 0.82 is 123; in floats it is a little more, and both take the 124th score.

    ``ceil((n + 1) * (1 - alpha))`` in floats is one too high at 27 of the 99 two-decimal alphas,
    for some n below 2,000: sets are larger than they must be.
    """
    import torch

    probs, labels, new, _ = draw(0, 149, 5)
    scores = np.sort(1 - probs[np.arange(149), labels])
    predictor = torchcp.predictor.SplitPredictor(torchcp_score(torchcp, "hinge"), alpha=0.18)
    predictor.calculate_threshold(torch.from_numpy(probs), torch.from_numpy(labels))
    of_mapie, _ = mapie_sets(mapie, (probs, labels), new, 0.82, "lac")
    assert float(predictor.q_hat) == of_mapie == scores[124 - 1]
    assert threshold(ours(probs, labels), 0.18) == scores[123 - 1]


def test_torchcp_rounds_thresholds_of_classes(torchcp: Any) -> None:
    """They are kept in float32: where that is less, the score that is the threshold falls out.

    Of a class's n pictures, ours covers the k of the guarantee, TorchCP in some classes k - 1.
    """
    import torch

    probs, labels, _, _ = draw(0, 990, 10)
    predictor = torchcp.predictor.ClassConditionalPredictor(
        torchcp_score(torchcp, "hinge"), alpha=0.1
    )
    predictor.calculate_threshold(torch.from_numpy(probs), torch.from_numpy(labels))
    theirs = predictor.predict_with_logits(torch.from_numpy(probs)).numpy().astype(bool)
    mine = sets(ours(probs, labels, "hinge", "class"), probs, 0.1)
    n = np.bincount(labels)
    covered = [np.bincount(labels[s[np.arange(990), labels]]) for s in (mine, theirs)]
    k = -(-(n + 1) * 9 // 10)
    assert (covered[0] == k).all()
    assert set((k - covered[1]).tolist()) == {0, 1}


def test_torchcp_gives_an_unseen_class_the_last_clusters_threshold(
    torchcp: Any, double: None
) -> None:
    """Infinity stands for classes without a cluster only where one of them is calibrated on."""
    scores, labels, _, clusters = clustered(0.1)
    seen = labels != 6
    theirs = cluster_thresholds(torchcp, clusters, scores[seen], labels[seen], 0.1)
    last = np.flatnonzero(clusters == clusters.max())[0]
    assert theirs[6] == theirs[last] < math.inf


def test_torchcp_saps_without_draws_covers_nothing(torchcp: Any) -> None:
    """A true class on top scores 0 in calibration, u = 0 times its mass, and its mass afterwards.

    Where the network is right in more than 1 - alpha of the pictures the threshold is 0, and every
    set is empty.
    """
    import torch

    probs, labels, new, truth = draw(0, 500, 10, signal=6)
    saps = torchcp.score.SAPS("identity", randomized=False)
    predictor = torchcp.predictor.SplitPredictor(saps, alpha=0.1)
    predictor.calculate_threshold(torch.from_numpy(probs), torch.from_numpy(labels))
    theirs = predictor.predict_with_logits(torch.from_numpy(new)).numpy()
    assert float(predictor.q_hat) == 0 and not theirs.any()
    assert coverage(sets(ours(probs, labels, "saps"), new, 0.1), truth) > 0.85


def test_torchcp_margin_writes_into_probabilities(torchcp: Any) -> None:
    """The true class's probability is -1 afterwards."""
    import torch

    probs, labels, _, _ = draw(0, 50, 4)
    given = torch.from_numpy(probs.copy())
    torchcp_score(torchcp, "margin")(given, torch.from_numpy(labels))
    assert (given[torch.arange(50), torch.from_numpy(labels)] == -1).all()
    before = probs.copy()
    ours(probs, labels, "margin")
    assert np.array_equal(probs, before)


def saturated() -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of 100 classes by a far too confident network, right in half of them."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 100, 5000)
    logits = rng.normal(size=(5000, 100))
    logits[np.arange(5000), labels] += 2.5
    return 20 * logits, labels


@pytest.mark.parametrize(("score", "at_most"), [("hinge", 15), ("aps", 45)])
def test_torchcp_on_a_saturated_network(torchcp: Any, score: str, at_most: float) -> None:
    """Nearly all classes are in its sets: in float32 most scores are 1, and tie.

    ``calibrate`` and ``predict`` turn what the model says into float32, of whatever type it is. In
    float64, 1 - p and sums of p still tell these classes apart.
    """
    import torch

    logits, labels = saturated()
    functions = {
        "hinge": torchcp.score.LAC(),
        "aps": torchcp.score.APS(randomized=False),
    }
    predictor = torchcp.predictor.SplitPredictor(
        functions[score], model=torch.nn.Identity(), alpha=0.1, device="cpu"
    )
    predictor.calibrate([(torch.from_numpy(logits[:2000]), torch.from_numpy(labels[:2000]))])
    theirs = predictor.predict(torch.from_numpy(logits[2000:])).numpy()
    probs = softmax(logits)
    mine = sets(ours(probs[:2000], labels[:2000], score), probs[2000:], 0.1)
    assert float(predictor.q_hat) == 1
    assert theirs.sum(axis=1).mean() > 80
    assert mine.sum(axis=1).mean() < at_most
    assert 0.88 < coverage(mine, labels[2000:]) < 0.92


def test_crepes_on_a_saturated_network(crepes: Any) -> None:
    """Its hinge keeps the type of the probabilities: float32 ones have all classes in all sets."""
    logits, labels = saturated()
    probs = softmax(logits).astype(np.float32)
    scores = crepes.extras.hinge(probs)
    classifier = crepes.ConformalClassifier().fit(scores[np.arange(2000), labels[:2000]])
    theirs = classifier.predict_set(scores[2000:2050], smoothing=False, confidence=0.9)
    mine = sets(ours(probs[:2000], labels[:2000]), probs[2000:2050], 0.1)
    assert theirs.all() and mine.sum(axis=1).mean() < 15


def test_mapie_on_a_saturated_network(mapie: Any) -> None:
    """APS falls far below the coverage that is asked for: 0.80 where 0.98 is.

    A set ends with the least probability above 1e-8, although many a truth has less here. And LAC,
    which takes scores within 1e-8 for equal, has all classes in all sets.
    """
    logits, labels = saturated()
    probs = softmax(logits)
    calibration = probs[:2000], labels[:2000]
    _, of_aps = mapie_sets(mapie, calibration, probs[2000:], 0.98, "aps", True, random_state=0)
    assert coverage(of_aps, labels[2000:]) < 0.85
    assert coverage(sets(ours(*calibration, "aps"), probs[2000:], 0.02), labels[2000:]) > 0.97
    _, of_lac = mapie_sets(mapie, calibration, probs[2000:], 0.9, "lac")
    assert of_lac.all()
    assert sets(ours(*calibration), probs[2000:], 0.1).sum(axis=1).mean() < 15


def test_mapie_covers_more_than_was_asked_for_by_default(mapie: Any) -> None:
    """Its APS calibrates randomised scores, but asks of all classes the whole mass above them."""
    probs, labels, new, truth = draw(0, 2000, 10)
    _, theirs = mapie_sets(mapie, (probs, labels), new, 0.9, "aps", True, random_state=0)
    mine = sets(ours(probs, labels, "aps"), new, 0.1)
    assert coverage(theirs, truth) > coverage(mine, truth) + 0.01
    assert theirs.sum(axis=1).mean() > mine.sum(axis=1).mean()


@pytest.mark.parametrize(("n", "alpha"), [(9, 0.1), (19, 0.05)])
def test_mapie_refuses_what_can_be_answered(mapie: Any, n: int, alpha: float) -> None:
    """It asks for 1 / alpha pictures; one fewer has k = n. With fewer still, ours say infinity."""
    probs, labels, new, _ = draw(0, n, 3)
    with pytest.raises(ValueError, match="Number of samples of the score is too low"):
        mapie_sets(mapie, (probs, labels), new, 1 - alpha, "lac")
    assert math.isfinite(threshold(ours(probs, labels), alpha))
    assert math.isinf(threshold(ours(probs[1:], labels[1:]), alpha))


def test_mapie_does_not_heed_the_share_that_raps_gives_up(mapie: Any) -> None:
    """Whatever ``size_raps`` says, a tenth of the pictures chooses lambda and k_reg."""
    from mapie.conformity_scores import RAPSConformityScore

    probs, labels, _, _ = draw(0, 1000, 5)
    classifier = mapie.SplitConformalClassifier(
        known_classifier(5), conformity_score=RAPSConformityScore(size_raps=0.5), random_state=0
    )
    classifier.conformalize(probs, labels)
    assert len(classifier.conformity_scores) == 900


def test_crepes_holds_p_equal_to_alpha_or_not(crepes: Any) -> None:
    """Where (n + 1) alpha is whole: at confidence 0.9 such a p is in, one rank more than needed.

    At 0.95 it is out, as with us, for 1 - 0.95 is a little more than 0.05 in floats.
    """
    probs, labels, new, _ = draw(0, 99, 4)
    scores = 1 - probs[np.arange(99), labels]
    classifier = crepes.ConformalClassifier().fit(scores)
    calibration = ours(probs, labels)
    p = calibration.p_values({"t": new})["t"]
    for alpha, confidence, equal_is_in in ((0.1, 0.9, True), (0.05, 0.95, False)):
        equal = p == alpha
        assert equal.any()
        theirs = classifier.predict_set(1 - new, smoothing=False, confidence=confidence)
        assert np.array_equal(theirs, (p > alpha) | (equal & equal_is_in))
        assert np.array_equal(sets(calibration, new, alpha), p > alpha)
