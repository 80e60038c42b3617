"""The frozen network as one graph: from RGB bytes to a feature vector.

Colour and texture live in early stages, shape in late ones, so the vector holds the mean of every
stage's feature map, the deviation of the early ones, and the network's own pooled last layer.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import openvino as ov
import timm
import torch
from filelock import FileLock
from torch import Tensor, nn

from app.disk import writing
from app.vision.backbones import Backbone

_DEVIATING_STAGES = 4
#: Part of the cache's key: say something else here when ``forward`` computes something else.
_RECIPE = "mean of every stage, deviation of the first 4, pooled last layer"


class Encoder(nn.Module):
    """uint8 (n, size, size, 3), RGB -> float32 (n, d)."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.network: Any = timm.create_model(backbone.name, pretrained=False)
        stored = torch.load(backbone.weights, map_location="cpu", weights_only=True)
        # The embedded weights spell the same tensors differently, in the same order.
        names, tensors = _weights(self.network.state_dict()), _weights(stored)
        renamed = dict(zip(names, tensors.values(), strict=True))
        self.network.load_state_dict({**self.network.state_dict(), **renamed})
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(backbone.std).reshape(1, 3, 1, 1))
        self.eval().requires_grad_(False)
        self.dimensions: int = self(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).shape[1]

    def forward(self, pictures: Tensor) -> Tensor:
        x = (pictures.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std
        last, stages = self.network.forward_intermediates(x)
        means = [stage.mean((2, 3)) for stage in stages]
        deviations = [stage.std((2, 3), correction=0) for stage in stages[:_DEVIATING_STAGES]]
        pooled = self.network.forward_head(last, pre_logits=True)
        return torch.cat([*means, *deviations, pooled], dim=1).float()


def _weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without batch norm's counters: answering needs none, older files lack them."""
    return {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}


def exported(backbone: Backbone, cache_dir: Path) -> Path:
    """The folder in the cache with ``encoder.xml``, ``.bin`` and ``.onnx``; made when missing."""
    recipe = {
        "weights": backbone.weights_sha256,
        "recipe": _RECIPE,
        "mean": backbone.mean,
        "std": backbone.std,
        "size": backbone.preprocess.size,
    }
    key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
    folder = cache_dir / "encoders" / f"{backbone.name}-{key}"
    if not folder.is_dir():
        with writing("the exported network", folder.parent, "--cache"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(folder.name + ".lock")):
                if not folder.is_dir():  # Another run may have made it meanwhile.
                    _make(folder, backbone)
    os.utime(folder)  # It is in use.
    return folder


def _make(folder: Path, backbone: Backbone) -> None:
    beside = folder.with_name(f".{folder.name}")
    shutil.rmtree(beside, ignore_errors=True)  # What a killed run left.
    try:
        beside.mkdir()
        _export(Encoder(backbone), backbone.preprocess.size, beside)
        os.rename(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _export(encoder: Encoder, size: int, folder: Path) -> None:
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Tracing warns of shapes that are fixed here on purpose.
        torch.onnx.export(
            encoder,
            (example,),
            str(folder / "encoder.onnx"),
            input_names=["pictures"],
            output_names=["features"],
            dynamic_axes={"pictures": {0: "n"}, "features": {0: "n"}},
            dynamo=False,
        )
    graph = ov.Core().read_model(folder / "encoder.onnx")
    ov.save_model(graph, folder / "encoder.xml", compress_to_fp16=False)
