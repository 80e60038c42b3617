"""The catalogue of weights, and the ways by which they come into the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from torchvision.models import ResNet50_Weights

from app.checksums import sha256_of
from app.errors import SuresetError
from app.vision import backbones
from app.vision.backbones import EMBEDDED, fetch_weights, find_backbone, published_weights
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
    url = ResNet50_Weights.IMAGENET1K_V2.url
    assert weights.url == url
    assert weights.path(Path("cache")) == Path("cache/weights") / url.rsplit("/", 1)[1]


@pytest.mark.parametrize(
    ("catalogue", "words"),
    [
        ("", "it: Input should be a valid dictionary"),
        ("resnet50: http://mirror/x.pth", "resnet50: "),
        (f"resnet-50: {{url: 'http://mirror/x.pth', sha256: {SHA256}}}", "resnet-50: .*'resnet50'"),
        (f"resnet50: {{sha256: {SHA256}}}", "resnet50 url: "),
        (f"resnet50: {{url: /srv/x.pth, sha256: {SHA256}}}", "resnet50 url: "),
        (f"resnet50: {{url: 'http://mirror/x.pth', sha256: {SHA256[:8]}}}", "resnet50 sha256: "),
        (f"resnet50: {{url: 'http://mirror/x.pth', sha256: {SHA256}, md5: 0}}", "resnet50 md5: "),
    ],
)
def test_a_malformed_catalogue_is_one_sentence(tmp_path: Path, catalogue: str, words: str) -> None:
    static = written(tmp_path / "static", catalogue)
    for ask in (fetch_weights, find_backbone):
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
    for ask in (fetch_weights, find_backbone):
        with pytest.raises(SuresetError, match=f"no backbone vgg: .* resnet50, {EMBEDDED}"):
            ask("vgg", tmp_path, static)


def test_the_embedded_backbone_needs_no_catalogue(tmp_path: Path) -> None:
    assert fetch_weights(EMBEDDED, tmp_path, tmp_path) is None
    assert find_backbone(EMBEDDED, tmp_path, tmp_path) is not None


def test_they_are_fetched_once_and_found(server: Publisher, static: Path, tmp_path: Path) -> None:
    assert find_backbone("resnet50", tmp_path, static) is None
    place = fetch_weights("resnet50", tmp_path, static)
    assert place is not None and place.read_bytes() == CONTENT
    backbone = find_backbone("resnet50", tmp_path, static)
    assert backbone is not None and backbone.weights == place
    assert fetch_weights("resnet50", tmp_path, static) == place
    assert server.asked == [None]


def test_damaged_ones_are_not_used(
    static: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = fetch_weights("resnet50", tmp_path, static)
    assert place is not None
    hashed: list[Path] = []

    def hash_once(file: Path) -> str:
        hashed.append(file)
        return sha256_of(file)

    monkeypatch.setattr(backbones, "sha256_of", hash_once)
    backbone = find_backbone("resnet50", tmp_path, static)
    assert backbone is not None and backbone.weights_sha256 == SHA256
    assert hashed == [place]
    place.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(SuresetError, match=r"is damaged: `python -m app prefetch --backbone resn"):
        find_backbone("resnet50", tmp_path, static)


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
    place = published_weights("resnet50", static).path(tmp_path)
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
