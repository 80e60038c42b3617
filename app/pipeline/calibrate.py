"""Calibrate the heads on pictures that training has not seen, for every score and taxonomy."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.bundle import Facts, check_name, find_bundle, new_bundle, open_bundle
from app.conformal import SCORES, TAXONOMIES
from app.conformal.method import Method
from app.conformal.outliers import Outliers
from app.pipeline.choice import check_choosable, choose_method, is_asked_for
from app.pipeline.evaluate import evaluate_into, print_table
from app.pipeline.loading import load_heads
from app.pipeline.pictures import Pictures, check_held_out, check_space
from app.pipeline.predict import method_folder
from app.pipeline.reuse import FITTED, as_asked, extract_for_bundle, find_for_bundle
from app.pipeline.stopwatch import Stopwatch
from app.progress import progress, say
from app.settings import Settings
from app.vision.heads import Heads
from app.vision.runtimes import OpenVINORuntime, best_precision


def calibrate_into(
    folder: Path,
    facts: Facts,
    settings: Settings,
    heads: Heads,
    reference: NDArray[np.float32],
    pictures: Pictures,
    features: NDArray[np.float32],
) -> None:
    """Write ``calibration/`` of a new bundle and complete its facts.

    Args:
        folder: the bundle being written.
        facts: what becomes its bundle.json; the method and the split sizes are added.
        settings: what was asked, with a method in the place of every ``auto``.
        reference: standardised training features (r, d) that outliers are far from.
        pictures: n pictures, of which the calibration split is used.
        features: their features, (n, d).
    """
    rows = pictures.rows("calib")
    probs = heads.probabilities(features[rows], settings.head, settings.space)
    pairs = [(score, taxonomy) for score in SCORES for taxonomy in TAXONOMIES]
    with progress("calibrating", len(pairs), "methods") as advance:
        for score, taxonomy in pairs:
            method = Method.calibrate(
                probs, pictures.labels(rows), heads.classes, score, taxonomy, settings.seed
            )
            method.save(method_folder(folder, score, taxonomy))
            advance(1)
    outliers = Outliers.fit(reference, heads.standardise(features[rows]), settings.seed)
    outliers.save(folder / "calibration" / "outliers.npz")
    facts["method"] = {
        "head": settings.head,
        "space": settings.space,
        "score": settings.score,
        "taxonomy": settings.taxonomy,
    }
    facts["alpha"] = settings.alpha
    facts["calibrations"] = {"scores": list(SCORES), "taxonomies": list(TAXONOMIES)}
    used = {split: n for split, n in pictures.sizes().items() if n}
    facts["splits"] = {**facts.get("splits", {}), **used}


def calibrate(settings: Settings) -> Path:
    """Calibrate a bundle again, on the calibration split of a folder, into a new bundle.

    Raises:
        SuresetError: the bundle or the pictures do not allow it.
    """
    watch = Stopwatch()
    old = find_bundle(settings.models_dir, settings.model)
    facts = open_bundle(old)
    settings = as_asked(settings, facts)
    name = settings.save_as or f"{facts['name'].split('+')[0]}+{datetime.now():%Y%m%d-%H%M%S}"
    check_name(settings.models_dir, name)
    heads = load_heads(old, facts)
    check_space(heads.classes, settings)
    with watch("features"):
        # In the bundle's precision where this machine has it, else in the one it has.
        precision = facts["runtime"]["precision"]
        runtime = OpenVINORuntime(old, best_precision() if precision == "bf16" else precision)
        facts["runtime"] = {"name": runtime.name, "precision": runtime.precision}
        found = find_for_bundle(settings, old, facts, "calib", "test")
        check_choosable(found, settings)
        # Validation pictures may well have trained the heads: they calibrate and test nothing.
        splits = ("valid", "calib", "test") if is_asked_for(settings) else ("calib", "test")
        pictures, features = extract_for_bundle(settings, facts, runtime, found, *splits)
        check_held_out(pictures, settings.alpha)
    with watch("calibrate"):
        settings = choose_method(facts, settings, heads, pictures, features)
    held_out = pictures.rows("calib", "test")
    pictures, features = pictures.take(held_out), features[held_out]
    reference = Outliers.load(old / "calibration" / "outliers.npz").reference

    facts |= {"name": name, "calibrated_from": facts["name"]}
    with new_bundle(settings.models_dir, name, facts) as folder:
        with watch("export"):
            for file in (FITTED, "heads.safetensors", "encoder.xml", "encoder.bin", "encoder.onnx"):
                shutil.copy(old / file, folder)
        with watch("calibrate"):
            calibrate_into(folder, facts, settings, heads, reference, pictures, features)
        results = evaluate_into(folder, facts, settings, heads, pictures, features, watch)
    print_table(results, settings.alpha)
    say(f"bundle {settings.models_dir / name}: {old.name} calibrated again")
    return settings.models_dir / name
