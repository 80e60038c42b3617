"""Networks as graphs on disk: OpenVINO's IR and ONNX, in full precision and quantised.

They stand in the cache, each in a folder named by a hash of all that decides it, and are made once.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor, nn

from app.disk import writing
from app.errors import SuresetError
from app.vision.backbones import Backbone
from app.vision.encoder import RECIPES, Encoder
from app.vision.runtimes import MAP, OpenVINORuntime

#: Pictures that the ranges of a quantised network's activations are taken from; NNCF's own default
#: is 300, which would take longer.
QUANTISING_PICTURES = 100

#: The folder of the cache. It had another name when graphs put out no map: their features are the
#: same, and are kept under the same names.
_GRAPHS = "graphs"

#: How far an exported network's features may be from torch's, which sums in another order.
_LARGEST_ERROR = 1e-3


def exported(backbone: Backbone, recipe: str, cache_dir: Path) -> Path:
    """The folder with ``encoder.xml``, ``.bin`` and ``.onnx`` of an ``Encoder``.

    Raises:
        SuresetError: as of ``Encoder``, or the cache cannot be written.
    """
    facts = {
        "library": backbone.library,
        "model": backbone.model,
        "weights": backbone.weights_sha256,
        "recipe": RECIPES[recipe],
        "mean": backbone.mean,
        "std": backbone.std,
        # The graph follows from the size alone, a quantised one also from how pictures are resized.
        "preprocess": asdict(backbone.preprocess),
        "versions": _versions("openvino", "timm", "torch", "torchvision"),
    }
    size = backbone.preprocess.size
    place = _place(cache_dir, backbone.name.replace("/", "-"), facts)
    return _made_once(place, lambda folder: _export(Encoder(backbone, recipe), size, folder))


def quantised(
    encoder: Path, digests: Sequence[bytes], pictures: Callable[[], NDArray[np.uint8]]
) -> Path:
    """The folder with ``encoder-int8.xml`` and ``.bin``: a network with weights and activations in
    8 bits, by NNCF's post-training quantisation.

    Args:
        encoder: the folder of ``exported``, beside which it is made.
        digests: those of the pictures.
        pictures: gives uint8 (n, size, size, 3), RGB, whose activations tell the ranges. They must
            be no calibration or test pictures, or these would be unlike those to come.

    Raises:
        SuresetError: the cache cannot be written.
    """
    facts = {
        "versions": _versions("nncf", "openvino", "pillow"),
        "pictures": [digest.hex() for digest in digests],
        # What is put out is rounded otherwise than what is not.
        "outputs": ["features", MAP],
    }
    place = _place(encoder.parents[1], f"{encoder.name}-int8", facts)
    return _made_once(place, lambda folder: _quantise(encoder, pictures(), folder))


def _versions(*packages: str) -> dict[str, str]:
    return {package: version(package) for package in packages}


def _place(cache_dir: Path, name: str, facts: object) -> Path:
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    return cache_dir / _GRAPHS / f"{name}-{key}"


def _made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """``folder``, filled by ``make`` unless it is there; whole or absent, whoever else wants it."""
    with writing("the exported network", folder.parent, "--cache"):
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(folder.name + ".lock")):
                if not folder.is_dir():  # Another run may have made it meanwhile.
                    _make(folder, make)
        os.utime(folder)  # It is in use.
    return folder


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    beside = folder.with_name(f".{folder.name}")
    shutil.rmtree(beside, ignore_errors=True)  # What a killed run left.
    try:
        beside.mkdir()
        make(beside)
        os.rename(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _quantise(encoder: Path, pictures: NDArray[np.uint8], folder: Path) -> None:
    # It prints of compilers that it does not need, and its own bars.
    quiet = io.StringIO()
    with warnings.catch_warnings(), redirect_stdout(quiet), redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        import nncf

        logging.getLogger("nncf").setLevel(logging.ERROR)
        graph = nncf.quantize(
            ov.Core().read_model(encoder / "encoder.xml"),
            nncf.Dataset([picture[None] for picture in pictures]),
            # Asymmetric activations, for those that are not cut off at zero.
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(pictures),
        )
    ov.save_model(graph, folder / "encoder-int8.xml", compress_to_fp16=False)


class _Graph(nn.Module):
    """What is exported of an encoder: all it can put out."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        return self.encoder.with_map(pictures)


def _export(encoder: Encoder, size: int, folder: Path) -> None:
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    outputs = ["features", MAP] if encoder.has_map else ["features"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Tracing warns of shapes that are fixed here on purpose.
        try:
            torch.onnx.export(
                _Graph(encoder).eval(),
                (example,),
                str(folder / "encoder.onnx"),
                input_names=["pictures"],
                output_names=outputs,
                dynamic_axes={name: {0: "n"} for name in ("pictures", *outputs)},
                dynamo=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            why = str(error).split("\n", 1)[0]
            raise SuresetError(
                f"the network cannot be exported ({why}): choose another --backbone."
            ) from error
    graph = ov.Core().read_model(folder / "encoder.onnx")
    ov.save_model(graph, folder / "encoder.xml", compress_to_fp16=False)
    _verify(encoder, size, folder)


def _verify(encoder: Encoder, size: int, folder: Path) -> None:
    """See that the graph computes what the network does, whatever architecture that is.

    Raises:
        SuresetError: it does not.
    """
    pictures = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    with torch.inference_mode():
        expected = [output.numpy() for output in encoder.with_map(torch.from_numpy(pictures))]
    outputs = OpenVINORuntime(folder, "f32").run(pictures)
    found = [output for output in outputs if output is not None]
    for ours, theirs in zip(found, expected, strict=True):
        norm = np.linalg.norm(theirs.astype(np.float32))
        error = np.linalg.norm(np.subtract(ours, theirs, dtype=np.float32)) / norm
        if not error < _LARGEST_ERROR:
            raise SuresetError(
                "exported, the network computes other features than in torch (off by "
                f"{error:.1e} of their size): choose another --backbone."
            )
