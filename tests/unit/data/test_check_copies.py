"""Pictures that are the same: which are, and which contradict their labels or splits."""

from __future__ import annotations

import shutil
from io import BytesIO
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.data.checking.copies import alike, find_copies, given_two_splits
from app.data.checking.looks import look
from app.data.drawing.picture import draw_picture
from app.data.manifest import Manifest
from app.data.sample import COLOURS, TYPES

_COLOURS = np.array([[0.0, 0, 0], [8, 8, 8], [8.5, 0, 0], [0, 16, 0]])


@st.composite
def _seen(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contents, hashes near a few centres, and colours; copies of one content look the same."""
    n = draw(st.integers(0, 12))
    centres = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=2))
    hashes, colours = np.zeros(n, np.uint64), np.zeros((n, 3))
    for i in range(n):
        bits = draw(st.lists(st.integers(0, 63), max_size=4, unique=True))
        hashes[i] = draw(st.sampled_from(centres)) ^ sum(1 << bit for bit in bits)
        colours[i] = _COLOURS[draw(st.integers(0, 3))]
    picked = np.array(draw(st.lists(st.integers(0, max(0, n - 1)), max_size=16)) if n else [], int)
    _, content = np.unique(picked, return_inverse=True)
    return content.astype(np.int64), hashes[picked], colours[picked]


@given(_seen())
def test_alike_is_near_in_bits_and_in_colour_or_by_way_of_others(
    seen: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    content, hashes, colours = seen
    n = len(content)
    group = list(range(n))
    for i, j in combinations(range(n), 2):
        bits = (int(hashes[i]) ^ int(hashes[j])).bit_count()
        if bits <= 2 and np.abs(colours[i] - colours[j]).max() <= 8:
            group = [group[i] if g == group[j] else g for g in group]
    found = alike(content, hashes, colours)
    assert found.shape == (n,)
    for i, j in combinations(range(n), 2):
        assert (found[i] == found[j]) == (group[i] == group[j])


def manifest(root: Path, images: list[str], **labels: list[int]) -> Manifest:
    return Manifest(
        root,
        "csv",
        images,
        {task: ["zero", "one", "two"] for task in labels},
        {task: np.array(codes) for task, codes in labels.items()},
    )


def save(root: Path, name: str, seed: int, quality: int = 90) -> None:
    draw_picture(np.random.default_rng(seed), "red", "van").picture.save(
        root / name, quality=quality
    )


def found(m: Manifest, *split: str) -> list[tuple[str, list[str], list[str], list[str]]]:
    groups = find_copies(m, np.array(split), look(m), np.arange(len(m)))
    return [(g.alike, [p.image for p in g.pictures], g.differ, g.splits) for g in groups]


def test_copies_of_three_kinds(tmp_path: Path) -> None:
    save(tmp_path, "a.jpg", 0)
    (tmp_path / "a2.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    save(tmp_path, "b.png", 1)
    save(tmp_path, "b.bmp", 1)
    save(tmp_path, "c.jpg", 2, quality=95)
    save(tmp_path, "c2.jpg", 2, quality=60)
    save(tmp_path, "d.jpg", 3)
    images = ["a.jpg", "a2.jpg", "b.png", "b.bmp", "c.jpg", "c2.jpg", "d.jpg"]
    m = manifest(tmp_path, images, k=[0, 1, 2, 2, 0, 2, 0], other=[0, 0, 1, 1, -1, 2, 0])
    assert found(m, "train", "train", "train", "test", "calib", "calib", "test") == [
        ("bytes", ["a.jpg", "a2.jpg"], ["k"], []),
        ("pixels", ["b.png", "b.bmp"], [], ["train", "test"]),
        ("nearly", ["c.jpg", "c2.jpg"], ["k"], ["calib"]),
    ]


def test_a_file_s_copies_that_differ_do_not_blame_the_picture_beside_them(tmp_path: Path) -> None:
    save(tmp_path, "a.jpg", 2, quality=95)
    (tmp_path / "a2.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    save(tmp_path, "b.jpg", 2, quality=60)
    images, splits = ["a.jpg", "a2.jpg", "b.jpg"], ("train", "train", "train")
    for label, differ in ((-1, []), (0, ["k"])):
        assert found(manifest(tmp_path, images, k=[0, 1, label]), *splits) == [
            ("bytes", ["a.jpg", "a2.jpg"], ["k"], []),
            ("nearly", images, differ, ["train"]),
        ]


def test_the_same_scene_in_another_colour_is_another_picture(tmp_path: Path) -> None:
    """The hash is that of the grey picture, and labels may well be colours."""
    grey = np.asarray(draw_picture(np.random.default_rng(5), "grey", "van").picture.convert("L"))
    for name, weights in (
        ("red", (1, 0.2, 0.2)),
        ("blue", (0.2, 0.2, 1)),
        ("red2", (1, 0.22, 0.2)),
    ):
        picture = (grey[..., None] * np.array(weights)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    m = manifest(tmp_path, ["red.png", "blue.png", "red2.png"], k=[0, 1, 2])
    assert [images for _, images, _, _ in found(m, "train", "train", "train")] == [
        ["red.png", "red2.png"]
    ]


@pytest.mark.parametrize("quality", [85, 50])
def test_of_pictures_saved_again_nearly_all_are_found(quality: int) -> None:
    """Of the library's hashes alone, equal ones: 85 % at quality 85 and 75 % at 50."""
    from cleanvision.issue_managers.duplicate_issue_manager import get_hash

    from app.data.checking.looks import _HASHES

    def hash_of(picture: Image.Image) -> int:
        return int(get_hash(picture, _HASHES["near_duplicates"]), 16)

    hits = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        colour, kind = rng.choice(list(COLOURS)), rng.choice(list(TYPES))
        picture = draw_picture(rng, colour, kind).picture
        file = BytesIO()
        picture.save(file, "JPEG", quality=quality)
        hashes = np.array([hash_of(picture), hash_of(Image.open(file))], np.uint64)
        groups = alike(np.arange(2), hashes, np.zeros((2, 3)))
        hits.append(groups[0] == groups[1])
    assert np.mean(hits) >= 0.95


def test_given_two_splits(tmp_path: Path) -> None:
    digests = np.zeros((7, 16), np.uint8)
    digests[:, 0] = [1, 1, 2, 3, 4, 5, 5]
    m = Manifest(
        tmp_path,
        "csv",
        [f"{i}.png" for i in range(7)],
        {"k": ["a", "b"]},
        {"k": np.zeros(7, np.int64)},
        np.array(["train", "test", "calib", "valid", "train", "test", ""]),
        np.array(["", "", "g", "g", "h", "", ""]),
    )
    assert [rows.tolist() for rows in given_two_splits(m, digests)] == [[0, 1], [2, 3]]


def test_what_differs_is_named_first(tmp_path: Path) -> None:
    save(tmp_path, "0.jpg", 1)
    for i in range(1, 7):
        shutil.copy(tmp_path / "0.jpg", tmp_path / f"{i}.jpg")
    m = manifest(tmp_path, [f"{i}.jpg" for i in range(7)], k=[0, 0, 0, 0, 0, 0, 1])
    [group] = find_copies(m, np.array(["train"] * 7), look(m), np.arange(7))
    assert [copy.image for copy in group.pictures][:3] == ["0.jpg", "6.jpg", "1.jpg"]
