"""The libraries that ``bench conformal`` compares, and how each is asked for prediction sets.

All get the same probabilities and give the sets as bool (m, C). A peer is asked by its fastest
entry points, in batches of its fastest size (64 to 50,000 rows were tried), and each batch's sets
go into one array: what TorchCP itself returns takes four bytes a class.

Peers are imported where they are used: none of them is needed to run Sureset. ``make peers`` puts
them into ``.venv``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app import __version__
from app.conformal import calibrate
from app.conformal.scores import RAPS

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: (score, calibration probabilities (n, C), true classes (n,), probabilities (m, C), alpha) to sets
Answer = Callable[[str, Floats, Ints, Floats, float], Bools]

#: Of RAPS, for all libraries: our defaults.
WEIGHT, K_REG = RAPS.weight, RAPS.k_reg

_BATCH = 256


@dataclass(frozen=True)
class Library:
    """A library that takes part.

    Attributes:
        name: as its authors write it.
        package: the name it is installed and imported by.
        scores: what it can be compared in.
        answer: calibrates and gives the sets.
        share: the share of the test pictures that it is timed on.
    """

    name: str
    package: str
    scores: tuple[str, ...]
    answer: Answer
    share: float = 1.0

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None

    @property
    def version(self) -> str:
        return __version__ if self.package == "app" else version(self.package)


def _sureset(score: str, probs: Floats, labels: Ints, new: Floats, alpha: float) -> Bools:
    return calibrate({"t": probs}, {"t": labels}, score=score).predict({"t": new}, alpha)["t"]


def _torchcp(score: str, probs: Floats, labels: Ints, new: Floats, alpha: float) -> Bools:
    """``SplitPredictor.calculate_threshold`` and ``.predict_with_logits``.

    Its scores take probabilities as they are with ``score_type="identity"``, which saves it a
    softmax; ``calibrate`` and ``predict`` would run a model and copy what it gives.
    """
    let_torchcp_be_imported()
    import torch
    from torchcp.classification.predictor import SplitPredictor
    from torchcp.classification.score import APS, LAC, RAPS

    functions: dict[str, Callable[[], Any]] = {
        "hinge": lambda: LAC("identity"),
        "aps": lambda: APS("identity", randomized=False),
        "raps": lambda: RAPS("identity", randomized=False, penalty=WEIGHT, kreg=K_REG),
    }
    predictor = SplitPredictor(functions[score](), alpha=alpha)
    sets = torch.empty(new.shape, dtype=torch.bool)
    with torch.inference_mode():
        predictor.calculate_threshold(torch.from_numpy(probs), torch.from_numpy(labels))
        rows = torch.from_numpy(new)
        for i in range(0, len(rows), _BATCH):
            sets[i : i + _BATCH] = predictor.predict_with_logits(rows[i : i + _BATCH])
    return sets.numpy()


def _mapie(score: str, probs: Floats, labels: Ints, new: Floats, alpha: float) -> Bools:
    """``SplitConformalClassifier.conformalize`` and ``.predict_set`` on a prefit classifier.

    Deterministic as ``mapie_scores`` tells, and without the label that crosses the threshold; a set
    is never empty in its APS and RAPS, so that these cover a little more.
    """
    from mapie.classification import SplitConformalClassifier

    classifier = SplitConformalClassifier(
        known_classifier(probs.shape[1]),
        confidence_level=1 - alpha,
        conformity_score=mapie_scores()[score](),
        prefit=True,
        random_state=NoDraw(),
    )
    classifier.conformalize(probs, labels)
    sets = np.empty(new.shape, bool)
    for i in range(0, len(new), _BATCH):
        _, batch = classifier.predict_set(new[i : i + _BATCH], {"include_last_label": False})
        sets[i : i + _BATCH] = batch[:, :, 0]
    return sets


def _crepes(score: str, probs: Floats, labels: Ints, new: Floats, alpha: float) -> Bools:
    """``ConformalClassifier.fit`` and ``.predict_set`` with unsmoothed p-values.

    It compares every score with all calibration scores in a loop over rows and classes, which no
    size of batches makes faster.
    """
    from crepes import ConformalClassifier
    from crepes.extras import hinge

    # Asked with the labels, its hinge looks each of them up in a loop.
    classifier = ConformalClassifier().fit(hinge(probs)[np.arange(len(labels)), labels])
    sets = classifier.predict_set(hinge(new), smoothing=False, confidence=1 - alpha)
    return sets.astype(bool)


LIBRARIES = {
    "sureset": Library("Sureset", "app", ("hinge", "aps", "raps"), _sureset),
    "torchcp": Library("TorchCP", "torchcp", ("hinge", "aps", "raps"), _torchcp),
    "mapie": Library("MAPIE", "mapie", ("hinge", "aps", "raps"), _mapie),
    # It would take minutes a run; its time grows by a constant a row.
    "crepes": Library("crepes", "crepes", ("hinge",), _crepes, share=0.01),
}


def let_torchcp_be_imported() -> None:
    """Put an empty module in torchsort's place where torchsort is not installed.

    ``import torchcp`` imports it for a training loss, which nothing here uses. It is published as
    source alone and is not among the peers that are installed.
    """
    if find_spec("torchsort") is None:
        torchsort = module_from_spec(ModuleSpec("torchsort", None))
        vars(torchsort).update(soft_rank=None, soft_sort=None)
        sys.modules["torchsort"] = torchsort


class NoDraw(np.random.RandomState):
    """A random state whose uniform draws are 0, at which MAPIE's APS score is the whole mass."""

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return np.zeros(size)


def known_classifier(classes: int) -> Any:
    """A fitted classifier for scikit-learn's way of asking: the features are the probabilities."""
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Known(ClassifierMixin, BaseEstimator):
        def __init__(self, classes: int) -> None:
            self.classes = classes
            self.classes_ = np.arange(classes)
            self.n_features_in_ = classes

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict_proba(self, X: Floats) -> Floats:
            return X

        def predict(self, X: Floats) -> Ints:
            return X.argmax(axis=1)

    return Known(classes)


def mapie_scores() -> dict[str, Callable[[], Any]]:
    """Makers of MAPIE's scores by our names.

    Its RAPS gives up a part of the calibration pictures to choose lambda and k_reg by itself, at
    every call of ``predict_set`` again; here both are given, and all pictures calibrate.
    """
    from mapie.conformity_scores import (
        APSConformityScore,
        LACConformityScore,
        RAPSConformityScore,
    )

    class GivenRAPS(RAPSConformityScore):
        split_data = APSConformityScore.split_data
        get_conformity_scores = APSConformityScore.get_conformity_scores

        def get_conformity_score_quantiles(
            self, conformity_scores: Floats, alpha_np: Floats, cv: Any, **_: Any
        ) -> Floats:
            self.lambda_star, self.k_star = WEIGHT, np.full(len(alpha_np), K_REG)
            regularised = self._regularize_conformity_score(
                self.k_star, self.lambda_star, conformity_scores, self.cutoff
            )
            return super(RAPSConformityScore, self).get_conformity_score_quantiles(
                regularised, alpha_np, cv
            )

    return {"hinge": LACConformityScore, "aps": APSConformityScore, "raps": GivenRAPS}
