"""Networks of torchvision and timm, seen alike: their stages' maps, and the last layer."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from timm.models import load_state_dict
from torch import Tensor, nn
from torchvision import models

from app.errors import SuresetError
from app.vision.backbones import EMBEDDED, Backbone

#: Of networks with many blocks of one resolution, as transformers have, so many are taken for
#: stages.
_MOST_STAGES = 6

#: What torchvision sets where it loads its own weights of these, which were trained elsewhere.
_PORTED = {
    "googlenet": {"aux_logits": False, "init_weights": False, "transform_input": True},
    "inception_v3": {"init_weights": False, "transform_input": True},
}

Maps = list[Tensor]


class Network(nn.Module):
    """Normalised pictures, float (n, 3, h, w), to the stages' maps and the last layer.

    The maps are (n, c, h', w'), one a stage, in their order. The last layer comes as it is before
    it is pooled, of whatever shape, and as the classifier is given it, (n, d).
    """

    net: Any

    def forward(self, pictures: Tensor) -> tuple[Maps, Tensor, Tensor]:
        raise NotImplementedError


class Normalise(nn.Module):
    """Pictures, uint8 (n, h, w, 3), RGB, to what the network was trained on, (n, 3, h, w)."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(backbone.std).reshape(1, 3, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        return (pictures.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std


class TimmNetwork(Network):
    """An architecture of timm's, which knows its own stages."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.net = timm.create_model(model, pretrained=False, num_classes=0)
        blocks = len(self.net.feature_info)
        stages = min(blocks, _MOST_STAGES)
        self._stages = [round((i + 1) * blocks / stages) - 1 for i in range(stages)]

    def forward(self, pictures: Tensor) -> tuple[Maps, Tensor, Tensor]:
        last, maps = self.net.forward_intermediates(pictures, indices=self._stages)
        return maps, last, self.net.forward_head(last, pre_logits=True)


class TorchvisionNetwork(Network):
    """An architecture of torchvision's.

    A stage ends where the resolution falls: of the modules on the two outer levels that put out a
    map of one resolution, the outermost are looked at, and the last of them is the stage's.
    """

    def __init__(self, model: str, size: int) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of weights that are drawn, and replaced anyway.
            self.net = models.get_model(model, weights=None, **_PORTED.get(model, {}))
        linear = [name for name, m in self.net.named_modules() if isinstance(m, nn.Linear)]
        if linear:
            parent, _, name = linear[-1].rpartition(".")
            setattr(self.net.get_submodule(parent), name, nn.Identity())
        self._maps: Maps = []
        for name in self._ends_of_stages(size):
            self.net.get_submodule(name).register_forward_hook(self._keep)

    def forward(self, pictures: Tensor) -> tuple[Maps, Tensor, Tensor]:
        self._maps = []
        pooled = self.net(pictures)
        maps, self._maps = self._maps, []
        return maps, maps[-1] if maps else pooled, pooled

    def _keep(self, _: nn.Module, __: Any, output: Tensor) -> None:
        self._maps.append(_channels_first(output))

    def _ends_of_stages(self, size: int) -> list[str]:
        """The modules whose outputs are the maps, in their order."""
        outputs: dict[int, tuple[int, str]] = {}  # side of the map: depth and name

        def look(name: str) -> Any:
            def hook(_: nn.Module, __: Any, output: Any) -> None:
                if not isinstance(output, Tensor) or output.ndim != 4:
                    return
                side = _channels_first(output).shape[2]
                depth = name.count(".")
                if side > 1 and depth <= outputs.get(side, (depth, ""))[0]:
                    outputs.pop(side, None)
                    outputs[side] = depth, name

            return hook

        hooks = [
            module.register_forward_hook(look(name))
            for name, module in self.net.named_modules()
            if name and name.count(".") <= 1
        ]
        with torch.inference_mode():
            self.net.eval()(torch.zeros(1, 3, size, size))
        for hook in hooks:
            hook.remove()
        return [name for _, name in outputs.values()]


def _channels_first(output: Tensor) -> Tensor:
    """Maps (n, h, h, c), as some transformers put out, as (n, c, h, h)."""
    n_last = output.shape[1] == output.shape[2] != output.shape[3]
    return output.permute(0, 3, 1, 2) if n_last else output


def load_network(backbone: Backbone) -> Network:
    """The backbone with its weights, without its classifier, in evaluation mode.

    Raises:
        SuresetError: the weights cannot be read, are no numbers, or are of another architecture.
    """
    size = backbone.preprocess.size
    network: Network = (
        TorchvisionNetwork(backbone.model, size)
        if backbone.library == "torchvision"
        else TimmNetwork(backbone.model)
    )
    wanted = _weights(network.net.state_dict())
    stored = _read(backbone)
    if backbone.model == EMBEDDED and not wanted.keys() & stored.keys():
        # Its package spells the same tensors differently, in the same order.
        stored = dict(zip(wanted, stored.values(), strict=False))
    wrong = [
        name
        for name, tensor in wanted.items()
        if name not in stored or stored[name].shape != tensor.shape
    ]
    if wrong:
        raise SuresetError(
            f"the weights {backbone.weights} are not {backbone.name}'s: {len(wrong)} of its "
            f"{len(wanted)} tensors are missing or of another shape, {wrong[0]} for one; name the "
            "architecture they are of with --backbone."
        )
    network.net.load_state_dict({name: stored[name] for name in wanted}, strict=False)
    for name, parameter in network.net.named_parameters():
        if not parameter.isfinite().all():  # A ReLU may hide it: of NaN it can make zero.
            raise SuresetError(
                f"the weights {backbone.weights} are damaged, {name} holds what is no finite "
                "number: give others with --weights."
            )
    return network.eval()


def save_network(network: Network, path: Path, facts: str = "") -> None:
    """Write the weights for ``load_network``, and some facts of them, as safetensors."""
    weights = {name: t.contiguous() for name, t in _weights(network.net.state_dict()).items()}
    save_file(weights, path, {"facts": facts})


def _read(backbone: Backbone) -> dict[str, Tensor]:
    try:
        # Also knows files in which a training wrapped them.
        return _weights(load_state_dict(str(backbone.weights)))
    except Exception as error:  # Readers meet wrong files with whatever their bytes lead to.
        raise SuresetError(
            f"{backbone.weights} cannot be read as weights ({type(error).__name__}): give a file "
            "of safetensors, or a state dict that torch.save wrote."
        ) from error


def _weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without batch norm's counters: answering needs none, older files lack them.

    Nor does it need what a training put beside the tensors, such as the number of an epoch.
    """
    return {
        name: t
        for name, t in state.items()
        if isinstance(t, Tensor) and not name.endswith("num_batches_tracked")
    }
