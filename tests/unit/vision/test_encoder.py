"""The exported network is the network: OpenVINO and ONNX against torch, on real pictures."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from torchvision import transforms
from torchvision.models import resnet50
from torchvision.models.feature_extraction import create_feature_extractor

from app.data.pictures import read_rgb
from app.data.sample import write_sample
from app.vision.backbones import EMBEDDED, Backbone, as_backbone, find_weights
from app.vision.encoder import Encoder
from app.vision.exporting import exported
from app.vision.runtimes import CannotRun, OpenVINORuntime, TorchRuntime


def embedded() -> Backbone:
    weights = find_weights(EMBEDDED, Path(), Path())
    assert weights is not None
    return as_backbone(EMBEDDED, weights)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("encoder")
    backbone = embedded()
    write_sample(folder / "sample", 9)
    paths = sorted((folder / "sample" / "images").iterdir())
    pictures = np.stack([read_rgb(path, backbone.preprocess) for path in paths])
    encoder = Encoder(backbone)
    with torch.inference_mode():
        features = encoder(torch.from_numpy(pictures)).numpy()
    return encoder, exported(backbone, "stages", folder), pictures, features, backbone, folder


def in_batches(pictures: np.ndarray, size: int) -> list[np.ndarray]:
    return [pictures[i : i + size] for i in range(0, len(pictures), size)]


@pytest.mark.parametrize("size", [1, 4, 9])
def test_openvino_is_torch_at_every_batch_size(case, size: int) -> None:
    _, folder, pictures, features, *_ = case
    runtime = OpenVINORuntime(folder, "f32")
    found = np.concatenate(list(runtime.encode(in_batches(pictures, size))))
    np.testing.assert_allclose(found, features, rtol=1e-3, atol=1e-3)


def test_onnx_is_torch(case) -> None:
    _, folder, pictures, features, *_ = case
    network = ov.Core().compile_model(
        folder / "encoder.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    np.testing.assert_allclose(network({0: pictures})[0], features, rtol=1e-3, atol=1e-3)


def test_the_torch_runtime_gives_the_same(case) -> None:
    encoder, _, pictures, features, *_ = case
    found = np.concatenate(
        list(TorchRuntime(encoder, "cpu", "f32").encode(in_batches(pictures, 4)))
    )
    np.testing.assert_allclose(found, features, rtol=1e-3, atol=1e-3)


def test_every_runtime_puts_out_the_map(case, tmp_path: Path) -> None:
    encoder, folder, pictures, features, *_ = case
    with torch.inference_mode():
        _, expected = encoder.with_map(torch.from_numpy(pictures[:3]))
    np.testing.assert_allclose(expected.float().mean((2, 3)), features[:3, -1280:], atol=1e-3)
    for runtime in (OpenVINORuntime(folder, "f32"), TorchRuntime(encoder, "cpu", "f32")):
        assert runtime.has_map
        found, maps = runtime.run(pictures[:3])
        np.testing.assert_allclose(found, features[:3], rtol=1e-3, atol=1e-3)
        assert maps is not None
        np.testing.assert_allclose(maps, expected.numpy(), rtol=1e-3, atol=1e-3)


def test_a_graph_that_was_exported_without_a_map_still_runs(case, tmp_path: Path) -> None:
    _, folder, pictures, *_ = case
    graph = ov.Core().read_model(folder / "encoder.xml")
    graph.remove_result(graph.get_results()[1])
    ov.save_model(graph, tmp_path / "encoder.xml", compress_to_fp16=False)
    old, new = (OpenVINORuntime(where) for where in (tmp_path, folder))
    assert not old.has_map and new.has_map
    found, nothing = old.run(pictures[:4])
    assert nothing is None
    # It is looked at where it comes by: the features that were calibrated stay the same.
    np.testing.assert_array_equal(found, new.run(pictures[:4])[0])
    np.testing.assert_array_equal(found, next(new.encode([pictures[:4]])))


def test_results_come_in_order(case) -> None:
    _, folder, pictures, *_ = case
    runtime = OpenVINORuntime(folder, "f32")
    once = np.concatenate(list(runtime.encode(in_batches(pictures, 1))))
    many = np.concatenate(list(runtime.encode(in_batches(np.concatenate([pictures] * 4), 1))))
    for turn in range(4):
        np.testing.assert_array_equal(many[turn * 9 : turn * 9 + 9], once)


def test_an_export_is_made_once(case) -> None:
    _, folder, _, _, backbone, cache = case
    before = (folder / "encoder.bin").stat().st_mtime_ns
    assert exported(backbone, "stages", cache) == folder
    assert (folder / "encoder.bin").stat().st_mtime_ns == before


#: A process that is killed while it exports, in a cache that is named.
KILLED = """
import os, signal, sys
from pathlib import Path
from app.vision import exporting
from app.vision.backbones import EMBEDDED, as_backbone, find_weights

def export(network, size, folder):
    (folder / "encoder.onnx").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

exporting._export = export
weights = find_weights(EMBEDDED, Path(), Path())
exporting.exported(as_backbone(EMBEDDED, weights), "stages", Path(sys.argv[1]))
"""


def test_after_a_kill_it_is_made_anew_and_nothing_is_left(
    case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)])
    assert killed.returncode == -signal.SIGKILL
    assert list(tmp_path.glob("graphs/.*/encoder.onnx"))
    monkeypatch.setattr("app.vision.exporting._export", lambda *_: None)
    folder = exported(case[4], "stages", tmp_path)
    assert list(folder.iterdir()) == []
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, f"{folder.name}.lock"}


def test_of_two_at_once_one_exports(case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports: list[Path] = []

    def export(network: Encoder, size: int, folder: Path) -> None:
        exports.append(folder)
        time.sleep(0.3)
        (folder / "encoder.xml").touch()

    monkeypatch.setattr("app.vision.exporting._export", export)
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda _: exported(case[4], "stages", tmp_path), range(2))
    assert first == second and (first / "encoder.xml").exists()
    assert len(exports) == 1


def test_the_weights_are_the_published_ones(case) -> None:
    """The embedded weights are those whose sha256 begins as their file's name says."""
    backbone = case[4]
    assert backbone.weights_sha256.startswith(backbone.weights.stem.rsplit("-", 1)[1])


@pytest.mark.parametrize("with_counters", [True, False])
def test_resnet50_is_torchvisions(tmp_path: Path, with_counters: bool) -> None:
    """Its last layer is what torchvision's own tool takes out, and all there is to the thesis's.

    The published weights cannot be had everywhere, so these are drawn: what is tested is the path.
    """
    torch.manual_seed(0)
    theirs = resnet50(weights=None).eval()
    state = theirs.state_dict()
    if not with_counters:
        state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "drawn.pth")
    backbone = as_backbone("resnet50", tmp_path / "drawn.pth")
    picture = torch.randint(0, 256, (1, 224, 224, 3), dtype=torch.uint8)
    normalised = transforms.Normalize(backbone.mean, backbone.std)(
        picture.permute(0, 3, 1, 2).float() / 255
    )
    with torch.inference_mode():
        pooled = create_feature_extractor(theirs, ["flatten"])(normalised)["flatten"]
        features = Encoder(backbone)(picture)
        last = Encoder(backbone, "thesis")(picture)
    torch.testing.assert_close(features[:, -pooled.shape[1] :], pooled, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(last, pooled, rtol=1e-3, atol=1e-4)


def test_a_precision_that_is_not_here_is_refused(case, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder, *_ = case
    monkeypatch.setattr(ov.Core, "get_property", lambda *_: ["FP32"])
    with pytest.raises(CannotRun, match="no bf16"):
        OpenVINORuntime(folder, "bf16")


def test_openvino_calls_nobody() -> None:
    """Its usage reports are not even loaded."""
    code = (
        "import sys, app.vision.runtimes, openvino.tools.ovc as ovc;"
        "assert sys.modules['openvino_telemetry'] is None;"
        "print(type(ovc.telemetry).__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"


def test_answering_needs_no_torch() -> None:
    """The serving path starts in a second because it never loads torch, timm or scikit-learn."""
    code = (
        "import json, sys, app.pipeline.predict, app.vision.runtimes;"
        "print(json.dumps([m for m in ('torch', 'timm', 'sklearn', 'pandas') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert json.loads(done.stdout) == []
