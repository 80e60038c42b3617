"""``data split`` as it is run, on small folders."""

from __future__ import annotations

import csv
import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.data.layouts import read_manifest
from app.data.manifest import SPLITS
from app.errors import SuresetError
from app.pipeline import split as module
from app.pipeline.split import split
from app.settings import Settings
from tests.unit.pipeline.conftest import run_in

COLOURS, KINDS = ("red", "green", "blue"), ("van", "bus")


def draw(root: Path, numbers: range, *images: str) -> None:
    """A picture a number, each of another content."""
    for i, image in zip(numbers, images or [f"{i}.png" for i in numbers], strict=True):
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i % 256, i // 256, 7)).save(root / image)


def row(i: int) -> str:
    return f"{i}.png,{COLOURS[i % 3]},{KINDS[i % 2]}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a table of 240 pictures, which six combinations share alike."""
    draw(tmp_path, range(240))
    rows = "".join(f"{row(i)}\n" for i in range(240))
    (tmp_path / "labels.csv").write_text(f"image,colour,type\n{rows}")
    return tmp_path


def run(root: Path, **more: str) -> dict[str, str]:
    """Run it; the split of each picture as the file has it."""
    split(Settings.model_validate({"data_dir": root, **more}))
    return read(root)


def read(root: Path) -> dict[str, str]:
    with open(root / "labels.csv", newline="", encoding="utf-8") as file:
        return {line["image"]: line["split"] or "" for line in csv.DictReader(file)}


def test_the_command(root: Path) -> None:
    done = run_in(root, "data", "split", "--data", str(root), "--seed", "3")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "labels.csv: 240 pictures were put in a split, 0 stay in theirs" in done.stderr
    assert done.stderr.endswith("next: make train\n")
    counts = [list(read(root).values()).count(name) for name in SPLITS]
    assert counts == [144, 24, 36, 36]
    [everything] = [line for line in done.stderr.splitlines() if line.startswith("│ all")]
    for count in ("240", "144 (60.0%)", "24 (10.0%)", "36 (15.0%)"):
        assert count in everything


def test_again_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root)
    file = root / "labels.csv"
    before = file.read_bytes(), file.stat()
    run(root, seed="5")
    assert (file.read_bytes(), file.stat()) == before
    said = capsys.readouterr().err
    assert "nothing to write: 240 of 240 pictures were in a split already" in said


def test_added_pictures_alone_are_filled_in(root: Path) -> None:
    old = run(root)
    draw(root, range(240, 300))
    with open(root / "labels.csv", "a") as file:
        file.writelines(f"{row(i)}{',' * (i % 2)}\n" for i in range(240, 300))
    new = run(root)
    assert len(new) == 300 and {image: new[image] for image in old} == old
    counts = np.array([list(new.values()).count(name) for name in SPLITS])
    assert np.abs(counts - np.array([180, 30, 45, 45])).max() <= 3


def test_copies_and_groups_stay_together(root: Path) -> None:
    for i in range(0, 40, 2):
        (root / f"{i}.png").write_bytes((root / f"{i + 1}.png").read_bytes())
    rows = "".join(f"{row(i)},{'g' if i >= 230 else ''}\n" for i in range(240))
    (root / "labels.csv").write_text(f"image,colour,type,group\n{rows}")
    found = run(root)
    assert all(found[f"{i}.png"] == found[f"{i + 1}.png"] for i in range(0, 40, 2))
    assert len({found[f"{i}.png"] for i in range(230, 240)}) == 1


def test_unreadable_pictures_wait(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (root / "7.png").read_bytes()
    for i in range(7, 14):
        (root / f"{i}.png").write_bytes(b"no picture")
    found = run(root)
    assert [image for image, split in found.items() if not split] == [
        f"{i}.png" for i in range(7, 14)
    ]
    said = capsys.readouterr().err
    assert "skipped 7.png: " in said and "2 more pictures that cannot" in said
    content = (root / "labels.csv").read_bytes()
    run(root)
    assert (root / "labels.csv").read_bytes() == content
    (root / "7.png").write_bytes(whole)
    later = run(root)
    assert later["7.png"] in SPLITS and later == found | {"7.png": later["7.png"]}


def test_class_folders_get_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path, range(40), *[f"{COLOURS[i % 2]}/{i}.png" for i in range(40)])
    before = read_manifest(tmp_path)
    run(tmp_path)
    after = read_manifest(tmp_path)
    assert (before.layout, after.layout) == ("folders", "csv")
    assert after.images == before.images and after.classes == before.classes
    np.testing.assert_array_equal(after.labels["class"], before.labels["class"])
    assert "and not the layout folders" in capsys.readouterr().err


def test_splits_of_folders_need_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, name in enumerate((*SPLITS, *SPLITS)):
        draw(tmp_path, range(i, i + 1), f"{name}/images/{i}.png")
        (tmp_path / name / "labels").mkdir(exist_ok=True)
        (tmp_path / name / "labels" / f"{i}.txt").write_text(str(i % 3))
    split(Settings.model_validate({"data_dir": tmp_path}))
    assert "nothing to write: 8 of 8" in capsys.readouterr().err
    assert not (tmp_path / "labels.csv").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("contradiction", "are copies, or of the group"),
        ("layout", "labels.csv is there already"),
        ("missing", "are missing"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_changes_nothing(
    root: Path, change: str, sentence: str
) -> None:
    if change == "contradiction":
        (root / "1.png").write_bytes((root / "0.png").read_bytes())
        rows = f"{row(0)},train\n{row(1)},test\n{row(2)},\n"
        (root / "labels.csv").write_text(f"image,colour,type,split\n{rows}")
    elif change == "missing":
        (root / "5.png").unlink()
    else:
        draw(root, range(2), "x/a.png", "y/b.png")
    before = (root / "labels.csv").read_bytes()
    layout = "folders" if change == "layout" else "auto"
    done = run_in(root, "data", "split", "--data", str(root), "--layout", layout)
    assert done.returncode == 1
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert sentence in error and done.stderr.endswith(f"{error}\n")
    assert (root / "labels.csv").read_bytes() == before


def test_a_full_disk_leaves_the_table(root: Path) -> None:
    before = (root / "labels.csv").read_bytes()
    done = run_in(root, "data", "split", "--data", str(root), file_limit=1000)
    assert done.returncode == 1 and "error: labels.csv cannot be written to" in done.stderr
    assert "Traceback" not in done.stderr
    assert (root / "labels.csv").read_bytes() == before
    assert not [name for name in os.listdir(root) if name.endswith(".part")]


def test_a_read_only_folder_is_said_before_the_pictures_are_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(module, "find_readable", lambda *_: pytest.fail("pictures were read"))
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(SuresetError, match=r"labels\.csv cannot be written to .*Read-only"):
        run(root)


def test_a_read_only_folder_is_no_matter_where_nothing_is_to_be_written(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run(root)
    monkeypatch.setattr(module, "check_writable", lambda _: pytest.fail("this asked to write"))
    assert run(root) == found


def test_the_table_of_classes_names_the_furthest(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{row(i)},{'train' if i % 3 == 2 else ''}\n" for i in range(240))
    (root / "labels.csv").write_text(f"image,colour,type,split\n{rows}")
    run(root)
    said = capsys.readouterr().err
    [colour] = [line for line in said.splitlines() if "colour: " in line]
    assert "colour: blue" in colour and "80 (100.0%)" in colour
