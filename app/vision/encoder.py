"""The frozen network as one graph: from RGB bytes to a feature vector.

Colour and texture live in early stages, shape in late ones. So the vector holds what each stage but
the last came to (mean, deviation and maximum over the picture, and the mean of its middle, where
the object mostly is), and the network's own pooled last layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from app.vision.backbones import Backbone
from app.vision.networks import Normalise, load_network

#: Which features a picture has, by recipe. The texts are part of the cache's key: say something
#: else here when ``Encoder.forward`` computes something else.
RECIPES = {
    "stages": "mean, deviation, maximum and middle of every stage but the last, pooled last layer",
    "thesis": "pooled last layer",
}


class Encoder(nn.Module):
    """uint8 (n, size, size, 3), RGB -> float32 (n, d)."""

    def __init__(self, backbone: Backbone, recipe: str = "stages") -> None:
        """Load the network; ``recipe`` is one of ``RECIPES``.

        Raises:
            SuresetError: its weights cannot be read, or are of another architecture.
        """
        super().__init__()
        self._recipe = recipe
        self.normalise = Normalise(backbone)
        self.network = load_network(backbone)
        self.eval().requires_grad_(False)
        size = backbone.preprocess.size
        self.dimensions = -1  # Not known before the network has answered once.
        self.dimensions = self(torch.zeros(1, size, size, 3, dtype=torch.uint8)).shape[1]

    def forward(self, pictures: Tensor) -> Tensor:
        stages, pooled = self.network(self.normalise(pictures))
        if self._recipe == "thesis":
            return pooled.float()
        early = [statistic for stage in stages[:-1] for statistic in _statistics(stage)]
        # Maps folded from tokens, as a transformer's, would leave the graph without its width.
        return torch.cat([*early, pooled], dim=1).float().reshape(pooled.shape[0], self.dimensions)


def _statistics(stage: Tensor) -> tuple[Tensor, ...]:
    """Of a map (n, c, h, w): mean, deviation, maximum, and mean of the middle half, each (n, c)."""
    h, w = stage.shape[2] // 4, stage.shape[3] // 4
    middle = stage[:, :, h : stage.shape[2] - h, w : stage.shape[3] - w]
    return (
        stage.mean((2, 3)),
        stage.std((2, 3), correction=0),
        stage.amax((2, 3)),
        middle.mean((2, 3)),
    )
