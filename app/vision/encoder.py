"""The frozen network as one graph: from RGB bytes to a feature vector.

Colour and texture live in early stages, shape in late ones. So the vector holds what each stage but
the last came to (mean, deviation and maximum over the picture, and the mean of its middle, where
the object mostly is), and the network's own pooled last layer.

Where that layer is pooled by its mean, its map tells which places of the picture it came from.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from app.vision.backbones import Backbone
from app.vision.networks import Maps, Normalise, load_network

#: Which features a picture has, by recipe. The texts are part of the cache's key: say something
#: else here when ``Encoder.forward`` computes something else.
RECIPES = {
    "stages": "mean, deviation, maximum and middle of every stage but the last, pooled last layer",
    "thesis": "pooled last layer",
}


#: How far a pooled layer may be from the mean of its map, which is rounded to half precision.
_LARGEST_ERROR = 1e-3


class Encoder(nn.Module):
    """uint8 (n, size, size, 3), RGB -> float32 (n, d).

    Attributes:
        dimensions: d.
        has_map: whether the last c features are the means of a map of c channels.
    """

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
        # Of one colour, a picture would be pooled alike by a mean and by a maximum.
        drawn = torch.randint(256, (2, size, size, 3), generator=torch.Generator().manual_seed(0))
        stages, last, pooled = self.network(self.normalise(drawn))
        self.has_map = _is_mean_of(last, pooled)
        self.dimensions = -1  # Not known before the network has answered once.
        self.dimensions = self._features(stages, pooled).shape[1]

    def forward(self, pictures: Tensor) -> Tensor:
        return self.with_map(pictures)[0]

    def with_map(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """The features and, where ``has_map``, the map that the last are means of.

        The map (n, c, h, w) is for looking at, so half the precision and the bytes will do.
        """
        stages, last, pooled = self.network(self.normalise(pictures))
        features = self._features(stages, pooled)
        return (features, last.half()) if self.has_map else (features,)

    def _features(self, stages: Maps, pooled: Tensor) -> Tensor:
        if self._recipe == "thesis":
            return pooled.float()
        early = [statistic for stage in stages[:-1] for statistic in _statistics(stage)]
        # Maps folded from tokens, as a transformer's, would leave the graph without its width.
        return torch.cat([*early, pooled], dim=1).float().reshape(pooled.shape[0], self.dimensions)


def _is_mean_of(last: Tensor, pooled: Tensor) -> bool:
    """Whether ``pooled`` is the mean of ``last`` over several places, in half precision too."""
    if last.ndim != 4 or last.shape[1] != pooled.shape[1] or last.shape[2:].numel() == 1:
        return False
    off = (last.half().float().mean((2, 3)) - pooled).norm() / pooled.norm()
    return bool(off < _LARGEST_ERROR)


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
