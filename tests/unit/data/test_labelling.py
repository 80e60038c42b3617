"""Writing splits into labels.csv changes the splits and nothing else, whatever stands there."""

from __future__ import annotations

import csv
import io
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.data.labelling import check_writable, write_splits
from app.data.layouts import read_manifest
from app.data.manifest import SPLITS, Manifest
from app.errors import SuresetError

TABLE = "image,kind\na.jpg,x\nb.jpg,y\n"


def put(root: Path, table: str | bytes, *pictures: str) -> Path:
    for picture in pictures or ("a.jpg", "b.jpg"):
        (root / picture).parent.mkdir(parents=True, exist_ok=True)
        (root / picture).touch()
    file = root / "labels.csv"
    file.write_bytes(table.encode() if isinstance(table, str) else table)
    return file


def fill(root: Path, *split: str) -> str:
    """Write these splits, and return the file."""
    write_splits(read_manifest(root), np.array(split))
    return (root / "labels.csv").read_bytes().decode()


def same_but_splits(a: Manifest, b: Manifest) -> None:
    assert a.images == b.images and a.labels.keys() == b.labels.keys()
    for task in a.labels:
        names, again = (
            [(*m.classes[task], "?")[c] for c in m.labels[task].tolist()] for m in (a, b)
        )
        assert names == again
    assert (a.group is None) == (b.group is None)
    if a.group is not None and b.group is not None:
        assert a.group.tolist() == b.group.tolist()


def test_a_column_is_added_at_the_end(tmp_path: Path) -> None:
    put(tmp_path, TABLE)
    assert fill(tmp_path, "train", "test") == "image,kind,split\na.jpg,x,train\nb.jpg,y,test\n"


def test_empty_cells_and_missing_ones_are_filled(tmp_path: Path) -> None:
    """A short row is a row whose last cells are empty, and given splits stay."""
    table = "image,kind,split\na.jpg,x,train\nb.jpg,y,\nc.jpg,y\nd.jpg,,  \ne.jpg,x\n"
    put(tmp_path, table, "a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")
    assert fill(tmp_path, "train", "test", "calib", "valid", "") == (
        "image,kind,split\na.jpg,x,train\nb.jpg,y,test\nc.jpg,y,calib\nd.jpg,,valid\ne.jpg,x\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # A byte order mark, Windows line ends, no end of the last line.
        (
            "\ufeffimage,kind\r\na.jpg,x\r\nb.jpg,y",
            "\ufeffimage,kind,split\r\na.jpg,x,train\r\nb.jpg,y,test",
        ),
        (
            '\ufeff"image",kind\ra.jpg,x\rb.jpg,y\r',
            '\ufeff"image",kind,split\ra.jpg,x,train\rb.jpg,y,test\r',
        ),
        # Blanks, blank lines, and columns in another order.
        (
            " split , kind,image\n , x ,./a.jpg\n\n \t\n,y , b.jpg \n",
            " split , kind,image\ntrain, x ,./a.jpg\n\n \t\ntest,y , b.jpg \n",
        ),
        # Quotes, commas, line ends and quotes in cells; quotes where none are needed.
        (
            'image,kind,split,note\n"a.jpg","x, ""1""","","1\r\n2"\nb.jpg,5" disc,,"y"z"\n',
            'image,kind,split,note\n"a.jpg","x, ""1""",train,"1\r\n2"\nb.jpg,5" disc,test,"y"z"\n',
        ),
        (
            "image,kind,group\na.jpg,x,\u2028g\nb.jpg,y\n",
            "image,kind,group,split\na.jpg,x,\u2028g,train\nb.jpg,y,,test\n",
        ),
    ],
    ids=["mark", "carriage returns", "blanks", "quotes", "short"],
)
def test_the_rest_stays_byte_for_byte(tmp_path: Path, before: str, after: str) -> None:
    put(tmp_path, before)
    was = read_manifest(tmp_path)
    assert fill(tmp_path, "train", "test") == after
    same_but_splits(was, read_manifest(tmp_path))


piece = st.text(st.sampled_from("ab,\"\r\n \t'ö;.😀\u2028\xa0"), max_size=5)


def quoted(cell: str, always: bool) -> str:
    """A cell as programs write it, with quotes where they are needed at least."""
    if always or any(c in cell for c in ',\r\n"'):
        cell = '"' + cell.replace('"', '""') + '"'
    return cell


@settings(max_examples=60)
@given(st.data())
def test_any_table_comes_back(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    root = tmp_path_factory.mktemp("any")
    columns = data.draw(st.permutations(["image", "kind", "note", "group", "split"]))
    columns = [c for c in columns if c != "split" or data.draw(st.booleans())]
    rows = []
    for i in range(data.draw(st.integers(2, 5))):
        row = {column: data.draw(piece) for column in columns}
        # Each column but three is a task, and needs two classes.
        row |= {"image": f"{i}.jpg"} | {task: "xy"[i % 2] + row[task] for task in ("kind", "note")}
        if "split" in row:
            row["split"] = data.draw(st.sampled_from(["", " ", *SPLITS]))
        rows.append(row)
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    always = data.draw(st.booleans())
    header = ",".join(quoted(column, always) for column in columns)
    lines = [",".join(quoted(row[column], always) for column in columns) for row in rows]
    file = put(root, end.join([header, *lines, ""]), *[row["image"] for row in rows])
    before = read_manifest(root)
    new = np.array(
        data.draw(st.lists(st.sampled_from(SPLITS), min_size=len(rows), max_size=len(rows)))
    )
    given_splits = np.full(len(rows), "") if before.split is None else before.split
    wanted = np.where(given_splits == "", new, given_splits)

    write_splits(before, wanted)

    after = read_manifest(root)
    same_but_splits(before, after)
    assert after.split is not None and after.split.tolist() == wanted.tolist()
    # As another reader sees it: every other cell, blanks and line ends and all, is as it was.
    with open(file, encoding="utf-8", newline="") as written:
        table = list(csv.DictReader(written))
    for row, again in zip(rows, table, strict=True):
        assert {c: v for c, v in row.items() if c != "split"} == {
            c: v for c, v in again.items() if c != "split"
        }
    content = file.read_bytes()
    write_splits(after, wanted)
    assert file.read_bytes() == content


# Making one


def test_class_folders_become_a_table(tmp_path: Path) -> None:
    pictures = ['red, "dark"/a.jpg', "größe/b.jpg", "größe/deep/c d.png"]
    for picture in pictures:
        (tmp_path / picture).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / picture).touch()
    before = read_manifest(tmp_path)
    write_splits(before, np.array(["train", "", "test"]))
    after = read_manifest(tmp_path)
    same_but_splits(before, after)
    assert after.layout == "csv" and after.classes == before.classes
    assert after.split is not None and after.split.tolist() == ["train", "", "test"]
    assert stat.S_IMODE((tmp_path / "labels.csv").stat().st_mode) == 0o644


name = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=6
)


@settings(max_examples=50)  # Folders are made for each.
@given(
    st.lists(name, min_size=2, max_size=5, unique=True),
    st.lists(name, min_size=2, max_size=4, unique=True),
    st.lists(name, min_size=2, max_size=3, unique=True),
)
def test_a_table_that_is_made_says_what_the_manifest_says_or_is_not_made(
    tmp_path_factory: pytest.TempPathFactory,
    images: list[str],
    classes: list[str],
    tasks: list[str],
) -> None:
    root = tmp_path_factory.mktemp("made")
    n = len(images)
    codes = np.arange(n) % (len(classes) + 1) - 1
    codes[:2] = 0, 1
    before = Manifest(
        root,
        "folders",
        [f"{image}.jpg" for image in images],
        dict.fromkeys(tasks, classes),
        dict.fromkeys(tasks, codes),
        group=np.array(["", "a", *["b c"] * (n - 2)]),
    )
    try:
        for image in before.images:
            (root / image).touch()
    except (OSError, UnicodeEncodeError):
        assume(False)
    split = np.array(["train", *["test"] * (n - 1)])
    try:
        write_splits(before, split)
    except SuresetError as error:
        # "./" is what the reader drops in front of a path; a picture here has no folder.
        assert "rename it" in str(error)
        names = [*before.images, *classes, *tasks]
        assert any(n != n.strip() or "\n" in n or "\r" in n for n in names) or (
            {"image", "split", "group"} & set(tasks)
        )
        assert not (root / "labels.csv").exists()
        return
    after = read_manifest(root)
    same_but_splits(before, after)
    assert after.split is not None and after.split.tolist() == split.tolist()


@pytest.mark.parametrize(
    ("images", "classes", "task", "named"),
    [
        (["a.jpg", "b\n.jpg"], ["x", "y"], "kind", "the picture 'b\\n.jpg'"),
        (["a.jpg", " b.jpg"], ["x", "y"], "kind", "the picture ' b.jpg'"),
        (["a.jpg", "b\udcff.jpg"], ["x", "y"], "kind", "the picture 'b\\udcff.jpg'"),
        (["a.jpg", "b.jpg"], ["x", "y "], "kind", "the class 'y '"),
        (["a.jpg", "b.jpg"], ["x", ""], "kind", "the class ''"),
        (["a.jpg", "b.jpg"], ["x", "y"], "kind\r", "the task 'kind\\r'"),
        (["a.jpg", "b.jpg"], ["x", "y"], "split", "a task cannot be called split"),
    ],
)
def test_names_that_cannot_be_written_are_refused(
    tmp_path: Path, images: list[str], classes: list[str], task: str, named: str
) -> None:
    manifest = Manifest(tmp_path, "thesis", images, {task: classes}, {task: np.array([0, 1])})
    for act in (check_writable, lambda m: write_splits(m, np.array(["train", "test"]))):
        with pytest.raises(SuresetError, match="rename it") as error:
            act(manifest)
        assert named in str(error.value) and "\n" not in str(error.value)
    assert os.listdir(tmp_path) == []


def test_a_table_that_another_layout_would_replace_stays(tmp_path: Path) -> None:
    file = put(tmp_path, TABLE, "a.jpg", "b.jpg", "x/c.jpg", "y/d.jpg")
    manifest = read_manifest(tmp_path, "folders")
    for broken in (False, True):
        if broken:
            file.unlink()
            file.symlink_to(tmp_path / "nothing")
        with pytest.raises(SuresetError, match=r"labels\.csv is there already.*leave --layout out"):
            check_writable(manifest)


# Whole or as it was


def test_rights_stay(tmp_path: Path) -> None:
    file = put(tmp_path, TABLE)
    file.chmod(0o640)
    fill(tmp_path, "train", "test")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["a.jpg", "b.jpg", "labels.csv"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_gives_the_file_back_to_its_owner(tmp_path: Path) -> None:
    file = put(tmp_path, TABLE)
    os.chown(file, 12345, 23456)
    fill(tmp_path, "train", "test")
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 23456)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_what_breaks_off_leaves_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    file = put(tmp_path, TABLE)
    manifest = read_manifest(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(SuresetError, match=r"labels\.csv cannot be written.*No space left"):
        write_splits(manifest, np.array(["train", "test"]))
    assert file.read_text() == TABLE
    assert sorted(os.listdir(tmp_path)) == ["a.jpg", "b.jpg", "labels.csv"]


def test_it_is_complete_before_it_takes_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill at any moment finds the one or the other."""
    file, seen = put(tmp_path, TABLE), []
    replace = os.replace

    def watched(part: str, place: Path) -> None:
        seen.append((Path(part).read_text(), Path(place).read_text(), Path(part).parent))
        replace(part, place)

    monkeypatch.setattr(os, "replace", watched)
    whole = fill(tmp_path, "train", "test")
    assert seen == [(whole, TABLE, tmp_path)] and file.read_text() == whole


def test_a_folder_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, TABLE)
    manifest = read_manifest(tmp_path)

    def fail(**_: object) -> io.BytesIO:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    with pytest.raises(SuresetError, match=r"labels\.csv cannot be written to .*Read-only"):
        check_writable(manifest)


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    file = put(tmp_path, TABLE, "a.jpg", "b.jpg", "tables/old.txt")
    shutil.move(file, tmp_path / "tables/mine.csv")
    file.symlink_to("tables/mine.csv")
    fill(tmp_path, "train", "test")
    assert file.is_symlink() and "a.jpg,x,train" in (tmp_path / "tables/mine.csv").read_text()


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    other.mkdir()
    file = put(root, TABLE)
    shutil.move(file, other / "mine.csv")
    file.symlink_to(other / "mine.csv")
    with pytest.raises(SuresetError, match="leads out of its folder"):
        fill(root, "train", "test")
    assert (other / "mine.csv").read_text() == TABLE and os.listdir(other) == ["mine.csv"]


@pytest.mark.parametrize(
    "table",
    [
        TABLE + "c.jpg,x\n",
        "image,kind\na.jpg,x\n",
        "image,kind\nb.jpg,y\na.jpg,x\n",
        "image,kind,split\na.jpg,x,\nb.jpg,y,\n",
        "kind\na.jpg\nb.jpg\n",
        "",
        b"image,kind\na.jpg,\xff\nb.jpg,y\n",
    ],
)
def test_a_file_that_was_changed_meanwhile_is_left_alone(
    tmp_path: Path, table: str | bytes
) -> None:
    file = put(tmp_path, TABLE)
    manifest = read_manifest(tmp_path)
    put(tmp_path, table)
    content = file.read_bytes()
    with pytest.raises(SuresetError, match="was changed while"):
        write_splits(manifest, np.array(["train", "test"]))
    assert file.read_bytes() == content


def test_splits_that_were_given_meanwhile_are_not_replaced(tmp_path: Path) -> None:
    file = put(tmp_path, "image,kind,split\na.jpg,x,\nb.jpg,y,\n")
    manifest = read_manifest(tmp_path)
    put(tmp_path, "image,kind,split\na.jpg,x,calib\nb.jpg,y,\n")
    with pytest.raises(SuresetError, match="was changed while"):
        write_splits(manifest, np.array(["train", "test"]))
    assert "calib" in file.read_text()
