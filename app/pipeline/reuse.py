"""Labelled pictures as a bundle sees them: its tasks, its splits, its network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.bundle import Facts
from app.data.manifest import Manifest
from app.data.pictures import Preprocess
from app.errors import SuresetError
from app.pipeline.pictures import Pictures, extract, find_pictures
from app.pipeline.predict import FITTED
from app.settings import AUTO, METHOD, Settings
from app.vision.features import FeatureCache
from app.vision.runtimes import Runtime, network_of


def as_trained(settings: Settings, facts: Facts) -> Settings:
    """Settings that were not given are the bundle's own; the seed of its splits always is.

    So is what is given as ``auto``: the bundle's method was chosen, and is not chosen again.
    """
    own = {**facts["method"], "alpha": facts["alpha"]}
    missing = {name: own[name] for name in own if settings.given(name) in (None, AUTO)}
    return settings.model_copy(update={**missing, "seed": facts["seed"]})


def as_asked(settings: Settings, facts: Facts) -> Settings:
    """As ``as_trained``, but what training was left to choose is to be chosen again.

    A choice holds for the pictures it was made on. ``auto`` is left for ``choose_method``, where it
    is given, or training was given it and nothing is given now.
    """
    asked = {**facts["method"], **facts.get("chosen", {}).get("asked", {})}
    chosen = {name: settings.given(name) or asked[name] for name in METHOD}
    return as_trained(settings, facts).model_copy(update=chosen)


def find_for_bundle(settings: Settings, bundle: Path, facts: Facts, *held_out: str) -> Pictures:
    """The pictures of the data folder, labelled as the bundle's tasks, as split in training.

    Raises:
        SuresetError: the folder has other tasks or classes, or pictures in the ``held_out`` splits
            that trained the bundle.
    """
    pictures = find_pictures(settings)  # As split in training: ``as_trained`` set the seed.
    pictures = replace(pictures, manifest=_as_coded(pictures.manifest, facts["tasks"], bundle))
    _refuse_fitted(pictures.take(pictures.rows(*held_out)), bundle)
    return pictures


def cache_for_bundle(settings: Settings, facts: Facts, runtime: Runtime) -> FeatureCache:
    """The features of the bundle's network in a runtime."""
    encoder = facts["encoders"][network_of(runtime.kind)]
    return FeatureCache(settings.cache_dir, encoder, runtime, Preprocess(**facts["preprocess"]))


def encode_for_bundle(
    settings: Settings, bundle: Path, facts: Facts, runtime: Runtime, *splits: str
) -> tuple[Pictures, NDArray[np.float32]]:
    """Held-out splits of ``find_for_bundle``, and their features (n, d) as the bundle's.

    Raises:
        SuresetError: as of ``find_for_bundle``, or a split holds no picture.
    """
    pictures = find_for_bundle(settings, bundle, facts, *splits)
    return extract(pictures, splits, cache_for_bundle(settings, facts, runtime))


def _as_coded(manifest: Manifest, tasks: dict[str, list[str]], bundle: Path) -> Manifest:
    """The manifest with the classes and codes of the bundle; it may lack some of its classes."""
    unknown = [
        f"{task} {name}"
        for task, names in manifest.classes.items()
        for name in names
        if name not in tasks.get(task, [])
    ]
    if unknown or set(manifest.classes) != set(tasks):
        raise SuresetError(
            f"the tasks or classes of {manifest.root} are not those the bundle {bundle.name} was "
            f"trained on{' (' + ', '.join(unknown[:3]) + ')' if unknown else ''}: "
            "give a folder with the same ones by --data."
        )
    labels = {}
    for task, names in tasks.items():
        # The code -1, unknown, picks the last.
        codes = np.array([*map(names.index, manifest.classes[task]), -1])
        labels[task] = codes[manifest.labels[task]]
    return replace(manifest, classes=tasks, labels=labels)


def _refuse_fitted(pictures: Pictures, bundle: Path) -> None:
    """A guarantee from pictures that the heads were fitted on would be none."""
    fitted = set(map(bytes, np.load(bundle / FITTED, allow_pickle=False)))
    again = sum(bytes(digest) in fitted for digest in pictures.digests)
    if again:
        raise SuresetError(
            f"{again} of the {len(pictures.digests)} held-out pictures of {pictures.manifest.root} "
            f"were used to train the bundle {bundle.name}: give it others, or the splits and "
            "groups it was trained with."
        )
