"""The catalogue of weights, and the ways by which they come into the cache."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision.models import ResNet18_Weights, ResNet50_Weights

from app.data.download import DownloadError
from app.data.pictures import Preprocess
from app.errors import SuresetError
from app.vision import backbones
from app.vision.backbones import (
    EMBEDDED,
    Weights,
    as_backbone,
    fetch_weights,
    find_architecture,
    find_weights,
    published_weights,
)
from tests.unit.data.publisher import CONTENT, SHA256, Publisher, publishing

STATIC = Path(__file__).parents[3] / "static"


@pytest.fixture
def server() -> Iterator[Publisher]:
    with publishing() as server:
        yield server


@pytest.fixture
def static(server: Publisher, tmp_path: Path) -> Path:
    """A folder whose catalogue names the server."""
    return written(tmp_path / "static", server.catalogue)


@pytest.fixture(autouse=True)
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an image would have the weights."""
    monkeypatch.setattr(backbones, "IMAGE_CACHE", tmp_path / "image")
    return tmp_path / "image" / "weights" / f"resnet50-{SHA256[:8]}.pth"


def written(folder: Path, catalogue: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "weights.yaml").write_text(catalogue)
    return folder


def put(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(content)


def test_the_catalogue_names_torchvisions_weights() -> None:
    weights = published_weights("resnet50", STATIC)
    assert weights is not None
    url = ResNet50_Weights.IMAGENET1K_V2.url
    assert weights.url == url
    assert weights.path(Path("cache")) == Path("cache/weights") / url.rsplit("/", 1)[1]


@pytest.mark.parametrize(
    ("catalogue", "words"),
    [
        ("", "it: Input should be a valid dictionary"),
        ("resnet50: http://mirror/x.pth", "resnet50: "),
        (f"resnet50: {{sha256: {SHA256}}}", "resnet50 url: "),
        (f"resnet50: {{url: /srv/x.pth, sha256: {SHA256}}}", "resnet50 url: "),
        (f"resnet50: {{url: 'http://mirror/x.pth', sha256: {SHA256[:8]}}}", "resnet50 sha256: "),
        (f"resnet50: {{url: 'http://mirror/x.pth', sha256: {SHA256}, md5: 0}}", "resnet50 md5: "),
    ],
)
def test_a_malformed_catalogue_is_one_sentence(tmp_path: Path, catalogue: str, words: str) -> None:
    static = written(tmp_path / "static", catalogue)
    for ask in (fetch_weights, find_weights):
        with pytest.raises(
            SuresetError, match=rf"weights\.yaml is no catalogue of weights \({words}.*: give each"
        ):
            ask("resnet50", tmp_path, static)


def test_a_catalogue_that_is_no_yaml_or_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SuresetError, match=r"there is no .*weights\.yaml: point --static at"):
        published_weights("resnet50", tmp_path)
    with pytest.raises(SuresetError, match=r"weights\.yaml is not YAML: mend it\."):
        published_weights("resnet50", written(tmp_path, "resnet50: ["))


def test_an_unknown_name_is_told_those_there_are(static: Path, tmp_path: Path) -> None:
    for ask in (fetch_weights, find_weights):
        with pytest.raises(
            SuresetError, match=f"no backbone vgg17: .* vgg1.*, resnet50, {EMBEDDED}"
        ):
            ask("vgg17", tmp_path, static)


def test_the_embedded_backbone_needs_no_catalogue(tmp_path: Path) -> None:
    assert fetch_weights(EMBEDDED, tmp_path, tmp_path) is None
    assert find_weights(EMBEDDED, tmp_path, tmp_path) is not None


def test_they_are_fetched_once_and_found(server: Publisher, static: Path, tmp_path: Path) -> None:
    assert find_weights("resnet50", tmp_path, static) is None
    place = fetch_weights("resnet50", tmp_path, static)
    assert place is not None and place.read_bytes() == CONTENT
    assert find_weights("resnet50", tmp_path, static) == place
    assert fetch_weights("resnet50", tmp_path, static) == place
    assert server.asked == [None]


def test_damaged_ones_are_not_used(static: Path, tmp_path: Path) -> None:
    place = fetch_weights("resnet50", tmp_path, static)
    assert place is not None
    assert find_weights("resnet50", tmp_path, static) == place
    place.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(SuresetError, match=r"is damaged: `python -m app prefetch --backbone resn"):
        find_weights("resnet50", tmp_path, static)


def test_from_another_mirror_they_are_the_same_file(static: Path, tmp_path: Path) -> None:
    place = fetch_weights("resnet50", tmp_path, static)
    elsewhere = "http://127.0.0.1:9/get?file=7"
    written(static, f"resnet50: {{url: '{elsewhere}', sha256: {SHA256.upper()}}}")
    assert fetch_weights("resnet50", tmp_path, static) == place


def test_the_images_are_copied_not_fetched(
    server: Publisher, static: Path, image: Path, tmp_path: Path
) -> None:
    put(image, CONTENT)
    place = fetch_weights("resnet50", tmp_path, static)
    assert place is not None and place.read_bytes() == CONTENT
    assert image.read_bytes() == CONTENT and server.asked == []


def test_damaged_ones_are_replaced_by_the_images(
    server: Publisher, static: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(image, CONTENT)
    weights = published_weights("resnet50", static)
    assert weights is not None
    place = weights.path(tmp_path)
    put(place, CONTENT[1:])
    fetch_weights("resnet50", tmp_path, static)
    assert place.read_bytes() == CONTENT and server.asked == []
    assert capsys.readouterr().err.splitlines() == [f"{place} is damaged: replacing it"]


def test_an_image_with_other_weights_does_not_matter(
    server: Publisher, static: Path, image: Path, tmp_path: Path
) -> None:
    put(image, CONTENT[1:])
    place = fetch_weights("resnet50", tmp_path, static)
    assert place is not None and place.read_bytes() == CONTENT
    assert server.asked == [None]


def test_what_the_catalogue_lacks_torchvision_publishes(static: Path) -> None:
    """Its files are called by how their sha256 begins, which is what they are checked by."""
    weights = published_weights("resnet18", static)
    assert weights is not None
    assert weights.url == ResNet18_Weights.DEFAULT.url and weights.url.endswith(
        f"-{weights.sha256}.pth"
    )


def test_a_file_is_checked_by_how_its_hash_begins(
    server: Publisher, static: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for begins, fits in ((SHA256[:8], True), ("0" * 8, False)):
        published = Weights("resnet18", server.url, begins)
        monkeypatch.setattr(backbones, "published_weights", lambda *_, p=published: p)
        if fits:
            place = fetch_weights("resnet18", tmp_path, static)
            assert place is not None and find_weights("resnet18", tmp_path, static) == place
        else:
            with pytest.raises(DownloadError, match="checksum 00000000"):
                fetch_weights("resnet18", tmp_path, static)


@pytest.mark.parametrize(
    ("name", "library", "model"),
    [
        ("resnet50", "torchvision", "resnet50"),
        ("torchvision/resnet50", "torchvision", "resnet50"),
        ("timm/resnet50", "timm", "resnet50"),
        ("resnet50.a1_in1k", "timm", "resnet50.a1_in1k"),
        (EMBEDDED, "timm", EMBEDDED),
    ],
)
def test_whose_architecture_a_name_is(name: str, library: str, model: str) -> None:
    assert find_architecture(name) == (library, model)


@pytest.mark.parametrize("name", ["resnet50.nope", "resnet50.", "timm/resnet50..a1_in1k"])
def test_a_tag_of_weights_that_timm_has_not_is_refused(name: str) -> None:
    with pytest.raises(SuresetError, match=f"there is no backbone {re.escape(name)}:"):
        find_architecture(name)


def test_the_geometry_is_what_the_weights_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two published files of one architecture, it is that of the one that is there."""
    file = tmp_path / "some.pth"
    file.write_bytes(CONTENT)
    hashes = {entry: backbones._hash_in(entry.url) for entry in ResNet50_Weights}
    for entry, resize in ((ResNet50_Weights.IMAGENET1K_V1, 256), (None, 232)):
        begins = {**hashes, entry: SHA256[:8]}
        urls = {e.url: begins[e] for e in ResNet50_Weights}
        monkeypatch.setattr(backbones, "_hash_in", urls.__getitem__)
        assert as_backbone("resnet50", file).preprocess == Preprocess(resize, 224, "bilinear")
    timm = as_backbone("timm/resnet50.a1_in1k", file)
    assert timm.preprocess == Preprocess(235, 224, "bicubic")
    embedded = as_backbone(EMBEDDED, file)
    assert embedded.preprocess == Preprocess(256, 224, "bicubic") and embedded.mean == (0.5,) * 3


def test_a_weights_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SuresetError, match=r"no weights file .*x\.pth: check --weights"):
        as_backbone("resnet18", tmp_path / "x.pth")


class Hub(BaseHTTPRequestHandler):
    """What timm's hub answers of one file, as far as its client asks."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()
        self.wfile.write(CONTENT)

    def _answer(self) -> None:
        here = self.path == "/timm/resnet18.a1_in1k/resolve/main/model.safetensors"
        self.send_response(200 if here else 404)
        self.send_header("ETag", f'"{SHA256}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_timms_weights_come_from_its_hub(static: Path, tmp_path: Path) -> None:
    """By the hub's own client, in a process whose environment names another hub."""
    code = (
        "import sys; from pathlib import Path; from app.vision.backbones import *;"
        "cache, static = map(Path, sys.argv[1:]); name = 'timm/resnet18.a1_in1k';"
        "assert find_weights(name, cache, static) is None;"
        "file = fetch_weights(name, cache, static);"
        "assert find_weights(name, cache, static) == file; print(file)"
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub = f"http://127.0.0.1:{server.server_port}"
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", code, str(tmp_path), str(static)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    finally:
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == CONTENT


def test_without_a_network_timms_weights_are_one_sentence(static: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from app.vision.backbones import fetch_weights;"
        "fetch_weights('timm/resnet18', Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", code, str(tmp_path), str(static)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "DownloadError: the weights of timm/resnet18 cannot be had: " in done.stderr
