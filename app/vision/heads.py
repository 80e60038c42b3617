"""From features to probabilities, in NumPy: what serving runs of the trained heads.

Calibration and serving call the same functions, in float64, so a confident network keeps its
ranking and nothing differs between the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count, takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from app.conformal.spaces import JOINT, combinations, marginalise, multiply

Floats = NDArray[np.float64]

#: Beyond this many combinations a joint softmax has too little data for most of them.
MOST_COMBINATIONS = 2000


#: A matrix (inputs, outputs) and what is added, (outputs,), both float32.
Layer = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Heads:
    """Two classifiers on standardised features: each softmax is linear, or has a hidden layer.

    Attributes:
        mean, scale: what standardises a feature, float32 (d,).
        layers: of each head ``taskwise`` and ``joint``, of each of its softmaxes (the tasks, or
            JOINT), its layers; between two of them stands a ReLU.
        classes: the number of classes of each task.
        temperatures: what divides the logits of each head's softmaxes, by softmax.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    layers: dict[str, dict[str, list[Layer]]]
    classes: dict[str, int]
    temperatures: dict[str, dict[str, float]]

    def standardise(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (n, d) on one scale."""
        return (features - self.mean) / self.scale

    def logits(self, features: NDArray[np.float32], head: str) -> dict[str, Floats]:
        """Of each softmax of a head, its logits (n, outputs): {task: …} or {JOINT: …}."""
        x = self.standardise(features).astype(np.float64)
        return {name: _through(layers, x) for name, layers in self._in_float64[head].items()}

    @cached_property
    def _in_float64(self) -> dict[str, dict[str, list[tuple[Floats, Floats]]]]:
        """The layers as they are computed: for one picture, to convert them takes the longest."""
        return {
            head: {
                name: [(weight.astype(np.float64), bias.astype(np.float64)) for weight, bias in own]
                for name, own in softmaxes.items()
            }
            for head, softmaxes in self.layers.items()
        }

    def probabilities(
        self, features: NDArray[np.float32], head: str, space: str
    ) -> dict[str, Floats]:
        """Probabilities of ``head`` in the label space ``space``.

        Returns:
            {task: (n, C_task)} in the taskwise space, {JOINT: (n, product of C)} in the joint.
        """
        temperatures = self.temperatures[head]
        own = {
            name: softmax(z / temperatures[name]) for name, z in self.logits(features, head).items()
        }
        return in_space(own, self.classes, head, space)

    def save(self, path: Path) -> None:
        """Write the arrays as safetensors; classes and temperatures belong to bundle.json."""
        arrays = {"mean": self.mean, "scale": self.scale}
        for head, softmaxes in self.layers.items():
            for name, layers in softmaxes.items():
                for i, (weight, bias) in enumerate(layers):
                    arrays[f"{head}.{name}.{i}.weight"] = weight
                    arrays[f"{head}.{name}.{i}.bias"] = bias
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)

    @classmethod
    def load(
        cls, path: Path, classes: dict[str, int], temperatures: dict[str, dict[str, float]]
    ) -> Heads:
        """Read what ``save`` wrote."""
        arrays = load_file(path)

        def layers(softmax: str) -> list[Layer]:
            parts = (f"{softmax}.{i}" for i in count())
            present = takewhile(lambda part: f"{part}.weight" in arrays, parts)
            return [(arrays[f"{part}.weight"], arrays[f"{part}.bias"]) for part in present]

        heads = {
            head: {name: layers(f"{head}.{name}") for name in softmaxes}
            for head, softmaxes in temperatures.items()
        }
        return cls(arrays["mean"], arrays["scale"], heads, classes, temperatures)


def in_space(
    probs: dict[str, Floats], classes: Mapping[str, int], head: str, space: str
) -> dict[str, Floats]:
    """Connect a head's probabilities to a label space: as they are, marginalised, or multiplied."""
    if head == space:
        return probs
    if space == JOINT:
        return {JOINT: multiply(probs)}
    return marginalise(probs[JOINT], classes)


def joint_is_feasible(classes: Mapping[str, int]) -> bool:
    """Whether a softmax over all combinations is worth having."""
    return combinations(classes) <= MOST_COMBINATIONS


def _through(layers: list[tuple[Floats, Floats]], x: Floats) -> Floats:
    for i, (weight, bias) in enumerate(layers):
        inputs: Floats = np.maximum(x, 0) if i else x
        x = inputs @ weight + bias
    return x


def softmax(logits: Floats) -> Floats:
    """Over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
