"""What the cache holds, and what pruning takes of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from app.errors import SuresetError
from app.pipeline import cache as pruning
from app.pipeline.cache import cache, entries
from app.settings import load_settings
from tests.unit.pipeline.conftest import Run

DAY = 24 * 60 * 60


def put(path: Path, size: int, days: float) -> None:
    """A file of some bytes that was last written so many days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    os.utime(path.parent, (then, then))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "features/old/rows", 1000, 40)
    put(tmp_path / "features/old/keys", 16, 40)
    put(tmp_path / "features/new/rows", 2000, 40)
    put(tmp_path / "features/new/facts.json", 0, 2)
    put(tmp_path / "fitting/a.ckpt", 300, 40)
    put(tmp_path / "fitting/a.lock", 0, 40)
    put(tmp_path / "finetuned/b.safetensors", 200, 40)
    put(tmp_path / "weights/resnet50.pth", 500, 400)
    put(tmp_path / "datasets/cars.archive", 700, 400)
    (tmp_path / "features/new/facts.json").write_text(
        '{"encoder": "e", "runtime": "openvino-bf16"}'
    )
    return tmp_path


def names(folder: Path) -> list[str]:
    return [str(entry.path.relative_to(folder)) for entry in entries(folder)]


def test_sizes_and_ages(folder: Path) -> None:
    found = {str(e.path.relative_to(folder)): e for e in entries(folder)}
    assert {name: entry.kind for name, entry in found.items()} == {
        "datasets/cars.archive": "datasets",
        "features/new": "features",
        "features/old": "features",
        "finetuned/b.safetensors": "finetuned",
        "fitting/a.ckpt": "fitting",
        "weights/resnet50.pth": "weights",
    }
    assert found["features/old"].size == 1016
    assert found["weights/resnet50.pth"].size == 500
    assert str(found["features/new"]) == "e, openvino-bf16"
    assert time.time() - found["features/old"].used == pytest.approx(40 * DAY, abs=60)
    assert time.time() - found["features/new"].used < DAY


def test_a_cache_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert entries(tmp_path / "absent") == []


def test_pruning_takes_what_was_computed_and_not_used(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(cache_dir=str(folder))
    cache(settings, 41)
    assert len(names(folder)) == 6
    cache(settings, 30)
    assert names(folder) == ["datasets/cars.archive", "features/new", "weights/resnet50.pth"]
    told = capsys.readouterr()
    assert "removed 1.5 kB that nobody used for 30 days" in told.err
    assert "weights" in told.out and "e, openvino-bf16" in told.out


def test_what_is_in_use_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(folder / "features/old.lock"):
        cache(load_settings(cache_dir=str(folder)), 30)
    assert "features/old" in names(folder)
    assert "in use" in capsys.readouterr().err


def test_what_cannot_be_removed_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, ignore_errors: bool = False) -> None:
        if ignore_errors:
            return
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pruning.shutil, "rmtree", refuse)
    with pytest.raises(SuresetError, match=r"old cannot be removed .Permission denied"):
        cache(load_settings(cache_dir=str(folder)), 30)


def test_what_a_killed_pruning_left_is_taken_by_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is no longer where anybody looks for it."""

    def killed(path: Path, **_: object) -> None:
        if path.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pruning.shutil, "rmtree", killed)
        cache(load_settings(cache_dir=str(folder)), 30)
    assert not (folder / "features/old").exists()
    assert (folder / "features/.old/rows").is_file()
    cache(load_settings(cache_dir=str(folder)), 30)
    assert names(folder) == ["datasets/cars.archive", "features/new", "weights/resnet50.pth"]


def test_the_command_and_doctor_tell_of_it(run: Run) -> None:
    assert run("cache", "--prune", "0").returncode == 2
    told = run("cache")
    assert told.returncode == 0
    assert "features" in told.stdout and "openvino" in told.stdout
    looked = run("doctor", "--port", "0").stdout
    [line] = [line for line in looked.splitlines() if line.startswith("cache: ")]
    assert "in cache" in line and "features" in line and "graphs" in line
