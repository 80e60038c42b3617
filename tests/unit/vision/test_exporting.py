"""The quantised network: another network than the full one, but nearly the same features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from app.data.pictures import read_rgb
from app.data.sample import write_sample
from app.errors import SuresetError
from app.vision import exporting
from app.vision.backbones import EMBEDDED, as_backbone, find_weights
from app.vision.exporting import exported, quantised
from app.vision.runtimes import CannotRun, OpenVINORuntime, best_float, kinds_for, network_of


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("exporting")
    weights = find_weights(EMBEDDED, folder, folder)
    assert weights is not None
    backbone = as_backbone(EMBEDDED, weights)
    write_sample(folder / "sample", 24)
    paths = sorted((folder / "sample" / "images").iterdir())
    pictures = np.stack([read_rgb(path, backbone.preprocess) for path in paths])
    return exported(backbone, "stages", folder), pictures


def test_a_quantised_network_is_made_once_and_close(
    case, capfd: pytest.CaptureFixture[str]
) -> None:
    encoder, pictures = case
    asked: list[int] = []

    def some() -> np.ndarray:
        asked.append(1)
        return pictures[:8]

    digests = [bytes([i]) * 16 for i in range(8)]
    folder = quantised(encoder, digests, some)
    assert quantised(encoder, digests, some) == folder and len(asked) == 1
    assert capfd.readouterr() == ("", "")
    assert quantised(encoder, digests[1:], lambda: pictures[1:8]) != folder
    # A quarter of the size, but for the graph's own text.
    assert (folder / "encoder-int8.bin").stat().st_size < 0.4 * (
        encoder / "encoder.bin"
    ).stat().st_size

    def features(where: Path, precision: str) -> np.ndarray:
        runtime = OpenVINORuntime(where, precision)
        return np.concatenate(list(runtime.encode(pictures[i : i + 4] for i in range(8, 24, 4))))

    for where, precision in ((encoder, "f32"), (folder, "int8-f32")):
        found, maps = OpenVINORuntime(where, precision).run(pictures[:4])
        assert maps is not None and maps.shape == (4, 1280, 7, 7)
        off = maps.mean((2, 3), dtype=np.float32) - found[:, -1280:]
        assert np.linalg.norm(off) < 0.02 * np.linalg.norm(found[:, -1280:])
    full, rounded = features(encoder, "f32"), features(folder, "int8-f32")
    spread = np.linalg.norm(full - full.mean(axis=0))
    assert 0 < np.linalg.norm(rounded - full) / spread < 0.5


def test_what_decides_a_graph_is_in_its_name(tmp_path: Path) -> None:
    """Also how pictures are resized: a quantised network takes its ranges from such pictures."""
    weights = find_weights(EMBEDDED, tmp_path, tmp_path)
    assert weights is not None
    backbone = as_backbone(EMBEDDED, weights)
    coarser = replace(backbone.preprocess, interpolation="nearest")
    others = [backbone, replace(backbone, preprocess=coarser), replace(backbone, mean=(0, 0, 0))]
    folders = [exported(other, "thesis", tmp_path) for other in others]
    assert len(set(folders)) == len(others)


def test_a_cache_that_is_not_ours_to_touch_is_a_sentence(
    case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr("os.utime", refuse)
    with pytest.raises(SuresetError, match="--cache"):
        quantised(case[0], [bytes(16)], lambda: case[1][:1])


def test_the_kinds_of_a_machine_without_a_gpu() -> None:
    best = best_float()
    assert kinds_for("auto", "auto") == [f"openvino-{best}"]
    assert kinds_for("openvino", "f32") == ["openvino-f32"]
    assert kinds_for("auto", "int8") == [f"openvino-int8-{best}", f"openvino-{best}"]
    assert kinds_for("torch", "auto") == ["torch-cpu-f32", f"openvino-{best}"]
    assert [network_of(kind) for kind in kinds_for("auto", "int8")] == ["int8", "full"]
    with pytest.raises(CannotRun, match="OpenVINO's alone"):
        kinds_for("torch", "int8")


def test_with_a_gpu_both_the_gpu_and_the_cpu_are_calibrated_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert kinds_for("auto", "auto") == ["torch-cuda-bf16", f"openvino-{best_float()}"]
    assert kinds_for("openvino", "auto") == [f"openvino-{best_float()}"]


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_network_that_is_exported_wrongly_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    """Its features, or its map alone."""
    weights = find_weights(EMBEDDED, tmp_path, tmp_path)
    assert weights is not None
    right = exporting.Encoder.with_map

    def with_map(self: exporting.Encoder, pictures: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = list(right(self, pictures))
        # Other numbers in each call, as of an operation that tracing makes a constant of.
        outputs[wrong] = outputs[wrong] + 10 * torch.rand(1)
        return tuple(outputs)

    monkeypatch.setattr(exporting.Encoder, "with_map", with_map)
    with pytest.raises(SuresetError, match="computes other features than in torch"):
        exported(as_backbone(EMBEDDED, weights), "stages", tmp_path)
    assert not list((tmp_path / "graphs").glob("tf*[!k]"))


def test_a_transformers_graph_knows_its_width(tmp_path: Path) -> None:
    """Its maps are folded from tokens."""
    torch.manual_seed(0)
    drawn = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    save_file(drawn.state_dict(), tmp_path / "drawn.safetensors")
    backbone = as_backbone("timm/vit_tiny_patch16_224", tmp_path / "drawn.safetensors")
    runtime = OpenVINORuntime(exported(backbone, "stages", tmp_path), "f32")
    assert runtime.dimensions == 5 * 4 * 192 + 192
    # Nor is what its classifier is given the mean of a map.
    assert not runtime.has_map
    assert runtime.run(np.zeros((1, 224, 224, 3), np.uint8))[1] is None


def test_what_cannot_be_exported_is_one_sentence(tmp_path: Path) -> None:
    torch.manual_seed(0)
    drawn = torchvision.models.get_model("vit_b_16", weights=None)
    save_file(drawn.state_dict(), tmp_path / "drawn.safetensors")
    backbone = as_backbone("vit_b_16", tmp_path / "drawn.safetensors")
    with pytest.raises(SuresetError, match=r"cannot be exported .*choose another --backbone"):
        exported(backbone, "stages", tmp_path)
