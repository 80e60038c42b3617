"""Calibrate a bundle on what people said of its answers, into a new bundle.

Nothing but features is needed, which feedback keeps: no picture, and the network for the examples
alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.bundle import check_name, name_of_next, new_bundle, open_bundle
from app.conformal.outliers import Outliers
from app.conformal.spaces import completely_labelled
from app.data.manifest import Manifest
from app.data.pictures import PictureError
from app.errors import SuresetError
from app.feedback import PICTURES, Feedback, Told
from app.pipeline.calibrate import calibrate_into, copy_network
from app.pipeline.evaluate import Examples, evaluate_into, print_table
from app.pipeline.loading import load_heads
from app.pipeline.parts import draw_parts, enough
from app.pipeline.pictures import Pictures, check_space
from app.pipeline.predict import Classifier, outliers_file
from app.pipeline.reuse import FITTED, as_trained
from app.pipeline.stopwatch import Stopwatch
from app.progress import say
from app.settings import Settings


def recalibrate(settings: Settings) -> Path:
    """Calibrate a bundle on the feedback about it; gives the new bundle, which is the latest.

    Raises:
        SuresetError: there is too little feedback, or a bundle cannot be read or written.
    """
    watch = Stopwatch()
    with watch("features"):
        classifier = Classifier.load(settings.models_dir, settings.model)
        old, facts = classifier.path, open_bundle(classifier.path)
        settings = as_trained(settings, facts)
        name = settings.save_as or name_of_next(facts)
        check_name(settings.models_dir, name)
        heads = load_heads(old, facts)
        check_space(heads.classes, settings)
        kind = classifier.runtime
        feedback = Feedback(settings.feedback_dir)
        try:
            told = feedback.told(facts["content_sha256"], kind, classifier.classes)
        finally:
            feedback.close()
        fitted = np.load(old / FITTED, allow_pickle=False)
        told = told.without(fitted)
        pictures = as_pictures(told, settings, classifier.classes)
        examples = _examples(classifier)
    reference = Outliers.load(outliers_file(old, kind)).reference
    facts.pop("chosen", None)  # It was, on other pictures; now it is given.
    facts |= {"name": name, "calibrated_from": facts["name"], "calibrated_on": "feedback"}
    with new_bundle(settings.models_dir, name, facts) as folder:
        with watch("export"):
            np.save(folder / FITTED, fitted)
            copy_network(old, folder)
            shutil.copytree(old / "examples", folder / "examples")
        by_kind = {kind: told.features}
        with watch("calibrate"):
            calibrate_into(folder, facts, settings, heads, reference, pictures, by_kind)
        results = evaluate_into(folder, facts, settings, heads, pictures, by_kind, watch, examples)
    print_table(results, settings.alpha)
    say(f"bundle {settings.models_dir / name}: {old.name} calibrated on {len(told)} answers")
    return settings.models_dir / name


def as_pictures(told: Told, settings: Settings, classes: dict[str, list[str]]) -> Pictures:
    """What was told, as pictures of which some calibrate and some test.

    Which do is drawn by the pictures' hashes, and so has nothing to do with when they came.

    Raises:
        SuresetError: they are too few.
    """
    complete = completely_labelled(told.labels)
    split = draw_parts(told.pictures, complete, settings.seed)
    missing = enough(len(classes), settings.alpha) - int(complete.sum())
    if missing > 0:
        s = "" if missing == 1 else "s"
        raise SuresetError(
            f"there are {int(complete.sum())} pictures whose every true class was told, and alpha "
            f"{settings.alpha:g} needs {missing} more picture{s} to calibrate on and to test with: "
            "give more feedback."
        )
    manifest = Manifest(
        settings.feedback_dir / PICTURES, "feedback", told.pictures, classes, told.labels
    )
    return Pictures(manifest, told.digests, split, {})


def _examples(classifier: Classifier) -> Examples:
    """The examples of the bundle, which stay its examples."""
    features: list[NDArray[np.float32]] = []
    read = classifier.read(classifier.examples)
    for file, reading in zip(classifier.examples, read, strict=True):
        if isinstance(reading, PictureError):
            raise SuresetError(f"the example {file} cannot be read: {reading}.")
        features.append(reading.features)
    stacked = np.array(features).reshape(len(features), -1)
    return Examples(classifier.facts["examples"], {classifier.runtime: stacked})
