"""Work with what a bundle already holds: its network on labelled pictures, and its heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.bundle import Facts
from app.data.pictures import Preprocess
from app.errors import SuresetError
from app.pipeline.pictures import Pictures, extract, find_pictures
from app.settings import Settings
from app.vision.features import FeatureCache
from app.vision.heads import Heads
from app.vision.runtimes import OpenVINORuntime


def as_trained(settings: Settings, facts: Facts) -> Settings:
    """Settings that were not given are the bundle's own; the seed of its splits always is."""
    own = {**facts["method"], "alpha": facts["alpha"]}
    missing = {name: own[name] for name in own if settings.given(name) is None}
    return settings.model_copy(update={**missing, "seed": facts["seed"]})


def encode_for_bundle(
    settings: Settings, bundle: Path, facts: Facts, *splits: str
) -> tuple[Pictures, NDArray[np.float32]]:
    """Some splits of the data folder, labelled as the bundle's tasks, with the bundle's features.

    Raises:
        SuresetError: the folder has other tasks or classes, or a split is empty.
    """
    pictures = find_pictures(settings)  # As split in training: ``as_trained`` set the seed.
    if pictures.manifest.classes != facts["tasks"]:
        raise SuresetError(
            f"the tasks or classes of {settings.data_dir} are not those the bundle {bundle.name} "
            "was trained on: give the folder with the same ones by --data."
        )
    for split in splits:
        if len(pictures.rows(split)) == 0:
            raise SuresetError(f"the {split} split of {settings.data_dir} is empty: add pictures.")
    runtime = OpenVINORuntime(bundle, facts["runtime"]["precision"])
    preprocess = Preprocess(**facts["preprocess"])
    encoder = facts["backbone"]["encoder"]
    cache = FeatureCache(settings.cache_dir, encoder, runtime, preprocess)
    return extract(pictures, dict.fromkeys(splits, cache))


def load_heads(bundle: Path, facts: Facts) -> Heads:
    """The bundle's trained heads."""
    classes = {task: len(names) for task, names in facts["tasks"].items()}
    return Heads.load(bundle / "heads.safetensors", classes, facts["temperatures"])
