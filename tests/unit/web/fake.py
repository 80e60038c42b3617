"""A classifier without a network: a fixed function of a picture's mean colours."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.conformal.method import Method
from app.data.pictures import PictureError, Preprocess, digest, read_rgb

CLASSES = {"colour": ["red", "green", "blue"], "shape": ["dark", "bright"]}
SCORES = ["hinge", "margin"]
TAXONOMIES = ["task", "class"]


@dataclass(frozen=True)
class FakeReading:
    """A picture's mean colours, (3,)."""

    features: NDArray[np.float32]


class FakeClassifier:
    """``Classifier``'s interface over the mean of a picture's channels.

    A colour's p-value is its share of all light; brightness decides the shape. ``margin`` halves
    every p-value, so that another score gives other sets. Nearly white pictures are outliers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runtime = "openvino-f32"
        self.classes = CLASSES
        self.scores = SCORES
        self.taxonomies = TAXONOMIES
        self.examples = sorted((path / "examples").glob("*.png"))
        method = {"head": "taskwise", "space": "taskwise", "score": "hinge", "taxonomy": "task"}
        here = {"accuracy": 0.9, "coverage": 0.934, "avg_set_size": 1.25}
        self.facts: dict[str, Any] = {
            "name": path.name,
            "content_sha256": f"content of {path.name}",
            "created": "2026-05-04T09:10:11+00:00",
            "alpha": 0.1,
            "method": method,
            "splits": {"train": 1000, "valid": 200, "calib": 300, "test": 360},
            "backbone": {"name": "a_network"},
            "examples": {example.name: {"colour": "red"} for example in self.examples},
            "measured": {self.runtime: {task: here for task in (*CLASSES, "joint")}},
        }
        self.fitted = np.frombuffer(digest(TRAINED_ON), np.uint8).reshape(1, 16)
        measured = {"accuracy": 0.9, "coverage": 0.912, "avg_set_size": 1.2, "n_test": 360}
        self.metrics: dict[str, Any] = {
            "alpha": 0.1,
            "tasks": {task: measured for task in CLASSES},
            "joint": measured,
            "method": method,
        }
        self.pictures = 0

    def read(self, pictures: Sequence[Path | bytes]) -> list[Any]:
        submitted = [self.submit(picture) for picture in pictures]
        return [s if isinstance(s, PictureError) else s.result() for s in submitted]

    def submit(self, picture: Path | bytes) -> Any:
        self.pictures += 1
        read = self._read(picture)
        if isinstance(read, PictureError):
            return read
        result: Future[Any] = Future()
        result.set_result(read)
        return result

    def _read(self, picture: Path | bytes) -> Any:
        try:
            square = read_rgb(picture, Preprocess(48, 48, "bilinear"))
        except PictureError as error:
            return error
        return FakeReading((square.mean(axis=(0, 1)) / 255).astype(np.float32))

    def probabilities(self, features: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        light = features.astype(float).mean(axis=1)
        total = np.maximum(features.sum(axis=1, keepdims=True, dtype=float), 1e-9)
        return {"colour": features / total, "shape": np.stack([1 - light, light], axis=1)}

    def method(self, score: str | None = None, taxonomy: str | None = None) -> Method:
        """Really calibrated, on pictures whose classes are as often true as they are probable."""
        features, labels = draw(self, 400, np.random.default_rng(0))
        sizes = {task: len(names) for task, names in CLASSES.items()}
        probs = self.probabilities(features)
        return Method.calibrate(probs, labels, sizes, score or "hinge", taxonomy or "task", 0)

    def heat(self, reading: Any, task: str, name: str) -> Any:
        return None

    def answer(
        self,
        reading: Any,
        alpha: float | None = None,
        score: str | None = None,
        taxonomy: str | None = None,
    ) -> dict[str, Any]:
        alpha = 0.1 if alpha is None else alpha
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must lie strictly between 0 and 1, not {alpha}")
        if score not in (None, *SCORES) or taxonomy not in (None, *TAXONOMIES):
            raise ValueError("no such method")
        features = reading.features.astype(float)
        light = float(features.mean())
        p = {
            "colour": features / max(features.sum(), 1e-9),
            "shape": np.array([1 - light, light]),
        }
        tasks = {}
        for task, values in p.items():
            values = values / 2 if score == "margin" else values
            names = CLASSES[task]
            tasks[task] = {
                "set": [name for name, v in zip(names, values, strict=True) if v > alpha],
                "top": names[int(values.argmax())],
                "p_values": {name: float(v) for name, v in zip(names, values, strict=True)},
            }
        sets = {task: of_task["set"] for task, of_task in tasks.items()}
        size = int(np.prod([len(s) for s in sets.values()]))
        joint = {"sets": sets, "size": size, "top": {t: a["top"] for t, a in tasks.items()}}
        return {"tasks": tasks, "joint": joint, "outlier_p": float(round(1 - light, 3))}


def draw(
    classifier: FakeClassifier, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.int64]]]:
    """Features (n, 3) of random pictures, and labels {task: (n,)} drawn by their probabilities."""
    features = rng.uniform(0.05, 1, (n, 3)).astype(np.float32)
    probs = classifier.probabilities(features)
    labels = {
        task: (rng.random((n, 1)) > np.cumsum(p, axis=1)[:, :-1]).sum(axis=1)
        for task, p in probs.items()
    }
    return features, labels


def picture(red: int, green: int, blue: int) -> bytes:
    """A PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (red, green, blue)).save(buffer, "PNG")
    return buffer.getvalue()


#: The picture that the fake's heads were fitted on.
TRAINED_ON = picture(1, 2, 3)


def write_fake_bundle(models_dir: Path, name: str) -> Path:
    """What ``find_bundle`` sees of a bundle, with three examples, made the latest."""
    folder = models_dir / name
    (folder / "examples").mkdir(parents=True)
    for colour in ((200, 30, 30), (30, 160, 40), (20, 20, 120)):
        (folder / "examples" / f"{colour[0]}.png").write_bytes(picture(*colour))
    (folder / "bundle.json").write_text(json.dumps({"name": name}))
    (folder / "report.html").write_text(f"<h1>{name}</h1><script>alert(1)</script>")
    link = models_dir / "latest"
    link.unlink(missing_ok=True)
    link.symlink_to(name)
    return folder


def load_fake(models_dir: Path, model: str) -> Any:
    """Stands in for ``Classifier.load``."""
    return FakeClassifier((models_dir / model).resolve())
