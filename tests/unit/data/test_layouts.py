"""The four layouts as small folders, and every sentence for what can be wrong with them."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.data.layouts import read_manifest
from app.data.manifest import Manifest
from app.errors import SuresetError


def put(root: Path, *files: str, text: str = "") -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)


def write_csv(root: Path, text: str, *pictures: str) -> None:
    put(root, *pictures)
    put(root, "labels.csv", text=text)


def names(manifest: Manifest, task: str) -> list[str]:
    """Class names by row, ? where unknown."""
    return [manifest.classes[task][c] if c >= 0 else "?" for c in manifest.labels[task]]


def refused(root: Path, *parts: str, layout: str = "auto") -> None:
    """Reading fails with one sentence that holds the parts."""
    with pytest.raises(SuresetError) as error:
        read_manifest(root, layout)
    sentence = str(error.value)
    for part in parts:
        assert part in sentence
    assert "\n" not in sentence and sentence.endswith(".") and ": " in sentence


# labels.csv


def test_csv(tmp_path: Path) -> None:
    write_csv(
        tmp_path,
        "image,colour,type,split,group\n"
        "a.jpg,red,van,train,one\n"
        "deep/er/b.png,blue,,,one\n"
        "./c.JPG,,van,test,\n"
        '"d, e.png",red,bus,,\n',
        "a.jpg",
        "deep/er/b.png",
        "c.JPG",
        "d, e.png",
    )
    manifest = read_manifest(tmp_path)
    assert manifest.layout == "csv" and manifest.root == tmp_path and len(manifest) == 4
    assert manifest.images == ["a.jpg", "deep/er/b.png", "c.JPG", "d, e.png"]
    assert manifest.classes == {"colour": ["blue", "red"], "type": ["bus", "van"]}
    assert names(manifest, "colour") == ["red", "blue", "?", "red"]
    assert names(manifest, "type") == ["van", "?", "van", "bus"]
    assert manifest.labels["type"].dtype == np.int64
    assert manifest.split is not None and manifest.split.tolist() == ["train", "", "test", ""]
    assert manifest.group is not None and manifest.group.tolist() == ["one", "one", "", ""]
    assert manifest.path(1) == tmp_path / "deep/er/b.png"


def test_take_keeps_classes_and_follows_rows(tmp_path: Path) -> None:
    table = "image,kind,split,group\na.jpg,x,train,g\nb.jpg,y,,\nc.jpg,z,test,h\n"
    write_csv(tmp_path, table, "a.jpg", "b.jpg", "c.jpg")
    taken = read_manifest(tmp_path).take(np.array([2, 0]))
    assert taken.images == ["c.jpg", "a.jpg"] and taken.classes == {"kind": ["x", "y", "z"]}
    assert names(taken, "kind") == ["z", "x"]
    assert taken.split is not None and taken.split.tolist() == ["test", "train"]
    assert taken.group is not None and taken.group.tolist() == ["h", "g"]


def test_csv_without_split_and_group(tmp_path: Path) -> None:
    write_csv(tmp_path, "image,kind\na.jpg,x\nb.jpg,y\n", "a.jpg", "b.jpg")
    manifest = read_manifest(tmp_path)
    assert manifest.split is None and manifest.group is None


def test_csv_of_a_spreadsheet(tmp_path: Path) -> None:
    """A byte order mark, Windows line ends, blanks, umlauts, and cells that look like nothing."""
    table = "\ufeffimage , kind\r\na.jpg, größe \r\nb.jpg,NA\r\nc.jpg,null\r\nd.jpg\r\n"
    write_csv(tmp_path, "", *["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    (tmp_path / "labels.csv").write_bytes(table.encode())
    assert names(read_manifest(tmp_path), "kind") == ["größe", "NA", "null", "?"]


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["10", "9", "1", "-2"], ["-2", "1", "9", "10"]),
        (["0.5", "0.25", "1e1"], ["0.25", "0.5", "1e1"]),
        (["10", "9", "b"], ["10", "9", "b"]),
        (["01", "1", "2"], ["01", "1", "2"]),
    ],
)
def test_numbers_are_sorted_as_numbers(
    tmp_path: Path, cells: list[str], classes: list[str]
) -> None:
    images = [f"{i}.jpg" for i in range(len(cells))]
    rows = "".join(f"{image},{cell}\n" for image, cell in zip(images, cells, strict=True))
    write_csv(tmp_path, f"image,kind\n{rows}", *images)
    manifest = read_manifest(tmp_path)
    assert manifest.classes["kind"] == classes
    assert names(manifest, "kind") == cells


word = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)


@given(cells=st.lists(st.sampled_from(["", "a", "b", "c", "ö"]) | word, min_size=3, max_size=20))
def test_csv_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, cells: list[str]
) -> None:
    cells = ["first", "second", *cells]
    root = tmp_path_factory.mktemp("csv")
    images = [f"{i}.jpg" for i in range(len(cells))]
    rows = "".join(f"{image},{cell}\n" for image, cell in zip(images, cells, strict=True))
    write_csv(root, f"image,kind\n{rows}", *images)
    assert names(read_manifest(root), "kind") == [cell or "?" for cell in cells]


def test_csv_may_be_alone_in_naming_a_file_in_a_full_folder(tmp_path: Path) -> None:
    write_csv(tmp_path, "image,kind\na.jpg,x\nb.jpg,y\n", "a.jpg", "b.jpg", "other.jpg")
    assert read_manifest(tmp_path).images == ["a.jpg", "b.jpg"]


def test_csv_missing_files(tmp_path: Path) -> None:
    table = "image,kind\nhere.jpg,x\n" + "".join(f"gone/{i}.jpg,y\n" for i in range(5))
    write_csv(tmp_path, table, "here.jpg")
    refused(tmp_path, "5 of 6 pictures", "(gone/0.jpg, gone/1.jpg, gone/2.jpg, ...)", "remove")


def test_csv_naming_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").mkdir()
    write_csv(tmp_path, "image,kind\na.jpg,x\nb.jpg,y\n", "a.jpg")
    refused(tmp_path, "1 of 2 pictures", "(b.jpg)")


@pytest.mark.parametrize(
    ("table", "parts"),
    [
        ("", ["is empty", "image,<task>"]),
        ("image,kind\n", ["names no picture", "add a row"]),
        ("picture,kind\na.jpg,x\n", ["no column image but picture, kind", "image,<task>"]),
        ("image;kind\na.jpg;x\n", ["no column image but image;kind", "commas"]),
        ("image\na.jpg\n", ["no column for a task"]),
        ("image,split,group\na.jpg,train,g\n", ["no column for a task"]),
        ("image,kind,kind\na.jpg,x,y\n", ["more than one column kind"]),
        ("image,kind,\na.jpg,x,\n", ["a column without a name"]),
        ("image,kind,split\na.jpg,x,val\n", ["the split 'val' for a.jpg", "train, valid, calib"]),
        ("image,kind\na.jpg,x\na.jpg,y\n", ["1 of its pictures more than once (a.jpg)", "one row"]),
        ("image,kind\na.jpg,x\n./a.jpg,y\n", ["1 of its pictures more than once (a.jpg)"]),
        ("image,kind\na.jpg,x\n,y\n", ["no image in 1 of 2 rows", "row 2"]),
        ("image,kind\na.jpg,x\nb.jpg,y,z\n", ["not a table", "line 3, saw 3"]),
        ("image,kind\na.jpg,x,y\nb.jpg,y\n", ["not a table", "line 2, saw 3"]),
        ('image,kind\na.jpg,"x\nb.jpg,y\n', ["not a table"]),
        ("image,kind\na.jpg,x\nb.jpg,x\n", ["task kind", "only the class x", "another class"]),
        ("image,kind\na.jpg,x\nb.jpg,\n", ["task kind", "only the class x"]),
        ("image,kind,age\na.jpg,x,\nb.jpg,y,\n", ["task age has no label"]),
        ("image,kind\n../a.jpg,x\n", ["1 of 1 paths", "lead out", "../a.jpg"]),
        ("image,kind\nb/../../a.jpg,x\n", ["1 of 1 paths", "lead out"]),
        ("image,kind\n/etc/passwd,x\n", ["1 of 1 paths", "lead out", "/etc/passwd"]),
    ],
)
def test_csv_sentences(tmp_path: Path, table: str, parts: list[str]) -> None:
    write_csv(tmp_path / "data", table, "a.jpg", "b.jpg")
    put(tmp_path, "a.jpg")
    refused(tmp_path / "data", "labels.csv" if "task" not in parts[0] else "", *parts)


def test_csv_in_another_encoding(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    (tmp_path / "labels.csv").write_bytes("image,kind\na.jpg,größe\n".encode("latin-1"))
    refused(tmp_path, "not in UTF-8", "save it as")


# Links


def test_links_inside_are_followed_and_links_outside_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    put(tmp_path, "outside.jpg", "other/b.jpg")
    write_csv(data, "image,kind\na.jpg,x\nlink.jpg,y\n", "a.jpg")
    (data / "link.jpg").symlink_to("a.jpg")
    assert read_manifest(data).images == ["a.jpg", "link.jpg"]
    (data / "link.jpg").unlink()
    (data / "link.jpg").symlink_to("../outside.jpg")
    refused(data, "link.jpg leads out of", "into the folder")

    write_csv(data, "image,kind\na.jpg,x\nlinked/b.jpg,y\n")
    (data / "linked").symlink_to("../other")
    refused(data, "linked leads out of")


@pytest.mark.parametrize("target", ["../outside.jpg", "../outside"])
def test_links_outside_are_refused_in_folders_too(tmp_path: Path, target: str) -> None:
    put(tmp_path, "data/x/a.jpg", "data/y/b.jpg", "outside.jpg", "outside/c.jpg")
    (tmp_path / "data/x/link.jpg").symlink_to(tmp_path / "data" / target)
    refused(tmp_path / "data", "x/link.jpg leads out of")


def test_a_link_to_a_folder_inside_is_no_endless_way(tmp_path: Path) -> None:
    put(tmp_path, "x/a.jpg", "y/b.jpg")
    (tmp_path / "x/again").symlink_to(tmp_path)
    assert read_manifest(tmp_path).images == ["x/a.jpg", "y/b.jpg"]


def test_a_link_to_a_folder_that_is_hidden_or_seen_anyway(tmp_path: Path) -> None:
    put(tmp_path, ".store/x/a.jpg", "y/b.jpg")
    (tmp_path / "x").symlink_to(".store/x")
    (tmp_path / "a-second-way").symlink_to("y")
    manifest = read_manifest(tmp_path)
    assert manifest.images == ["x/a.jpg", "y/b.jpg"]
    assert manifest.classes == {"class": ["x", "y"]}


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    put(tmp_path / "real", "x/a.jpg", "y/b.jpg")
    (tmp_path / "data").symlink_to("real")
    assert read_manifest(tmp_path / "data").images == ["x/a.jpg", "y/b.jpg"]


# The thesis layout


def thesis(root: Path, labels: dict[str, str]) -> None:
    """Write pictures by path such as ``train/a.jpg``, with what their label files hold."""
    for image, text in labels.items():
        split, _, rest = image.partition("/")
        put(root, f"{split}/images/{rest}")
        put(root, f"{split}/labels/{rest.rpartition('.')[0]}.txt", text=text)


GOOD = {
    "train/a.jpg": "0 1",
    "train/deep/b.PNG": "2 0\n",
    "valid/c.jpg": "2 -1",
    "test/d.jpg": "0 1",
}


def test_thesis_with_names(tmp_path: Path) -> None:
    thesis(tmp_path, GOOD)
    put(tmp_path, "tasks.yaml", text="colour: [no, red, 7]\ntype:\n  - van\n  - bus\n")
    manifest = read_manifest(tmp_path)
    assert manifest.layout == "thesis" and manifest.group is None
    assert manifest.images[:2] == ["train/images/a.jpg", "train/images/deep/b.PNG"]
    assert manifest.classes == {"colour": ["no", "red", "7"], "type": ["van", "bus"]}
    assert names(manifest, "colour") == ["no", "7", "7", "no"]
    assert names(manifest, "type") == ["bus", "van", "?", "bus"]
    assert manifest.split is not None
    assert manifest.split.tolist() == ["train", "train", "valid", "test"]


def test_thesis_without_names(tmp_path: Path) -> None:
    thesis(tmp_path, GOOD | {"calib/e.jpg": "10 1"})
    manifest = read_manifest(tmp_path)
    assert manifest.classes == {"task1": ["0", "2", "10"], "task2": ["0", "1"]}
    assert names(manifest, "task1") == ["0", "2", "2", "10", "0"]
    assert names(manifest, "task2") == ["1", "0", "?", "1", "1"]


@pytest.mark.parametrize(
    ("more", "tasks", "parts"),
    [
        ({"train/e.jpg": "1"}, None, ["train/labels/e.txt has 1 integers where others have 2"]),
        ({"train/e.jpg": "1 x"}, None, ["e.txt has to hold one integer a task"]),
        ({"train/e.jpg": ""}, None, ["e.txt has to hold one integer a task"]),
        ({"train/e.jpg": "1 -2"}, None, ["e.txt has to hold one integer a task"]),
        ({"train/e.jpg": "1.5 2"}, None, ["e.txt has to hold one integer a task"]),
        ({}, "colour: [a, b]", ["names 1 tasks and the label files hold 2 integers"]),
        ({}, "colour: [a, b]\ntype: [c, d]", ["deep/b.PNG for colour is 2", "names 2 classes"]),
        ({}, "colour: red", ["has to map each task to the list of its class names"]),
        ({}, "colour: [red, red, blue]", ["has to map each task"]),
        ({}, "- colour", ["has to map each task"]),
        ({}, "", ["has to map each task"]),
        ({}, "colour: [", ["is not YAML"]),
    ],
)
def test_thesis_sentences(
    tmp_path: Path, more: dict[str, str], tasks: str | None, parts: list[str]
) -> None:
    thesis(tmp_path, GOOD | more)
    if tasks is not None:
        put(tmp_path, "tasks.yaml", text=tasks)
    refused(tmp_path, *parts)


def test_thesis_pictures_without_labels(tmp_path: Path) -> None:
    thesis(tmp_path, GOOD)
    put(tmp_path, "test/images/lost.jpg")
    refused(tmp_path, "1 of 5 pictures", "no label file (test/images/lost.jpg)", "remove")


def test_thesis_one_class(tmp_path: Path) -> None:
    thesis(tmp_path, {"train/a.jpg": "0 1", "test/b.jpg": "1 1"})
    refused(tmp_path, "task task2 has only the class 1", "layout thesis")


def test_thesis_labels_outside(tmp_path: Path) -> None:
    thesis(tmp_path / "data", GOOD)
    (tmp_path / "data/valid/labels").rename(tmp_path / "labels")
    (tmp_path / "data/valid/labels").symlink_to(tmp_path / "labels")
    refused(tmp_path / "data", "valid/labels leads out of")


# Names that carry labels


def test_sgvehicle(tmp_path: Path) -> None:
    put(tmp_path, "red_van_1.png", "light-blue_bus_002.PNG", "red_bus_x.png")
    manifest = read_manifest(tmp_path)
    assert manifest.layout == "sgvehicle"
    assert manifest.images == ["light-blue_bus_002.PNG", "red_bus_x.png", "red_van_1.png"]
    assert names(manifest, "colour") == ["light-blue", "red", "red"]
    assert names(manifest, "type") == ["bus", "bus", "van"]


def test_sgvehicle_forced_reads_folders_and_leaves_odd_names_unknown(tmp_path: Path) -> None:
    put(tmp_path, "one/10_1_1.png", "two/9_2_2.png", "two/odd.png", "two/red_van_3.jpg")
    manifest = read_manifest(tmp_path, "sgvehicle")
    assert manifest.classes == {"colour": ["9", "10"], "type": ["1", "2"]}
    assert names(manifest, "colour") == ["10", "9", "?", "?"]


def test_utkface(tmp_path: Path) -> None:
    files = [
        "part1/0_0_0_20170101.jpg.chip.jpg",
        "part1/9_1_4_20170102.jpg",
        "part2/35_0_2_20170103.jpg.chip.jpg",
        "part2/101_1_3_20170104.jpg",
        "part2/116_1_1_20170105.jpg",
    ]
    put(tmp_path, *files)
    manifest = read_manifest(tmp_path)
    assert manifest.layout == "utkface" and manifest.images == sorted(files)
    assert manifest.classes == {
        "age": ["0-9", "30-39", "100-109", "110-119"],
        "gender": ["male", "female"],
        "race": ["White", "Black", "Asian", "Indian", "Others"],
    }
    by_name = dict(zip(manifest.images, names(manifest, "race"), strict=True))
    assert [by_name[file] for file in files] == ["White", "Others", "Asian", "Indian", "Black"]
    by_name = dict(zip(manifest.images, names(manifest, "age"), strict=True))
    assert [by_name[file] for file in files] == ["0-9", "0-9", "30-39", "100-109", "110-119"]


def test_utkface_names_that_lack_a_part(tmp_path: Path) -> None:
    """The published set has three; they stay, with unknown labels."""
    put(tmp_path, *[f"{20 + i}_{i % 2}_{i % 5}_2017{i}.jpg" for i in range(20)])
    put(tmp_path, "39_1_20170116174525125.jpg.chip.jpg")
    manifest = read_manifest(tmp_path)
    assert manifest.layout == "utkface" and len(manifest) == 21
    row = manifest.images.index("39_1_20170116174525125.jpg.chip.jpg")
    assert all(codes[row] == -1 for codes in manifest.labels.values())


# One folder a class


def test_folders(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.jpg", "cat/more/2.WebP", "dog/3.gif", "dog/4.tiff", "stray.jpg")
    put(tmp_path, "cat/.hidden.jpg", ".git/5.jpg", "cat/notes.txt", "empty/readme.md")
    manifest = read_manifest(tmp_path)
    assert manifest.layout == "folders"
    assert manifest.images == ["cat/1.jpg", "cat/more/2.WebP", "dog/3.gif", "dog/4.tiff"]
    assert manifest.classes == {"class": ["cat", "dog"]}
    assert manifest.labels["class"].tolist() == [0, 0, 1, 1]
    assert manifest.split is None and manifest.group is None


def test_folders_with_names_of_three_parts_stay_folders(tmp_path: Path) -> None:
    put(tmp_path, "cat/img_2020_1.png", "dog/img_2020_2.png")
    assert read_manifest(tmp_path).layout == "folders"


def test_one_folder(tmp_path: Path) -> None:
    put(tmp_path, "cats/1.jpg", "cats/2.jpg")
    refused(tmp_path, "task class has only the class cats", "layout folders", "another class")


# What is there, and what is not


def test_auto_takes_the_first_that_is_there(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.jpg", "dog/2.jpg")
    assert read_manifest(tmp_path).layout == "folders"
    thesis(tmp_path, GOOD)
    assert read_manifest(tmp_path).layout == "thesis"
    write_csv(tmp_path, "image,kind\ncat/1.jpg,x\ndog/2.jpg,y\n")
    assert read_manifest(tmp_path).layout == "csv"
    assert read_manifest(tmp_path, "thesis").layout == "thesis"
    assert read_manifest(tmp_path, "folders").layout == "folders"


def test_no_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "there is no folder", "nowhere", "--data")


@pytest.mark.parametrize("layout", ["auto", "sgvehicle", "utkface"])
def test_no_pictures(tmp_path: Path, layout: str) -> None:
    put(tmp_path, "readme.txt", ".sample-unfinished/images/1.jpg")
    sentences = (
        "there are no pictures",
        "`make train` without DATA_DIR",
        "`python -m app prefetch`",
    )
    refused(tmp_path, *sentences, layout=layout)


def test_thesis_folders_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "train/images").mkdir(parents=True)
    (tmp_path / "train/labels").mkdir()
    refused(tmp_path, "there are no pictures")


@pytest.mark.parametrize(
    ("layout", "what"),
    [
        ("csv", "labels.csv"),
        ("thesis", "images/ and labels/"),
        ("sgvehicle", "color_type_id.png"),
        ("utkface", "age_gender_race_id.jpg"),
        ("folders", "folder with pictures"),
    ],
)
def test_a_forced_layout_that_is_not_there(tmp_path: Path, layout: str, what: str) -> None:
    put(tmp_path, "a.jpg", "b.jpg")
    refused(tmp_path, f"does not have the layout {layout}", what, "--layout", layout=layout)


@pytest.mark.parametrize(
    "files", [["a.jpg", "b.jpg"], ["train/cat/1.jpg", "train/dog/2.jpg", "val/cat/3.jpg"]]
)
def test_what_is_not_recognised(tmp_path: Path, files: list[str]) -> None:
    put(tmp_path, *files)
    four = ["labels.csv", "train|valid|calib|test", "color_type_id.png", "one folder a class"]
    refused(tmp_path, f"{len(files)} pictures", "was not recognised", *four)


def test_every_suffix_in_any_case(tmp_path: Path) -> None:
    suffixes = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "JPG", "Png"]
    put(tmp_path, *[f"x/{i}.{suffix}" for i, suffix in enumerate(suffixes)], "y/a.jpg")
    put(tmp_path, "x/jpg", "x/a.svg", "x/a.jpg.txt", "x/a.heic")
    found = [re.sub(r".*\.", "", image) for image in read_manifest(tmp_path).images]
    assert sorted(found) == sorted([*suffixes, "jpg"])


# What is no file


def test_pipes_are_no_pictures_and_links_to_nowhere_are_found_out_later(tmp_path: Path) -> None:
    put(tmp_path, "x/a.jpg", "y/b.jpg")
    os.mkfifo(tmp_path / "x/pipe.jpg")
    (tmp_path / "x/itself.jpg").symlink_to("itself.jpg")
    (tmp_path / "y/nowhere.jpg").symlink_to("absent.jpg")
    assert read_manifest(tmp_path).images == ["x/a.jpg", "x/itself.jpg", "y/b.jpg", "y/nowhere.jpg"]
    write_csv(tmp_path, "image,kind\nx/a.jpg,1\nx/itself.jpg,2\n")
    refused(tmp_path, "1 of 2 pictures", "are missing (x/itself.jpg)")


def test_a_path_may_be_written_in_several_ways_but_named_once(tmp_path: Path) -> None:
    write_csv(tmp_path, "image,kind\n./x//a.jpg,1\nx/./b.jpg,2\n", "x/a.jpg", "x/b.jpg")
    assert read_manifest(tmp_path).images == ["x/a.jpg", "x/b.jpg"]
    write_csv(tmp_path, "image,kind\nx//a.jpg,1\nx/a.jpg,2\n")
    refused(tmp_path, "1 of its pictures more than once (x/a.jpg)")
    write_csv(tmp_path, "image,kind\nx/\0.jpg,1\nx/a.jpg,2\n")
    refused(tmp_path, "NUL")
    write_csv(tmp_path, f"image,kind\n{'x' * 300}/a.jpg,1\nx/a.jpg,2\n")
    refused(tmp_path, "1 of 2 pictures", "are missing")


def test_names_that_look_the_same_are_told_from_those_that_are_not_there(tmp_path: Path) -> None:
    write_csv(tmp_path, "image,kind\n\u00e9.jpg,1\nb.jpg,2\n", "e\u0301.jpg", "b.jpg")
    refused(tmp_path, "are missing", "in another form of Unicode than in the table")


# What may not be read


@pytest.mark.parametrize("place", ["x", "labels.csv"])
def test_a_folder_that_may_not_be_read_is_one_sentence(place: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        data = Path(name) / "data"
        put(data, "x/a.jpg", "y/b.jpg")
        if place == "labels.csv":
            write_csv(data, "image,kind\nx/a.jpg,x\ny/b.jpg,y\n")
        (data / place).chmod(0)
        user = os.geteuid()
        os.seteuid(user or 65534)  # To root everything is readable.
        try:
            refused(data, f"{place} cannot be read", "give this user the right to")
        finally:
            os.seteuid(user)
            (data / place).chmod(0o755)
