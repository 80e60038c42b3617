"""The sample set: whole or absent, the same bytes for the same seed, and every class in it."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.data import sample
from app.data.drawing.picture import DRAWN, PAINTS, draw_picture
from app.data.filling import is_vacant
from app.data.layouts import read_manifest
from app.data.sample import COLOURS, TYPES, write_sample
from app.errors import SuresetError


def contents(root: Path) -> dict[str, str]:
    """{visible file: its hash}."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample") / "data"
    write_sample(root, size=30, seed=5)
    return root


def test_it_is_read_as_it_was_written(written: Path) -> None:
    manifest = read_manifest(written)
    assert manifest.layout == "csv" and len(manifest) == 30
    assert manifest.images[7] == "images/00007.jpg"
    # Even this small set has every class.
    assert manifest.classes == {"colour": sorted(COLOURS), "type": sorted(TYPES)}
    for i in range(30):
        with Image.open(manifest.path(i)) as picture:
            assert picture.size == (256, 256) and picture.mode == "RGB"
            assert picture.format == "JPEG"
    assert not is_vacant(written)
    assert {path.name for path in written.iterdir()} <= {"images", "labels.csv", ".lock"}


def test_the_same_seed_gives_the_same_bytes_and_more_pictures_the_same_first(
    written: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()  # As a volume is: there, and empty.
    write_sample(tmp_path / "data", size=12, seed=5)
    first = contents(tmp_path / "data")
    whole = contents(written)
    assert len(first) == 13
    for name, content in first.items():
        assert name == "labels.csv" or whole[name] == content
    labels = (tmp_path / "data/labels.csv").read_text()
    assert (written / "labels.csv").read_text().startswith(labels)


def test_other_processes_draw_the_same(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "_FEW", 20)
    write_sample(tmp_path, size=30, seed=5)
    assert contents(tmp_path) == contents(written)


def test_another_seed_gives_other_pictures(written: Path, tmp_path: Path) -> None:
    write_sample(tmp_path, size=3, seed=6)
    for name, content in contents(tmp_path).items():
        assert contents(written)[name] != content


def test_classes_are_frequent_and_rare() -> None:
    drawn = [sample._classes(np.random.default_rng([0, i]), i) for i in range(2400)]
    for position, frequencies in enumerate((COLOURS, TYPES)):
        names = [classes[position] for classes in drawn]
        assert set(names) == set(frequencies)
        counts = {name: names.count(name) for name in frequencies}
        assert min(counts.values()) >= 30
        assert max(counts.values()) >= 5 * min(counts.values())
    assert set(COLOURS) == set(PAINTS) and set(TYPES) == set(DRAWN)
    assert sum(COLOURS.values()) == sum(TYPES.values()) == 100


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_the_paint_is_seen_on_every_type(kind: str) -> None:
    """Pictures that differ in the paint alone differ where the vehicle is, and nowhere else."""
    for seed in range(3):
        pictures = [
            np.asarray(draw_picture(np.random.default_rng(seed), colour, kind), int)
            for colour in ("red", "blue")
        ]
        differing = (np.abs(pictures[0] - pictures[1]).max(2) > 12).mean()
        assert 0.005 < differing < 0.6
        red, blue = (picture[..., 0].sum() - picture[..., 2].sum() for picture in pictures)
        assert red > blue


def broken_off(root: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Write a set that ends with the ``after``-th picture."""
    with monkeypatch.context() as patch:

        def draw_one(folder: Path, seed: int, index: int) -> tuple[str, str, str]:
            if index >= after:
                raise KeyboardInterrupt
            return draw(folder, seed, index)

        draw: Callable[[Path, int, int], tuple[str, str, str]] = sample._draw_one
        patch.setattr(sample, "_draw_one", draw_one)
        with pytest.raises(KeyboardInterrupt):
            write_sample(root, size=12, seed=5)


def test_a_set_broken_off_while_drawing_is_not_there_and_begun_anew(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_off(tmp_path, monkeypatch, after=4)
    assert contents(tmp_path) == {}
    with pytest.raises(SuresetError, match="there are no pictures"):
        read_manifest(tmp_path)
    assert is_vacant(tmp_path)
    write_sample(tmp_path, size=12, seed=5)
    assert contents(tmp_path)["images/00011.jpg"] == contents(written)["images/00011.jpg"]
    assert not list(tmp_path.glob(".unfinished"))


def test_a_set_broken_off_between_its_two_moves_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name == "labels.csv":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(KeyboardInterrupt):
            write_sample(tmp_path, size=12)
    assert not (tmp_path / "labels.csv").exists() and (tmp_path / "images").is_dir()
    assert is_vacant(tmp_path)
    write_sample(tmp_path, size=12)
    assert len(read_manifest(tmp_path)) == 12


def test_pictures_of_somebody_else_are_never_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_off(tmp_path, monkeypatch, after=2)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/mine.jpg").write_text("mine")
    assert not is_vacant(tmp_path)
    with pytest.raises(SuresetError, match="is not empty"):
        write_sample(tmp_path, size=12)
    assert (tmp_path / "images/mine.jpg").read_text() == "mine"
    assert not (tmp_path / "labels.csv").exists()


def test_which_folders_want_one(tmp_path: Path) -> None:
    assert is_vacant(tmp_path / "missing") and is_vacant(tmp_path)
    (tmp_path / ".gitkeep").touch()
    assert is_vacant(tmp_path)
    (tmp_path / "cat.jpg").touch()
    assert not is_vacant(tmp_path)


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(SuresetError, match=r"No space left on device; make room there .* --data\."):
        write_sample(tmp_path, size=2)
    assert contents(tmp_path) == {}


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SuresetError, match=r"cannot be written into .*file.*--data"):
        write_sample(tmp_path / "file", size=2)
