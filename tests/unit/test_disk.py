"""A full disk is a sentence, whoever met it; a defect keeps its traceback."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.disk import Need, require_room, writing
from app.errors import SuresetError


def test_an_os_error_is_a_sentence(tmp_path: Path) -> None:
    sentence = r"the log cannot be written to .* \(No space left on device\).*--logs"
    with pytest.raises(SuresetError, match=sentence), writing("the log", tmp_path, "--logs"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_any_error_on_a_full_disk_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    room = pytest.raises(SuresetError, match="hardly any room is left")
    with room, writing("the log", tmp_path / "not" / "yet", "--logs"):
        raise RuntimeError("PytorchStreamWriter failed writing file")


def test_a_defect_stays_a_defect(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), writing("the log", tmp_path, "--logs"):
        raise ZeroDivisionError


# ---- room, before anything is written


def room(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


def test_folders_of_one_disk_share_its_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = [Need(tmp_path / "a", "--a", 1_500_000), Need(tmp_path / "b" / "c", "--b", 500_000)]
    room(monkeypatch, 2_000_000)
    require_room("it", needs)
    room(monkeypatch, 1_999_999)
    with pytest.raises(SuresetError) as refusal:
        require_room("it", needs)
    assert str(refusal.value) == (
        f"it needs 2.0 MB in {tmp_path}/a and {tmp_path}/b/c, and 2.0 MB are free: make room "
        "there, or name another folder with --a or --b."
    )


def test_folders_of_two_disks_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    free = {tmp_path: 3_000_000, other: 1_000_000}
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=free[place]))
    require_room("it", [Need(tmp_path, "--a", 3_000_000), Need(other, "--b", 1_000_000)])
    sentence = r"it needs 1\.5 MB in /dev/shm, and 1\.0 MB are free: .* with --b\.$"
    with pytest.raises(SuresetError, match=sentence):
        require_room("it", [Need(tmp_path, "--a", 3_000_000), Need(other, "--b", 1_500_000)])


def test_nothing_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, 0)
    require_room("it", [Need(tmp_path, "--a", 0)])
