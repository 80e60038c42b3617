"""A full disk is a sentence, whoever met it; a defect keeps its traceback."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.disk import writing
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
