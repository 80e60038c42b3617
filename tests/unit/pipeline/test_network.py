"""Networks and pictures that no bundle can be made of are a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.data.manifest import Manifest
from app.data.pictures import Preprocess
from app.errors import SuresetError
from app.pipeline.network import _decoded
from app.pipeline.pictures import Pictures, extract
from app.vision.backbones import Backbone
from app.vision.features import FeatureCache
from tests.unit.vision.test_features import GEOMETRY, Means
from tests.unit.vision.test_features import pictures as drawn

GREY = (0.5, 0.5, 0.5)


def written(folder: Path) -> Pictures:
    paths, digests = drawn(folder, 4)
    manifest = Manifest(folder, "csv", [path.name for path in paths], {}, {})
    return Pictures(manifest, digests, np.full(4, "train"), {})


def test_a_network_is_quantised_on_those_that_can_be_read(tmp_path: Path) -> None:
    pictures = written(tmp_path)
    network = Backbone("x", "timm", "x", tmp_path, Preprocess(32, 32, "bilinear"), GREY, GREY)
    files = [tmp_path / image for image in pictures.manifest.images]
    files[1].write_bytes(files[1].read_bytes()[:200])
    assert _decoded(pictures, network).shape == (3, 32, 32, 3)
    for file in files:
        file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(SuresetError, match=r"none of 4 training pictures.*: mend or remove"):
        _decoded(pictures, network)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_network_that_computes_no_numbers_is_refused(tmp_path: Path, wrong: float) -> None:
    class Broken(Means):
        def encode(self, batches):
            for features in super().encode(batches):
                features[-1, 1] = wrong
                yield features

    cache = FeatureCache(tmp_path / "cache", "e", Broken(), GEOMETRY)
    with pytest.raises(SuresetError, match=r"not all finite numbers.*--weights or --backbone"):
        extract(written(tmp_path), ["train"], cache)
