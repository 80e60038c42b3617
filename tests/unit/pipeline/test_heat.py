"""What a class's score looked at, by a bundle at work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from app.bundle import open_bundle
from app.data.pictures import PictureError, Preprocess, read_rgb
from app.pipeline.predict import Classifier, Reading
from app.vision.runtimes import OpenVINORuntime, best_float
from tests.unit.pipeline.test_run import bundle, pictures


@pytest.fixture(scope="module")
def classifier(workplace: Path) -> Classifier:
    path = bundle(workplace)
    return Classifier(path, open_bundle(path))


def read(classifier: Classifier, picture: str) -> Reading:
    [reading] = classifier.read([Path(picture)])
    assert not isinstance(reading, PictureError)
    return reading


def test_every_class_has_its_heat_without_running_the_network(
    workplace: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    [picture] = pictures(workplace, 1)
    reading = read(classifier, picture)
    monkeypatch.setattr(OpenVINORuntime, "run", None)
    monkeypatch.setattr(OpenVINORuntime, "encode", None)
    assert reading.sight is not None
    seen = read_rgb(Path(picture), Preprocess(**classifier.facts["preprocess"]))
    np.testing.assert_array_equal(reading.sight.picture, seen)
    warm = 0
    for task, names in classifier.classes.items():
        for name in names:
            heat = classifier.heat(reading, task, name)
            assert heat is not None
            assert heat.shape == (7, 7) and np.isfinite(heat).all() and heat.min() >= 0
            warm += heat.max() > 0
    assert warm > 0


def test_a_bundle_whose_network_puts_out_no_map_serves_without_heat(
    workplace: Path, classifier: Classifier, tmp_path: Path
) -> None:
    """As those that were made before did."""
    graph = ov.Core().read_model(classifier.path / "encoder.xml")
    graph.remove_result(graph.get_results()[1])
    ov.save_model(graph, tmp_path / "encoder.xml", compress_to_fp16=False)
    runtime = OpenVINORuntime(tmp_path, best_float())
    old = Classifier(classifier.path, classifier.facts, runtime)
    [picture] = pictures(workplace, 1)
    reading = read(old, picture)
    assert reading.sight is None and old.heat(reading, "colour", "red") is None
    assert old.answer(reading) == classifier.answer(read(classifier, picture))
