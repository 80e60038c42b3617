"""The sample set: whole or absent, the same bytes for the same seed, labelled by what is seen."""

from __future__ import annotations

import csv
import errno
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from app.data import sample
from app.data.drawing import scenes
from app.data.drawing.geometry import Camera
from app.data.drawing.picture import DRAWN, PAINTS, TASKS, _view, draw_picture
from app.data.drawing.scenes import Scene
from app.data.drawing.solids import Vehicle
from app.data.filling import is_vacant
from app.data.layouts import read_manifest
from app.data.sample import COLOURS, TYPES, Labelled, write_sample
from app.errors import SuresetError


def contents(root: Path) -> dict[str, str]:
    """{visible file: its hash}."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def table(root: Path) -> list[dict[str, str]]:
    """The rows of ``labels.csv``."""
    with open(root / "labels.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


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


def test_the_tasks_change_no_picture(written: Path, tmp_path: Path) -> None:
    write_sample(tmp_path, size=30, seed=5, tasks=["background", "colour", "view", "background"])
    names = contents(tmp_path)
    assert names.pop("labels.csv")
    assert names.items() < contents(written).items()
    rows = table(tmp_path)
    assert list(rows[0]) == ["image", "background", "colour", "view"]
    assert [row["colour"] for row in rows] == [row["colour"] for row in table(written)]
    # What is not seen is unknown, and is read as that.
    manifest = read_manifest(tmp_path)
    for task in ("background", "view"):
        empty = [not row[task] for row in rows]
        assert 0 < sum(empty) < 30
        assert ((manifest.labels[task] < 0) == empty).all()


def test_a_task_that_there_is_not_is_a_sentence_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(SuresetError, match=f"no task 'shape': --tasks takes {', '.join(TASKS)},"):
        write_sample(tmp_path / "data", size=3, tasks=["colour", "shape"])
    assert not (tmp_path / "data").exists()


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
            np.asarray(draw_picture(np.random.default_rng(seed), colour, kind).picture, int)
            for colour in ("red", "blue")
        ]
        differing = (np.abs(pictures[0] - pictures[1]).max(2) > 12).mean()
        assert 0.005 < differing < 0.6
        red, blue = (picture[..., 0].sum() - picture[..., 2].sum() for picture in pictures)
        assert red > blue


def elsewhere(function: Callable[..., Any], draw: int) -> Callable[..., Any]:
    """The function with its argument ``draw`` replaced, so that what it draws is not seen."""

    def unseen(*arguments: Any) -> Any:
        nowhere = ImageDraw.Draw(Image.new("RGB", (256, 256)), "RGBA")
        return function(*arguments[:draw], nowhere, *arguments[draw + 1 :])

    return unseen


def drawn() -> list[tuple[dict[str, str], np.ndarray]]:
    """Labels and pixels of some pictures."""
    kinds = sorted(DRAWN)
    drawings = [
        draw_picture(np.random.default_rng(i), "blue", kinds[i % len(kinds)], size=128)
        for i in range(60)
    ]
    return [(labels, np.asarray(picture, int)) for picture, labels in drawings]


def test_the_obstacle_is_labelled_where_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = drawn()
    monkeypatch.setattr(Scene, "occlude", elsewhere(Scene.occlude, draw=1))
    for (labels, pixels), (_, without) in zip(with_it, drawn(), strict=True):
        seen = (np.abs(pixels - without).max(2) > 12).mean()
        assert seen > 0.004 if labels["obstacle"] != "none" else seen == 0
    assert {labels["obstacle"] for labels, _ in with_it} == {"none", *scenes._OBSTACLES}


@pytest.mark.parametrize("surround", ["town", "hills", "wood", "wall"])
def test_the_background_is_labelled_where_it_is_seen(
    surround: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "_SURROUNDS", (surround,))
    with_it = drawn()
    monkeypatch.setitem(scenes._SURROUND, surround, elsewhere(scenes._SURROUND[surround], draw=0))
    for (labels, pixels), (_, without) in zip(with_it, drawn(), strict=True):
        assert labels["background"] in (surround, "")
        if labels["background"]:
            assert (np.abs(pixels - without).max(2) > 4).mean() > 0.02


@pytest.mark.parametrize(
    ("yaw", "view"), [(-40, "front"), (-22, "front"), (-5, "side"), (5, "side"), (40, "rear")]
)
def test_the_view_is_the_end_that_is_seen(yaw: float, view: str) -> None:
    car = Vehicle(length=4.5, height=1.5, width=1.8)
    camera = Camera((2.25, 0.75, 0), np.radians(yaw), 0.1, 0.0, 13.0, 40.0, (128, 140))
    assert _view(camera, car) == view


def broken_off(root: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Write a set that ends with the ``after``-th picture."""
    with monkeypatch.context() as patch:

        def draw_one(folder: Path, seed: int, index: int) -> Labelled:
            if index >= after:
                raise KeyboardInterrupt
            return draw(folder, seed, index)

        draw: Callable[[Path, int, int], Labelled] = sample._draw_one
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
    assert {path.name for path in tmp_path.iterdir()} <= {".lock"}


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SuresetError, match=r"cannot be written into .*file.*--data"):
        write_sample(tmp_path / "file", size=2)
