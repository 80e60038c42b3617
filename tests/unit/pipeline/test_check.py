"""``data check`` on folders with planted defects: each is found, and none is invented."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.conformal.calibration import fewest_scores
from app.conformal.checks import as_alpha
from app.data.checking.looks import Looks, look
from app.data.layouts import read_manifest
from app.data.manifest import SPLITS, Manifest
from app.data.sample import write_sample
from app.errors import SuresetError
from app.pipeline import check as checking
from app.pipeline.check import check, find
from app.pipeline.pictures import find_pictures
from app.settings import Settings, load_settings
from tests.unit.data.test_check_looks import bomb
from tests.unit.pipeline.conftest import run_in

#: At which the few calibration pictures of a small set are enough.
ALPHA = 0.3

Row = list[str]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample") / "data"
    write_sample(root, 100)
    return root


@pytest.fixture
def rows(sample: Path, tmp_path: Path) -> list[Row]:
    """Rows ``image,colour,type,split`` of a copy of the sample set in ``tmp_path/data``."""
    shutil.copytree(sample, tmp_path / "data")
    with open(sample / "labels.csv", newline="") as file:
        return [[*row, ""] for row in csv.reader(file)][1:]


def label(root: Path, rows: list[Row], *more: str) -> None:
    """Write ``labels.csv``; ``more`` names columns beyond the split's."""
    with open(root / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "colour", "type", "split", *more], *rows])


def settings(folder: Path, data: Path | None = None, alpha: float = ALPHA) -> Settings:
    data = data or folder / "data"
    return load_settings(
        data_dir=data, logs_dir=folder / "logs", alpha=alpha, layout="auto", seed=0
    )


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def checked(folder: Path, data: Path | None = None, alpha: float = ALPHA) -> dict[str, Any]:
    """What a check finds; its status is whether something is wrong."""
    status = check(settings(folder, data, alpha))
    text = (folder / "logs" / "data-check" / "check.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text, parse_constant=refuse)
    assert status == any(content["wrong"].values())
    return content


def images(group: dict[str, Any]) -> list[str]:
    return [picture["image"] for picture in group["pictures"]]


def test_nothing_is_invented_on_the_sample_set(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = checked(tmp_path, sample)
    assert not any(content["wrong"].values())
    assert content["found"]["pictures"] == content["found"]["readable"] == 100
    assert content["found"]["identical"] == content["found"]["alike"] == 0
    assert "nothing is wrong" in capsys.readouterr().out
    assert sorted(file.name for file in (tmp_path / "logs" / "data-check").iterdir()) == [
        "check.html",
        "check.json",
    ]


def test_splits_are_those_of_training(sample: Path, tmp_path: Path) -> None:
    content = checked(tmp_path, sample)
    pictures = find_pictures(settings(tmp_path, sample))
    assert content["found"]["splits"] == pictures.sizes()
    for task, names in pictures.manifest.classes.items():
        for code, name in enumerate(names):
            assert content["found"]["tasks"][task]["classes"][name] == {
                split: int((pictures.labels(pictures.rows(split))[task] == code).sum())
                for split in SPLITS
            }


def test_each_planted_defect_is_found(tmp_path: Path, rows: list[Row]) -> None:
    root = tmp_path / "data"
    whole = (root / rows[30][0]).read_bytes()
    (root / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "bomb.bmp").write_bytes(bomb())
    (root / "text.png").write_text("no picture")
    (root / "same.jpg").write_bytes((root / rows[31][0]).read_bytes())
    Image.open(root / rows[32][0]).save(root / "again.jpg", quality=70)
    rows[32][3] = "train"
    Image.new("RGB", (256, 256), (2, 2, 2)).save(root / "dark.png")
    other = {"white": "black"}
    label(
        root,
        [
            *rows,
            *([name, "white", "sedan", ""] for name in ("cut.jpg", "bomb.bmp", "text.png")),
            ["same.jpg", other.get(rows[31][1], "white"), rows[31][2], ""],
            ["again.jpg", rows[32][1], "rickshaw", "test"],
            ["dark.png", "black", "", ""],
        ],
    )
    content = checked(tmp_path)
    found, wrong = content["found"], content["wrong"]

    assert (found["pictures"], found["readable"]) == (106, 103)
    reasons = {one["image"]: one["reason"] for one in wrong["unreadable"]}
    assert set(reasons) == {"cut.jpg", "bomb.bmp", "text.png"}
    assert "truncated" in reasons["cut.jpg"]
    assert "too large" in reasons["bomb.bmp"]
    assert "not a picture" in reasons["text.png"]

    [same] = wrong["identical_with_different_labels"]
    assert images(same) == [rows[31][0], "same.jpg"] and same["differ"] == ["colour"]
    [again] = wrong["alike_with_different_labels"]
    assert images(again) == [rows[32][0], "again.jpg"] and again["differ"] == ["type"]
    assert wrong["alike_across_splits"] == [again] and again["splits"] == ["train", "test"]
    assert wrong["given_two_splits"] == wrong["refused"] == []

    assert found["tasks"]["type"]["rarest"][0] == "rickshaw"
    assert found["tasks"]["type"]["classes"]["rickshaw"] == {**dict.fromkeys(SPLITS, 0), "test": 1}
    assert sum(found["tasks"]["type"]["unlabelled"].values()) == 1
    seen = {tuple(row[1:3]) for row in rows} | {
        (other.get(rows[31][1], "white"), rows[31][2]),
        (rows[32][1], "rickshaw"),
    }
    combinations = found["combinations"]
    assert (combinations["possible"], combinations["seen"]) == (12 * 12, len(seen))
    assert combinations["most_expected"]
    for one in combinations["most_expected"]:
        assert tuple(one["classes"].values()) not in seen

    assert {"image": "dark.png", "width": 256, "height": 256} in content["look_at"]["dark"]
    never = content["conformal"]["classes"]["type"]["rickshaw"]
    assert (never["scores"], never["smallest_alpha"]) == (0, None)


def test_all_copies_with_contradicting_splits_are_named(tmp_path: Path, rows: list[Row]) -> None:
    root = tmp_path / "data"
    for i in (40, 41):
        (root / f"same{i}.jpg").write_bytes((root / rows[i][0]).read_bytes())
        rows[i][3] = "train"
    groups = [*([*row, ""] for row in rows)]
    groups[50][3:], groups[51][3:] = ["valid", "g"], ["test", "g"]
    added = [[f"same{i}.jpg", *rows[i][1:3], "test", ""] for i in (40, 41)]
    label(root, [*groups, *added], "group")
    content = checked(tmp_path)
    named = [
        [(picture["image"], picture["split"]) for picture in group]
        for group in content["wrong"]["given_two_splits"]
    ]
    assert named == [
        [(rows[40][0], "train"), ("same40.jpg", "test")],
        [(rows[41][0], "train"), ("same41.jpg", "test")],
        [(rows[50][0], "valid"), (rows[51][0], "test")],
    ]
    assert content["found"]["identical"] == 2
    with pytest.raises(SuresetError, match="given another split"):
        find_pictures(settings(tmp_path))


def test_a_folder_of_logs_that_cannot_be_written_is_said_before_the_look(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").write_text("a file where a folder should be")
    monkeypatch.setattr(checking, "look", lambda _: pytest.fail("the pictures were read"))
    with pytest.raises(SuresetError, match=r"what is found cannot be written to .*--logs"):
        check(load_settings(data_dir=str(sample), logs_dir=str(tmp_path / "logs")))


def test_what_training_would_refuse_is_wrong(sample: Path, tmp_path: Path, rows: list[Row]) -> None:
    content = checked(tmp_path, sample, alpha=0.01)
    [sentence] = content["wrong"]["refused"]
    assert "alpha 0.01 needs 197" in sentence
    simultaneous = content["conformal"]["simultaneous"]
    calib = content["found"]["splits"]["calib"]
    assert simultaneous["scores"] == -(-calib // 2) and simultaneous["missing"] == 197 - calib
    assert content["conformal"]["task"]["colour"]["missing"] == 99 - calib

    for row in rows:
        row[1], row[3] = ("red", "train") if row[1] == "red" else (row[1], "test")
    label(tmp_path / "data", rows)
    sentences = checked(tmp_path)["wrong"]["refused"]
    assert len(sentences) == 2 and "fewer than 2 classes of colour" in sentences[0]


def test_a_folder_that_cannot_be_read_at_all(tmp_path: Path) -> None:
    with pytest.raises(SuresetError, match="there is no folder"):
        check(settings(tmp_path))
    assert not (tmp_path / "logs").exists()


def test_no_picture_can_be_read(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for name in "ab":
        (root / f"{name}.png").write_text(f"no picture {name}")
    label(root, [["a.png", "red", "van", ""], ["b.png", "blue", "bus", ""]])
    content = checked(tmp_path)
    assert len(content["wrong"]["unreadable"]) == 2 and content["found"]["readable"] == 0


def test_hostile_names(sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["<script>alert(1)<script>", "[red]", "two\nlines", "\x1b[31m", "caf\udce9"]
    pictures = sorted((sample / "images").iterdir())
    for i, name in enumerate(names):
        (tmp_path / "data" / name).mkdir(parents=True)
        for picture in pictures[20 * i : 20 * i + 20]:
            shutil.copy(picture, tmp_path / "data" / name / f"{name}{picture.name}")
    # The same picture under two hostile names.
    shutil.copy(pictures[0], tmp_path / "data" / names[1] / "same.jpg")
    content = checked(tmp_path)
    assert set(content["found"]["tasks"]["class"]["classes"]) == set(names)
    assert images(content["wrong"]["identical_with_different_labels"][0]) == sorted(
        [f"{names[0]}/{names[0]}{pictures[0].name}", f"{names[1]}/same.jpg"]
    )
    assert "\x1b" not in capsys.readouterr().out
    page = (tmp_path / "logs" / "data-check" / "check.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page


def test_the_command_and_its_status(sample: Path, tmp_path: Path) -> None:
    words = "data", "check", "--data", str(sample), "--logs", "logs"
    clean = run_in(tmp_path, *words, "--alpha", str(ALPHA))
    assert (clean.returncode, "nothing is wrong" in clean.stdout) == (0, True), clean.stderr
    refused = run_in(tmp_path, *words, "--alpha", "0.01")
    assert refused.returncode == 1 and "training would refuse" in refused.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"logs"}


def unlooked(n: int) -> Looks:
    """At pictures that are all different."""
    rng = np.random.default_rng(0)
    content = rng.integers(0, 256, (n, 16), np.uint8)
    zeros = np.zeros((n, 2), np.int64)
    hashes = rng.integers(0, 2**63, n).astype(np.uint64)
    return Looks(content, {}, {}, content, hashes, np.zeros((n, 3)), zeros, {})


@given(
    st.integers(0, 30), st.integers(0, 12), st.sampled_from([0.01, 0.05, 0.1, 0.15, 0.2, 0.35, 0.9])
)
def test_thresholds_become_finite_as_it_says(n: int, unknown: int, alpha: float) -> None:
    """With ``missing`` more, or at ``smallest_alpha``, and not before."""
    total = n + unknown + 4
    codes = np.array([0] * n + [-1] * unknown + [0, 1, 0, 1])
    given = np.array(["calib"] * (n + unknown) + ["train", "train", "valid", "test"])
    names = [f"{i}.png" for i in range(total)]
    m = Manifest(Path(), "csv", names, {"k": ["a", "b"]}, {"k": codes}, given)
    found = find(m, unlooked(total), alpha, 0).conformal
    assert found.needed == fewest_scores(as_alpha(alpha))
    assert found.task["k"] == found.classes["k"]["a"]
    one = found.task["k"]
    assert one.scores == n and (one.missing == 0) == (n >= found.needed)
    assert n + one.missing == max(n, found.needed) and one.to_add == one.missing
    if one.smallest_alpha is None:
        assert n == 0
    else:
        assert fewest_scores(as_alpha(one.smallest_alpha)) <= n
        assert fewest_scores(as_alpha(round(one.smallest_alpha - 1e-4, 4))) > n
    assert found.simultaneous is None
    assert found.classes["k"]["b"].scores == 0 and found.classes["k"]["b"].smallest_alpha is None


def test_where_splits_are_drawn_more_is_to_be_added(sample: Path) -> None:
    m = read_manifest(sample)
    found = find(m, look(m), 0.1, 0)
    short = found.conformal.classes["colour"]["purple"]
    assert short.missing > 0
    assert short.to_add * 0.15 >= short.missing > (short.to_add - 1) * 0.15
    fixed = replace(
        m, split=np.array(["train"] * 50 + ["valid"] * 10 + ["calib"] * 20 + ["test"] * 20)
    )
    assert all(
        one.to_add == one.missing
        for one in find(fixed, look(fixed), 0.1, 0).conformal.classes["colour"].values()
    )
