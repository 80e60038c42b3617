"""The frozen network as one graph: from RGB bytes to a feature vector.

Colour and texture live in early stages, shape in late ones, so the vector holds the mean of every
stage's feature map, the deviation of the early ones, and the network's own pooled last layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from app.vision.backbones import Backbone
from app.vision.networks import load_network

_DEVIATING_STAGES = 4

#: Which features a picture has, by recipe. The texts are part of the cache's key: say something
#: else here when ``Encoder.forward`` computes something else.
RECIPES = {
    "stages": "mean of every stage, deviation of the first 4, pooled last layer",
    "thesis": "pooled last layer",
}


class Encoder(nn.Module):
    """uint8 (n, size, size, 3), RGB -> float32 (n, d)."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, recipe: str = "stages") -> None:
        """Load the network; ``recipe`` is one of ``RECIPES``.

        Raises:
            SuresetError: its weights cannot be read, or are of another architecture.
        """
        super().__init__()
        self._recipe = recipe
        self.network = load_network(backbone)
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(backbone.std).reshape(1, 3, 1, 1))
        self.eval().requires_grad_(False)
        size = backbone.preprocess.size
        self.dimensions: int = self(torch.zeros(1, size, size, 3, dtype=torch.uint8)).shape[1]

    def forward(self, pictures: Tensor) -> Tensor:
        x = (pictures.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std
        stages, pooled = self.network(x)
        if self._recipe == "thesis":
            return pooled.float()
        means = [stage.mean((2, 3)) for stage in stages]
        deviations = [stage.std((2, 3), correction=0) for stage in stages[:_DEVIATING_STAGES]]
        return torch.cat([*means, *deviations, pooled], dim=1).float()
