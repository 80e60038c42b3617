"""Networks of torchvision and timm, held against what the libraries themselves compute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import models

from app.data.pictures import Preprocess
from app.errors import SuresetError
from app.vision.backbones import Backbone, as_backbone
from app.vision.networks import TorchvisionNetwork, load_network, save_network

GREY = (0.5, 0.5, 0.5)


def drawn(model: str, folder: Path) -> tuple[Any, Backbone]:
    """A network of torchvision's with drawn weights, and the backbone that reads them."""
    torch.manual_seed(0)
    kwargs = {"init_weights": False, "aux_logits": False} if model == "googlenet" else {}
    theirs = models.get_model(model, weights=None, **kwargs).eval()
    save_file(theirs.state_dict(), folder / "drawn.safetensors")
    return theirs, as_backbone(model, folder / "drawn.safetensors")


@pytest.mark.parametrize(
    ("model", "stages"),
    [
        ("resnet18", [(64, 112), (64, 56), (128, 28), (256, 14), (512, 7)]),
        ("mobilenet_v3_small", [(16, 112), (16, 56), (24, 28), (48, 14), (576, 7)]),
        ("densenet121", [(64, 112), (256, 56), (512, 28), (1024, 14), (1024, 7)]),
        ("swin_t", [(96, 56), (192, 28), (384, 14), (768, 7)]),
        ("squeezenet1_1", [(64, 111), (128, 55), (256, 27), (512, 13)]),
    ],
)
def test_stages_end_where_the_resolution_falls(
    model: str, stages: list[tuple[int, int]], tmp_path: Path
) -> None:
    theirs, backbone = drawn(model, tmp_path)
    network = load_network(backbone).eval()
    pictures = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        maps, _, pooled = network(pictures)
        classified = theirs(pictures)
    assert [(m.shape[1], m.shape[2]) for m in maps] == stages
    linear = [m for m in theirs.modules() if isinstance(m, torch.nn.Linear)]
    if linear:
        torch.testing.assert_close(linear[-1](pooled), classified, rtol=1e-4, atol=1e-4)
    else:  # Its classifier is a convolution, and what comes out of it is the last there is.
        torch.testing.assert_close(pooled, classified)


def test_the_maps_are_the_stages_own(tmp_path: Path) -> None:
    theirs, backbone = drawn("resnet18", tmp_path)
    pictures = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        maps, *_ = load_network(backbone).eval()(pictures)
        x = theirs.relu(theirs.bn1(theirs.conv1(pictures)))
        expected = [x]
        x = theirs.maxpool(x)
        for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            x = layer(x)
            expected.append(x)
    for found, own in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, own)


def test_weights_that_were_ported_see_pictures_as_they_were_trained_to(tmp_path: Path) -> None:
    """Torchvision sets this where it loads its own weights of GoogLeNet."""
    network = TorchvisionNetwork("googlenet", 64)
    assert network.net.transform_input


@pytest.mark.parametrize("model", ["resnet18", "vit_tiny_patch16_224"])
def test_timms_last_layer_is_what_its_classifier_is_given(model: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs: Any = timm.create_model(model, pretrained=False).eval()
    save_file(theirs.state_dict(), tmp_path / "drawn.safetensors")
    network = load_network(as_backbone(f"timm/{model}", tmp_path / "drawn.safetensors")).eval()
    pictures = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        maps, _, pooled = network(pictures)
        classified = theirs.get_classifier()(pooled)
        torch.testing.assert_close(classified, theirs(pictures), rtol=1e-4, atol=1e-4)
    assert 4 <= len(maps) <= 6


def test_written_and_read_it_is_the_same(tmp_path: Path) -> None:
    _, backbone = drawn("resnet18", tmp_path)
    save_network(load_network(backbone), tmp_path / "again.safetensors")
    again = as_backbone("resnet18", tmp_path / "again.safetensors")
    ours, read = load_network(backbone), load_network(again)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, read.state_dict()[name]), name


def test_weights_that_a_training_wrapped_are_found(tmp_path: Path) -> None:
    theirs: Any = models.resnet18(weights=None)
    wrapped = {"state_dict": {f"module.{k}": v for k, v in theirs.state_dict().items()}, "epoch": 3}
    torch.save(wrapped, tmp_path / "wrapped.pth")
    network = load_network(as_backbone("resnet18", tmp_path / "wrapped.pth"))
    assert torch.equal(network.net.conv1.weight, theirs.conv1.weight)


def test_weights_of_another_architecture_are_one_sentence(tmp_path: Path) -> None:
    _, backbone = drawn("resnet18", tmp_path)
    wrong = as_backbone("resnet34", backbone.weights)
    with pytest.raises(SuresetError, match=r"are not resnet34's: \d+ of its \d+ tensors are miss"):
        load_network(wrong)


@pytest.mark.parametrize("rename", ["another's {}", None])
def test_only_names_say_which_tensor_is_which(rename: str | None, tmp_path: Path) -> None:
    """Tensors of the right shapes in the right order are another network's all the same."""
    theirs, backbone = drawn("resnet18", tmp_path)
    state = theirs.state_dict()
    foreign = {rename.format(name): t for name, t in state.items()} if rename else {"epoch": 3}
    torch.save(foreign, tmp_path / "foreign.pth")
    with pytest.raises(SuresetError, match="are not resnet18's: 100 of its 100 tensors"):
        load_network(replace(backbone, weights=tmp_path / "foreign.pth"))
    torch.save({**state, "epoch": 3}, tmp_path / "more.pth")
    load_network(replace(backbone, weights=tmp_path / "more.pth"))


def test_weights_that_are_no_numbers_are_one_sentence(tmp_path: Path) -> None:
    theirs, backbone = drawn("resnet18", tmp_path)
    theirs.bn1.weight.data[3] = torch.nan
    torch.save(theirs.state_dict(), tmp_path / "nan.pth")
    with pytest.raises(SuresetError, match=r"nan\.pth are damaged, bn1\.weight holds"):
        load_network(replace(backbone, weights=tmp_path / "nan.pth"))


class Opened:
    """What runs code when it is read."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("opened",)


@pytest.mark.parametrize("kind", ["text", "pickle"])
def test_what_are_no_weights_is_one_sentence_and_runs_no_code(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.pth"
    if kind == "text":
        file.write_text("hello")
    else:
        torch.save({"x": Opened()}, file)
    backbone = Backbone(
        "resnet18", "torchvision", "resnet18", file, Preprocess(64, 64, "bilinear"), GREY, GREY
    )
    with pytest.raises(SuresetError, match=r"x\.pth cannot be read as weights"):
        load_network(backbone)
    assert "opened" not in capsys.readouterr().out
