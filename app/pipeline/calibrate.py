"""Calibrate the heads on pictures that training has not seen, for every score and taxonomy."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.bundle import Facts, check_name, find_bundle, name_of_next, new_bundle, open_bundle
from app.conformal import SCORES, TAXONOMIES
from app.conformal.method import Method
from app.conformal.outliers import Outliers
from app.errors import SuresetError
from app.pipeline.choice import check_choosable, choose_method, is_asked_for
from app.pipeline.evaluate import evaluate_into, print_table
from app.pipeline.loading import NETWORK_FILES, bundled_runtime, kinds_asked_for, load_heads
from app.pipeline.pictures import Pictures, check_held_out, check_space, extract, extract_again
from app.pipeline.predict import method_folder, outliers_file
from app.pipeline.reuse import FITTED, as_asked, cache_for_bundle, find_for_bundle
from app.pipeline.stopwatch import Stopwatch
from app.progress import progress, say
from app.settings import Settings
from app.vision.heads import Heads
from app.vision.runtimes import CannotRun, SharedRuntime, kinds_for


def calibrate_into(
    folder: Path,
    facts: Facts,
    settings: Settings,
    heads: Heads,
    reference: NDArray[np.float32],
    pictures: Pictures,
    features: Mapping[str, NDArray[np.float32]],
) -> None:
    """Write ``calibration/`` of a new bundle and complete its facts.

    Args:
        folder: the bundle being written.
        facts: what becomes its bundle.json; the method and the split sizes are added.
        settings: what was asked, with a method in the place of every ``auto``.
        reference: standardised training features (r, d) that outliers are far from.
        pictures: n pictures, of which the calibration split is used.
        features: their features (n, d), by kind of runtime, each of which gets its calibration.
    """
    rows = pictures.rows("calib")
    labels = pictures.labels(rows)
    pairs = [(score, taxonomy) for score in SCORES for taxonomy in TAXONOMIES]
    with progress("calibrating", len(pairs) * len(features), "methods") as advance:
        for kind, own in features.items():
            probs = heads.probabilities(own[rows], settings.head, settings.space)
            for score, taxonomy in pairs:
                method = Method.calibrate(
                    probs, labels, heads.classes, score, taxonomy, settings.seed
                )
                method.save(method_folder(folder, kind, score, taxonomy))
                advance(1)
            outliers = Outliers.fit(reference, heads.standardise(own[rows]), settings.seed)
            outliers.save(outliers_file(folder, kind))
    facts["method"] = {
        "head": settings.head,
        "space": settings.space,
        "score": settings.score,
        "taxonomy": settings.taxonomy,
    }
    facts["alpha"] = settings.alpha
    facts["calibrations"] = list(features)
    facts["methods"] = {"scores": list(SCORES), "taxonomies": list(TAXONOMIES)}
    facts["splits"] |= {split: n for split, n in pictures.sizes().items() if n}


def calibrate(settings: Settings) -> Path:
    """Calibrate a bundle again, on the calibration split of a folder, into a new bundle.

    Raises:
        SuresetError: the bundle or the pictures do not allow it.
    """
    watch = Stopwatch()
    old = find_bundle(settings.models_dir, settings.model)
    facts = open_bundle(old)
    settings = as_asked(settings, facts)
    name = settings.save_as or name_of_next(facts)
    check_name(settings.models_dir, name)
    heads = load_heads(old, facts)
    check_space(heads.classes, settings)
    with watch("features"):
        found = find_for_bundle(settings, old, facts, "calib", "test")
        check_choosable(found, settings)
        # Validation pictures may well have trained the heads: they calibrate and test nothing.
        splits = ("valid", "calib", "test") if is_asked_for(settings) else ("calib", "test")
        first, *others = (
            cache_for_bundle(settings, facts, runtime)
            for runtime in _runtimes(settings, old, facts)
        )
        pictures, features = extract(found, splits, first)
        check_held_out(pictures, settings.alpha)
    with watch("calibrate"):
        settings = choose_method(facts, settings, heads, pictures, features)
    # Those that chose a method shall not measure it either.
    chose = pictures.digests[pictures.rows("valid")]
    fitted = np.unique(np.concatenate([np.load(old / FITTED), chose]), axis=0)
    rows = pictures.rows("calib", "test")
    held_out = pictures.take(rows)
    with watch("features"):
        by_kind = {first.kind: features[rows]}
        by_kind |= {cache.kind: extract_again(held_out, cache) for cache in others}
    reference = Outliers.load(outliers_file(old, facts["calibrations"][0])).reference

    facts |= {"name": name, "calibrated_from": facts["name"]}
    facts.pop("calibrated_on", None)
    with new_bundle(settings.models_dir, name, facts) as folder:
        with watch("export"):
            np.save(folder / FITTED, fitted)
            copy_network(old, folder)
        with watch("calibrate"):
            calibrate_into(folder, facts, settings, heads, reference, held_out, by_kind)
        results = evaluate_into(folder, facts, settings, heads, held_out, by_kind, watch)
    print_table(results, settings.alpha)
    say(f"bundle {settings.models_dir / name}: {old.name} calibrated again")
    return settings.models_dir / name


def copy_network(old: Path, folder: Path) -> None:
    """Copy what of a bundle calibration does not change: the network and the heads."""
    for file in ("heads.safetensors", *NETWORK_FILES):
        if (old / file).is_file():
            shutil.copy(old / file, folder)


def _runtimes(settings: Settings, bundle: Path, facts: Facts) -> list[SharedRuntime]:
    """What is calibrated for: what is asked for, and all the bundle was calibrated for before.

    Where this machine can run none of that, it is what it can run.

    Raises:
        SuresetError: it cannot run what is asked for.
    """
    asked = []
    if {settings.given("runtime"), settings.given("precision")} - {None, "auto"}:
        asked = kinds_asked_for(settings)
    runtimes = []
    for kind in dict.fromkeys([*asked, *facts["calibrations"]]):
        try:
            runtimes.append(bundled_runtime(kind, bundle, facts))
        except CannotRun as error:
            if kind in asked:
                raise SuresetError(
                    f"{bundle.name} cannot run as {kind}, which --runtime and --precision ask for "
                    f"({error}): leave both out for what it was calibrated for."
                ) from error
    here = kinds_for("openvino", "auto")
    return runtimes or [bundled_runtime(kind, bundle, facts) for kind in here]
