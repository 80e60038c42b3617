"""The network of a run: which one, in which forms, and run by what."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.data.pictures import PictureError, read_rgb, read_unchanged
from app.errors import SuresetError
from app.pipeline.pictures import Pictures
from app.progress import say
from app.rowstore import scalars
from app.settings import Settings
from app.vision.backbones import EMBEDDED, Backbone, as_backbone, find_weights
from app.vision.features import FeatureCache
from app.vision.runtimes import network_of, open_runtime


def choose_backbone(settings: Settings) -> Backbone:
    """The backbone asked for, or the embedded one where its weights are not here.

    Raises:
        SuresetError: a backbone was asked for by name and its weights are not here, or the
            catalogue of weights is at fault, or the weights are damaged.
    """
    if settings.weights is not None:
        return as_backbone(settings.backbone, settings.weights)
    weights = find_weights(settings.backbone, settings.cache_dir, settings.static_dir)
    if weights is not None:
        return as_backbone(settings.backbone, weights)
    if settings.given("backbone"):
        raise SuresetError(
            f"the weights of {settings.backbone} are not in {settings.cache_dir}: "
            f"fetch them with `python -m app prefetch --backbone {settings.backbone}`."
        )
    say(f"{settings.backbone}'s weights are not here: using the embedded {EMBEDDED}")
    embedded = find_weights(EMBEDDED, settings.cache_dir, settings.static_dir)
    assert embedded is not None, "the embedded backbone needs no cache"
    return as_backbone(EMBEDDED, embedded)


@dataclass(frozen=True)
class Exported:
    """A backbone as the graphs that runtimes run.

    Attributes:
        recipe: which features are taken from it.
        folders: where each of its forms lies in the cache, by ``network_of`` a kind of runtime.
    """

    backbone: Backbone
    recipe: str
    folders: dict[str, Path]

    def cache_of(self, kind: str, cache_dir: Path) -> FeatureCache:
        """Its features in a kind of runtime.

        Raises:
            CannotRun: this machine cannot run it.
        """
        from app.vision.encoder import Encoder

        folder = self.folders[network_of(kind)]
        runtime = open_runtime(kind, folder, lambda: Encoder(self.backbone, self.recipe))
        return FeatureCache(cache_dir, folder.name, runtime, self.backbone.preprocess)


def export_network(
    backbone: Backbone, kinds: Sequence[str], pictures: Pictures, settings: Settings
) -> Exported:
    """The backbone in all forms that these kinds of runtimes run.

    Args:
        pictures: those the run is on, of which some of the training split's tell how to quantise.

    Raises:
        SuresetError: its weights are of another architecture, or the cache cannot be written, or
            none of the pictures that tell how to quantise can be read.
    """
    from app.vision.exporting import QUANTISING_PICTURES, exported, quantised

    folders = {"full": exported(backbone, settings.recipe, settings.cache_dir)}
    if "int8" in map(network_of, kinds):
        training = pictures.take(pictures.rows("train"))
        # By content, so that it does not matter in which order they lie.
        some = training.take(np.argsort(scalars(training.digests))[:QUANTISING_PICTURES])
        digests = [digest.tobytes() for digest in some.digests]
        folders["int8"] = quantised(folders["full"], digests, lambda: _decoded(some, backbone))
    return Exported(backbone, settings.recipe, folders)


def _decoded(pictures: Pictures, backbone: Backbone) -> NDArray[np.uint8]:
    decoded = []
    for i in range(len(pictures.manifest)):
        # One that breaks off when decoded is skipped with the others when features are computed.
        with suppress(PictureError):
            data = read_unchanged(pictures.manifest.path(i), pictures.digests[i].tobytes())
            decoded.append(read_rgb(data, backbone.preprocess))
    if not decoded:
        raise SuresetError(
            f"none of {len(pictures.manifest)} training pictures of {pictures.manifest.root} can "
            "be read to its end, and int8 is made from these: mend or remove what is damaged."
        )
    say(f"quantising {backbone.name} to 8 bits on {len(decoded)} training pictures")
    return np.stack(decoded)
