"""What is said when training is stopped, before there is a bundle and afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.bundle import new_bundle
from app.pipeline import train
from app.pipeline.tracking import Tracking
from app.settings import Settings, load_settings
from tests.unit.pipeline.conftest import run_in


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return load_settings(cache_dir="kept", save_as="x")


def stopped(settings: Settings, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a stopped training says."""
    with pytest.raises(SystemExit):
        train.train(settings)
    [said] = capsys.readouterr().err.splitlines()
    return said


def test_before_there_is_a_bundle_the_same_command_goes_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(settings: Settings, name: str, _: Tracking) -> Path:
        with new_bundle(settings.models_dir, name, {}):
            raise SystemExit(143)

    monkeypatch.setattr(train, "_train", fit)
    said = stopped(settings, capsys)
    assert "stay in kept" in said and "the same command goes on" in said


def test_afterwards_the_bundle_is_whole(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(settings: Settings, name: str, _: Tracking) -> Path:
        with new_bundle(settings.models_dir, name, {}):
            pass
        raise SystemExit(143)

    monkeypatch.setattr(train, "_train", fit)
    assert stopped(settings, capsys) == "stopped: the bundle models/x is whole"


def test_without_fine_tuning_another_process_of_the_training_ends(tmp_path: Path) -> None:
    """At once, and before it looks for pictures."""
    done = run_in(tmp_path, "train", RANK="1")
    assert done.returncode == 0
    [said] = done.stderr.splitlines()
    assert said.startswith("process 1: only --finetune is shared among processes")
    assert not list(tmp_path.iterdir())


def test_another_process_says_nothing_but_why_it_cannot_take_part(tmp_path: Path) -> None:
    done = run_in(tmp_path, "train", "--finetune", "last", RANK="1")
    assert done.returncode == 1
    [said] = done.stderr.splitlines()
    assert said.startswith("error: ")
