"""From what people said to a new bundle, which is as honest as one from a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.bundle import open_bundle
from app.data.pictures import digest
from app.errors import SuresetError
from app.feedback import Feedback, Told, Word
from app.pipeline.parts import calibrating, enough
from app.pipeline.predict import Classifier
from app.pipeline.recalibrate import as_pictures
from app.settings import Settings, load_settings
from tests.unit.pipeline.conftest import Run, run_in

CLASSES = {"colour": ["red", "green"], "shape": ["dark", "bright"]}


def told(n: int, incomplete: int = 0) -> Told:
    rng = np.random.default_rng(0)
    labels = {task: rng.integers(0, 2, n) for task in CLASSES}
    labels["shape"][:incomplete] = -1
    names = [f"{i:064x}" for i in range(n)]
    digests = np.frombuffer(b"".join(digest(name.encode()) for name in names), np.uint8)
    return Told(np.arange(n), names, digests.reshape(n, 16), labels, np.zeros((n, 3), np.float32))


def settings(seed: int = 0, alpha: float = 0.1) -> Settings:
    return load_settings(seed=seed, alpha=alpha, feedback_dir=Path("feedback"))


# ---- which calibrate and which test


def test_two_of_three_calibrate_whenever_they_came() -> None:
    pictures = as_pictures(told(90, incomplete=30), settings(), CLASSES)
    complete = pictures.manifest.labels["shape"] >= 0
    assert (pictures.split[complete] == "calib").sum() == 40
    assert (pictures.split[~complete] == "calib").sum() == 20
    early = (pictures.split[30:60] == "calib").sum()
    assert 12 <= early <= 28, "it is drawn, and not by time"
    again = as_pictures(told(90, incomplete=30), settings(), CLASSES)
    other = as_pictures(told(90, incomplete=30), settings(seed=1), CLASSES)
    assert (again.split == pictures.split).all() and (other.split != pictures.split).any()


def test_too_few_is_one_sentence_that_says_how_many_are_missing() -> None:
    n = enough(2, 0.1)
    assert as_pictures(told(n), settings(), CLASSES).sizes()["calib"] == calibrating(n) >= 17
    with pytest.raises(SuresetError, match=r"0\.1 needs 1 more picture to calibrate on"):
        as_pictures(told(n - 1), settings(), CLASSES)
    sentence = f"^there are {n - 3} pictures whose every true class was told, .* needs 3 more pict"
    with pytest.raises(SuresetError, match=sentence):
        as_pictures(told(n, incomplete=3), settings(), CLASSES)
    with pytest.raises(SuresetError, match=r"^there are 0 pictures"):
        as_pictures(told(0), settings(), CLASSES)


@pytest.mark.parametrize("n", range(1, 40))
def test_one_at_least_tests(n: int) -> None:
    assert 0 <= calibrating(n) < n
    assert calibrating(n) >= 2 * n / 3 or calibrating(n) == n - 1


# ---- the command, on a real bundle


@dataclass(frozen=True)
class Place:
    """A folder of bundles, and the feedback on its latest."""

    models: Path
    feedback: Path
    old: Path
    held_out: int


@pytest.fixture(scope="module")
def place(workplace: Path) -> Iterator[Place]:
    """Of every picture of the workplace, those that trained too, the truth was told."""
    models, folder = workplace / "told-models", workplace / "told"
    shutil.copytree(workplace / "models", models, symlinks=True)
    classifier = Classifier.load(models)
    feedback = Feedback(folder)
    table = pd.read_csv(workplace / "data" / "labels.csv", dtype=str)
    fitted = set(map(bytes, classifier.fitted))
    held_out = 0
    for row in table.to_dict("records"):
        data = (workplace / "data" / row["image"]).read_bytes()
        [reading] = classifier.read([data])
        assert not isinstance(reading, Exception)
        truth = {task: row[task] for task in classifier.classes}
        held_out += digest(data) not in fitted
        feedback.keep(
            Word(
                who="me",
                bundle=classifier.path.name,
                content=classifier.facts["content_sha256"],
                runtime=classifier.runtime,
                picture=data,
                features=reading.features,
                asked={},
                answered={},
                truth=truth,
            )
        )
    feedback.close()
    yield Place(models, folder, classifier.path, held_out)


@pytest.fixture(scope="module")
def renewed(place: Place, workplace: Path) -> Path:
    asked = ("--models", str(place.models), "--feedback", str(place.feedback))
    done = run_in(workplace, "calibrate", "--from-feedback", *asked)
    assert done.returncode == 0, done.stderr
    return (place.models / "latest").resolve()


def test_feedback_makes_a_new_bundle_and_keeps_the_old(place: Place, renewed: Path) -> None:
    old, facts = open_bundle(place.old), open_bundle(renewed)
    assert renewed != place.old and renewed.name.startswith(f"{place.old.name}+")
    assert facts["calibrated_from"] == old["name"] and facts["calibrated_on"] == "feedback"
    assert facts["content_sha256"] != old["content_sha256"]
    for file in ("heads.safetensors", "encoder.bin", "fitted.npy"):
        assert facts["files"][file] == old["files"][file]
    assert facts["method"] == old["method"] and facts["alpha"] == old["alpha"]


def test_pictures_that_trained_the_heads_are_left_out(place: Place, renewed: Path) -> None:
    splits = open_bundle(renewed)["splits"]
    assert splits["calib"] + splits["test"] == place.held_out
    metrics = json.loads((renewed / "metrics.json").read_text())
    assert metrics["tasks"]["colour"]["n_test"] == splits["test"]


def test_the_new_bundle_proves_itself_and_answers(
    place: Place, renewed: Path, run: Run, workplace: Path
) -> None:
    done = run("bundle", "check", "--models", str(place.models))
    assert done.returncode == 0, done.stdout
    assert "are answered as where it was made" in done.stdout
    assert sorted(open_bundle(renewed)["examples"]) == sorted(open_bundle(place.old)["examples"])
    example = next((renewed / "examples").iterdir())
    answers: dict[Path, Any] = {}
    for path in (place.old, renewed):
        classifier = Classifier(path, open_bundle(path))
        [reading] = classifier.read([example])
        assert not isinstance(reading, Exception)
        answers[path] = classifier.answer(reading)
    assert answers[renewed]["tasks"] != answers[place.old]["tasks"], "by other scores"


def test_the_report_says_what_it_was_calibrated_on(place: Place, renewed: Path) -> None:
    report = (renewed / "report.html").read_text(encoding="utf-8")
    assert "true classes people told of" in report
    assert "--from-feedback" in report and "--data" not in report
    assert "pictures of feedback are kept only where it is asked for" in report
    assert "every set holds the label" not in report


def test_too_little_feedback_is_one_sentence(place: Place, run: Run, workplace: Path) -> None:
    before = sorted(path.name for path in place.models.iterdir())
    done = run(
        *("calibrate", "--from-feedback", "--models", str(place.models)),
        *("--model", place.old.name, "--feedback", str(workplace / "nothing")),
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("error: there are 0 pictures whose")
    assert sorted(path.name for path in place.models.iterdir()) == before
    assert not (workplace / "nothing").exists()
