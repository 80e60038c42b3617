"""What doctor asks for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.pipeline.doctor import doctor
from app.settings import load_settings

FOLDERS = ("models", "cache", "logs", "wandb")


def test_every_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"{name.upper()}_DIR", str(tmp_path / name))
    monkeypatch.setattr(os, "access", lambda *_: False)  # To root everything is writable.
    doctor(load_settings(port=0))
    said = capsys.readouterr().out
    for name in FOLDERS:
        assert f"-> {tmp_path / name} cannot be written" in said
