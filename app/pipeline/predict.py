"""From pictures to answers, with nothing but a bundle."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.bundle import LATEST, Facts, find_bundle, open_bundle
from app.conformal.checks import as_alpha
from app.conformal.method import Method
from app.conformal.outliers import Outliers
from app.data.pictures import PictureError, Preprocess, read_rgb
from app.errors import SuresetError
from app.pipeline.loading import load_heads, serving_runtime
from app.settings import AUTO, Settings
from app.vision import explanations
from app.vision.batching import Batcher
from app.vision.heads import Heads
from app.vision.runtimes import SharedRuntime

Answer = dict[str, Any]
Answered = dict[str, Any]

#: In a bundle, ``answers_of`` its examples by kind of runtime, as they came out where it was made.
ANSWERS = "answers.json"

#: In a bundle, the digests of the pictures that its heads were fitted on, uint8 (n, 16).
FITTED = "fitted.npy"

#: How many of the most probable combinations of classes an answer names.
_LIKELIEST = 3


@dataclass(frozen=True)
class Sight:
    """What a network saw of one picture, some 300 kB: drop it from readings that are kept.

    Attributes:
        picture: the square it was given, (size, size, 3).
        features: what it came to, (d,).
        last: the map (c, h, w) that the last features are means of.
    """

    picture: NDArray[np.uint8]
    features: NDArray[np.float32]
    last: NDArray[np.float16]


@dataclass(frozen=True)
class Reading:
    """What the network made of one picture. Every answer follows from it without the network.

    Attributes:
        probs: probabilities in the bundle's label space, by task, each (1, C).
        outlier_p: how usual the picture is among the calibration pictures.
        features: what the heads made the probabilities of, (d,).
        sight: what ``Classifier.heat`` is drawn from; None where the network puts out no map.
    """

    probs: dict[str, NDArray[np.float64]]
    outlier_p: float
    features: NDArray[np.float32]
    sight: Sight | None = None


@dataclass(frozen=True)
class _Network:
    """From squares of RGB bytes to readings.

    Apart from the classifier, so that the threads that run it do not keep that one alive.
    """

    runtime: SharedRuntime
    heads: Heads
    outliers: Outliers
    method: dict[str, str]

    def readings(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        features, maps = self.runtime.run(np.stack(pictures))
        probs = self.heads.probabilities(features, self.method["head"], self.method["space"])
        outlier_p = self.outliers.p_values(self.heads.standardise(features))
        readings = []
        for i in range(len(features)):
            own = features[i].copy()  # A view would keep the whole batch.
            sight = None if maps is None else Sight(pictures[i], own, maps[i].copy())
            of_picture = {name: p[i : i + 1] for name, p in probs.items()}
            readings.append(Reading(of_picture, float(outlier_p[i]), own, sight))
        return readings


class Classifier:
    """A bundle at work. Safe to use from several threads, whose pictures share batches."""

    def __init__(self, path: Path, facts: Facts, runtime: SharedRuntime | None = None) -> None:
        """``runtime`` is the first of the bundle's that this machine can run, unless given.

        Raises:
            SuresetError: it can run none of them.
        """
        self.path = path
        self.facts = facts
        self.metrics: dict[str, Any] = json.loads(
            (path / "metrics.json").read_text(encoding="utf-8")
        )
        self.classes: dict[str, list[str]] = facts["tasks"]
        self.examples = [path / "examples" / name for name in facts["examples"]]
        self.scores: list[str] = facts["methods"]["scores"]
        self.taxonomies: list[str] = facts["methods"]["taxonomies"]
        self._preprocess = Preprocess(**facts["preprocess"])
        self._sizes = {task: len(names) for task, names in self.classes.items()}
        self._heads = load_heads(path, facts)
        self._runtime = runtime or serving_runtime(path, facts)
        self.runtime = self._runtime.kind
        self._outliers = Outliers.load(outliers_file(path, self.runtime))
        #: Digests of the pictures that the heads were fitted on, uint8 (n, 16).
        self.fitted: NDArray[np.uint8] = np.load(path / FITTED, allow_pickle=False)
        # All at once, so that a bundle in service needs nothing more of its folder.
        self._methods = {
            (score, taxonomy): Method.load(
                method_folder(path, self.runtime, score, taxonomy), self._sizes
            )
            for score in self.scores
            for taxonomy in self.taxonomies
        }
        # The first picture would wait for the network to be compiled.
        size = self._preprocess.size
        self._runtime.run(np.zeros((1, size, size, 3), np.uint8))
        network = _Network(self._runtime, self._heads, self._outliers, facts["method"])
        self._batcher = Batcher(network.readings, self._runtime.batch, self._runtime.abreast)
        weakref.finalize(self, self._batcher.close)

    @classmethod
    def load(cls, models_dir: Path, model: str = LATEST) -> Classifier:
        """Open and check a bundle.

        Raises:
            SuresetError: there is none, it is damaged, or this machine cannot run it as calibrated.
        """
        path = find_bundle(models_dir, model)
        return cls(path, open_bundle(path))

    def read(self, pictures: Sequence[Path | bytes]) -> list[Reading | PictureError]:
        """Run the network on pictures; one that cannot be read gives its error in its place."""
        submitted = [self.submit(picture) for picture in pictures]
        return [s if isinstance(s, PictureError) else s.result() for s in submitted]

    def submit(self, picture: Path | bytes) -> Future[Reading] | PictureError:
        """Decode a picture and let it wait for the network."""
        try:
            decoded = read_rgb(picture, self._preprocess)
        except PictureError as error:
            return error
        return self._batcher.submit(decoded)

    def probabilities(self, features: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """In the bundle's label space, of features (n, d): by task (n, C)."""
        method = self.facts["method"]
        return self._heads.probabilities(features, method["head"], method["space"])

    def method(self, score: str | None = None, taxonomy: str | None = None) -> Method:
        """A calibrated method; what is None is as the bundle was trained."""
        own = self.facts["method"]
        return self._methods[score or own["score"], taxonomy or own["taxonomy"]]

    def answers(self, pictures: Sequence[Path]) -> list[Answered]:
        """``answers_of`` picture files by the bundle's own method.

        Raises:
            PictureError: one cannot be read.
        """
        if not pictures:
            return []
        decoded = [read_rgb(picture, self._preprocess) for picture in pictures]
        size = self._runtime.batch
        batches = (np.stack(decoded[i : i + size]) for i in range(0, len(decoded), size))
        features = np.concatenate(list(self._runtime.encode(batches)))
        return answers_of(
            self.method(),
            self._outliers,
            self.probabilities(features),
            self._heads.standardise(features),
        )

    def answer(
        self,
        reading: Reading,
        alpha: float | None = None,
        score: str | None = None,
        taxonomy: str | None = None,
    ) -> Answer:
        """The prediction sets of one picture; what is None is as the bundle was trained.

        Raises:
            ValueError: alpha is not strictly between 0 and 1, or the bundle has no such method.
        """
        method = self.facts["method"]
        alpha = self.facts["alpha"] if alpha is None else alpha
        score = method["score"] if score is None else score
        taxonomy = method["taxonomy"] if taxonomy is None else taxonomy
        as_alpha(alpha)
        if score not in self.scores:
            raise ValueError(f"score must be one of {', '.join(self.scores)}, not {score!r}")
        if taxonomy not in self.taxonomies:
            there = ", ".join(self.taxonomies)
            raise ValueError(f"taxonomy must be one of {there}, not {taxonomy!r}")
        calibrated = self._methods[score, taxonomy]
        said = calibrated.answer(reading.probs, alpha)
        p_values = calibrated.p_values(reading.probs)
        likeliest, mass = calibrated.likeliest(reading.probs, _LIKELIEST)
        joint: Answer = {
            "sets": {t: self._names(t, s[0]) for t, s in said.joint_sets.items()},
            "size": said.joint_size(0),
            "top": {t: self.classes[t][c[0]] for t, c in said.joint_top.items()},
            "likeliest": [
                {
                    "classes": {t: self.classes[t][c[0, i]] for t, c in likeliest.items()},
                    "probability": float(mass[0, i]),
                }
                for i in range(mass.shape[1])
            ],
        }
        if said.combinations is not None:
            at = np.unravel_index(np.flatnonzero(said.combinations[0]), tuple(self._sizes.values()))
            names = zip(self.classes, at, strict=True)
            columns = [[self.classes[task][c] for c in codes] for task, codes in names]
            joint["combinations"] = [list(row) for row in zip(*columns, strict=True)]
        return {
            "tasks": {
                task: {
                    "set": self._names(task, said.sets[task][0]),
                    "top": names[said.top[task][0]],
                    "p_values": dict(zip(names, p_values[task][0].tolist(), strict=True)),
                }
                for task, names in self.classes.items()
            },
            "joint": joint,
            "outlier_p": reading.outlier_p,
        }

    def _names(self, task: str, members: NDArray[np.bool_]) -> list[str]:
        return [self.classes[task][c] for c in np.flatnonzero(members)]

    def heat(self, reading: Reading, task: str, name: str) -> NDArray[np.float64] | None:
        """Which places of the picture speak for a class, as far as the last layer goes (h, w).

        None where the network puts out no map. Runs no network.
        """
        if reading.sight is None:
            return None
        sight, code = reading.sight, self.classes[task].index(name)
        head = self.facts["method"]["head"]
        return explanations.heat(self._heads, sight.features, sight.last, head, task, code)

    def predict(self, pictures: Sequence[Path], settings: Settings) -> Iterator[Answer]:
        """Answer picture files in order, as ``python -m app predict`` prints them.

        Raises:
            SuresetError: the bundle has no such method.
        """
        for start in range(0, len(pictures), 64):
            some = pictures[start : start + 64]
            for path, reading in zip(some, self.read(some), strict=True):
                if isinstance(reading, PictureError):
                    yield {"image": str(path), "error": str(reading)}
                    continue
                given = {name: settings.given(name) for name in ("alpha", "score", "taxonomy")}
                # The bundle's own method is what ``auto`` came to.
                chosen = {name: None if v == AUTO else v for name, v in given.items()}
                try:
                    yield {"image": str(path), **self.answer(reading, **chosen)}
                except ValueError as error:
                    raise SuresetError(f"the bundle {self.path.name}: {error}.") from error


def answers_of(
    method: Method,
    outliers: Outliers,
    probs: dict[str, NDArray[np.float64]],
    standardised: NDArray[np.float32],
) -> list[Answered]:
    """All p-values of n pictures, from which every answer follows.

    Args:
        probs: in the method's label space, by task (n, C).
        standardised: features (n, d).
    """
    p_values = method.p_values(probs)
    unlike = outliers.p_values(standardised)
    return [
        {"p_values": {t: p[i].tolist() for t, p in p_values.items()}, "outlier_p": float(unlike[i])}
        for i in range(len(standardised))
    ]


def method_folder(bundle: Path, kind: str, score: str, taxonomy: str) -> Path:
    """Where a bundle keeps the calibration of one score and taxonomy for a kind of runtime."""
    return bundle / "calibration" / kind / f"{score}-{taxonomy}"


def outliers_file(bundle: Path, kind: str) -> Path:
    """Where a bundle keeps what tells outliers in a kind of runtime."""
    return bundle / "calibration" / kind / "outliers.npz"
