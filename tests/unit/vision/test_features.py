"""The feature cache: computed once, whole whatever happens, and shared by two runs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.data.pictures import Preprocess, digest, read_rgb
from app.errors import SuresetError
from app.rowstore import RowStore
from app.vision.features import _MOST_UNWRITTEN, FeatureCache

GEOMETRY = Preprocess(resize=32, size=32, interpolation="bilinear")


class Means:
    """A runtime whose features are the mean colour of a picture: exact, and easy to check."""

    kind, dimensions, batch = "means", 3, 4

    def __init__(self, pause: float = 0.0) -> None:
        self.pictures = 0
        self.pause = pause

    def encode(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for batch in batches:
            self.pictures += len(batch)
            time.sleep(self.pause)
            yield batch.mean((1, 2), dtype=np.float64).astype(np.float32)


def pictures(folder: Path, n: int) -> tuple[list[Path], np.ndarray]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:03}.png" for i in range(n)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    return paths, digests(paths)


def digests(paths: list[Path]) -> np.ndarray:
    return np.stack([np.frombuffer(digest(path.read_bytes()), np.uint8) for path in paths])


def expected(paths: list[Path]) -> np.ndarray:
    return np.stack([read_rgb(p, GEOMETRY).mean((0, 1)).astype(np.float32) for p in paths])


def test_each_picture_is_computed_once(tmp_path: Path) -> None:
    paths, keys = pictures(tmp_path, 30)
    runtime = Means()
    cache = FeatureCache(tmp_path / "cache", "e", runtime, GEOMETRY)
    cache.features(paths.__getitem__, keys[:20])
    assert runtime.pictures == 20
    order = np.random.default_rng(1).permutation(30)
    found, unreadable = cache.features(lambda row: paths[order[row]], keys[order])
    assert runtime.pictures == 30
    assert unreadable == {}
    np.testing.assert_allclose(found, expected([paths[i] for i in order]), rtol=1e-6)


def test_copies_are_computed_once(tmp_path: Path) -> None:
    paths, keys = pictures(tmp_path, 3)
    runtime = Means()
    cache = FeatureCache(tmp_path / "cache", "e", runtime, GEOMETRY)
    found, _ = cache.features((paths * 2).__getitem__, np.concatenate([keys, keys]))
    assert runtime.pictures == 3
    assert (found[:3] == found[3:]).all()


def test_a_copy_stands_in_for_one_that_is_gone(tmp_path: Path) -> None:
    paths, keys = pictures(tmp_path, 2)
    twice = [tmp_path / "gone.png", *paths, tmp_path / "gone too.png"]
    cache = FeatureCache(tmp_path / "cache", "e", Means(), GEOMETRY)
    found, unreadable = cache.features(twice.__getitem__, keys[[0, 0, 1, 0]])
    assert unreadable == {}
    np.testing.assert_allclose(found, expected([paths[i] for i in (0, 0, 1, 0)]), rtol=1e-6)


def test_another_geometry_or_precision_is_another_cache(tmp_path: Path) -> None:
    paths, keys = pictures(tmp_path, 4)
    runtime = Means()
    FeatureCache(tmp_path / "cache", "e", runtime, GEOMETRY).features(paths.__getitem__, keys)
    other = Preprocess(resize=40, size=32, interpolation="bilinear")
    FeatureCache(tmp_path / "cache", "e", runtime, other).features(paths.__getitem__, keys)
    runtime.kind = "bf16"
    FeatureCache(tmp_path / "cache", "e", runtime, GEOMETRY).features(paths.__getitem__, keys)
    assert runtime.pictures == 12


def test_a_truncated_picture_is_reported_by_its_row(tmp_path: Path) -> None:
    paths, _ = pictures(tmp_path, 10)
    whole = paths[4].read_bytes()
    paths[4].write_bytes(whole[: len(whole) // 2])
    cache = FeatureCache(tmp_path / "cache", "e", Means(), GEOMETRY)
    found, unreadable = cache.features(paths.__getitem__, digests(paths))
    assert list(unreadable) == [4] and "damaged" in unreadable[4]
    others = [p for p in paths if p != paths[4]]
    np.testing.assert_allclose(np.delete(found, 4, axis=0), expected(others), rtol=1e-6)


def test_a_picture_replaced_after_it_was_scanned_is_not_stored(tmp_path: Path) -> None:
    """Its features would otherwise stand under the old content's digest for good."""
    paths, keys = pictures(tmp_path, 4)
    old = paths[1].read_bytes()
    paths[1].write_bytes(paths[2].read_bytes())
    cache = FeatureCache(tmp_path / "cache", "e", Means(), GEOMETRY)
    _, unreadable = cache.features(paths.__getitem__, keys)
    assert "changed" in unreadable[1] and len(unreadable) == 1
    paths[1].write_bytes(old)
    found, unreadable = cache.features(paths.__getitem__, keys)
    assert unreadable == {}
    np.testing.assert_allclose(found, expected(paths), rtol=1e-6)


@pytest.mark.parametrize(("features", "keys"), [(5, 0), (0, 7), (17, 0), (0, 0)])
def test_what_a_killed_run_left_is_cut_off(tmp_path: Path, features: int, keys: int) -> None:
    paths, marks = pictures(tmp_path, 20)
    cache = FeatureCache(tmp_path / "cache", "e", Means(), GEOMETRY)
    cache.features(paths.__getitem__, marks[:8])
    for name, extra in (("rows", features), ("keys", keys)):
        with open(cache.folder / name, "ab") as file:
            file.write(b"\x01" * extra)
    found, _ = cache.features(paths.__getitem__, marks)
    np.testing.assert_allclose(found, expected(paths), rtol=1e-6)


class Stopped(Means):
    """A runtime that is told to stop when three batches are done."""

    def encode(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for number, features in enumerate(super().encode(batches)):
            if number == 3:
                raise SystemExit(143)
            yield features


def test_told_to_stop_it_keeps_what_is_done_and_decodes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, keys = pictures(tmp_path, 60)
    decoded: list[bytes] = []

    def slowly(data: bytes, geometry: Preprocess) -> np.ndarray:
        decoded.append(data)
        time.sleep(0.5 if len(decoded) > 16 else 0)  # Four batches are drawn.
        return read_rgb(data, geometry)

    monkeypatch.setattr("app.vision.features.read_rgb", slowly)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    with pytest.raises(SystemExit):
        FeatureCache(tmp_path / "cache", "e", Stopped(), GEOMETRY).features(paths.__getitem__, keys)
    assert len(decoded) < 20  # Another 16 waited.
    runtime = Means()
    found, _ = FeatureCache(tmp_path / "cache", "e", runtime, GEOMETRY).features(
        paths.__getitem__, keys
    )
    assert runtime.pictures == 60 - 12
    np.testing.assert_allclose(found, expected(paths), rtol=1e-6)


class Told(Means):
    """A runtime that tells a file of each batch it is done with."""

    def __init__(self, told: Path) -> None:
        super().__init__(pause=0.01)
        self.told = told

    def encode(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for features in super().encode(batches):
            with open(self.told, "ab") as file:
                file.write(b"x" * len(features))
            yield features


def extract_slowly(folder: Path, paths: list[Path], keys: np.ndarray) -> None:
    runtime = Told(folder / "told")
    FeatureCache(folder / "cache", "e", runtime, GEOMETRY).features(paths.__getitem__, keys)


def test_killed_at_any_moment_a_run_loses_the_batch_in_flight(tmp_path: Path) -> None:
    paths, keys = pictures(tmp_path, 400)
    told = tmp_path / "told"
    told.touch()
    stored = 0
    for more in (20, 61, 90):
        run = multiprocessing.get_context("spawn").Process(
            target=extract_slowly, args=(tmp_path, paths, keys)
        )
        done = stored + more
        told.write_bytes(b"x" * stored)
        run.start()
        deadline = time.monotonic() + 30
        while told.stat().st_size < done and time.monotonic() < deadline:
            time.sleep(0.001)
        assert run.pid is not None
        os.kill(run.pid, signal.SIGKILL)
        run.join()
        cache = FeatureCache(tmp_path / "cache", "e", Means(), GEOMETRY)
        stored = len(keys) - len(cache.missing(keys))
        # Some may be on their way to the disk, while the next were computed.
        assert done <= told.stat().st_size <= stored + 2 * _MOST_UNWRITTEN < len(keys)
    runtime = Means()
    cache = FeatureCache(tmp_path / "cache", "e", runtime, GEOMETRY)
    found, _ = cache.features(paths.__getitem__, keys)
    assert runtime.pictures == len(keys) - stored
    np.testing.assert_allclose(found, expected(paths), rtol=1e-6)


def test_of_many_pictures_the_few_new_ones_are_computed(tmp_path: Path) -> None:
    paths, keys = pictures(tmp_path, 100)
    old = np.random.default_rng(1).integers(0, 256, (100_000, 16), np.uint8)
    runtime = Means()
    cache = FeatureCache(tmp_path / "cache", "e", runtime, GEOMETRY)
    store = RowStore(cache.folder, 4 * cache.dimensions)
    with store.lock():
        store.append(old, old[:, :12])
    found, _ = cache.features(lambda row: paths[row - len(old)], np.concatenate([old, keys]))
    assert runtime.pictures == 100
    assert (found[: len(old)].view(np.uint8) == old[:, :12]).all()
    np.testing.assert_allclose(found[len(old) :], expected(paths), rtol=1e-6)


def test_two_runs_at_once_share_the_work(tmp_path: Path) -> None:
    paths, keys = pictures(tmp_path, 100)
    context = multiprocessing.get_context("spawn")
    runs = [context.Process(target=extract_slowly, args=(tmp_path, paths, keys)) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
        assert run.exitcode == 0
    runtime = Means()
    cache = FeatureCache(tmp_path / "cache", "e", runtime, GEOMETRY)
    found, _ = cache.features(paths.__getitem__, keys)
    assert runtime.pictures == 0
    assert (cache.folder / "keys").stat().st_size == 16 * 100
    np.testing.assert_allclose(found, expected(paths), rtol=1e-6)


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    paths, keys = pictures(tmp_path, 2)
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(SuresetError, match=r"features cannot be written to .*--cache"):
        FeatureCache(tmp_path / "cache", "e", Means(), GEOMETRY).features(paths.__getitem__, keys)
