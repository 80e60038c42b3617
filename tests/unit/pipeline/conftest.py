"""One real, small run, made once and looked at by every test here."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.settings import METHOD, Settings

ROOT = Path(__file__).parents[3]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def clean_environment(**variables: str) -> dict[str, str]:
    """That of this process, with no setting in it but ``variables``, for a process of ours."""
    settings = {name.upper() for name in Settings.model_fields} | {"WANDB_DIR_HOST"}
    clean = {name: value for name, value in os.environ.items() if name not in settings}
    return {**clean, "PYTHONPATH": str(ROOT), **variables}


def run_in(
    folder: Path, *arguments: str, file_limit: int | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """``python -m app …`` in a folder, with no setting in the environment but ``variables``.

    ``file_limit`` is the most bytes a file may grow to: writing more fails, as on a full disk.
    """

    def limit() -> None:
        if file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=folder,
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        timeout=600,
        preexec_fn=limit,
        check=False,
    )


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the embedded backbone was trained on 300 pictures of the sample set."""
    folder = tmp_path_factory.mktemp("workplace")
    chosen: dict[str, Any] = {"BACKBONE": "tf_efficientnet_lite0", "SAMPLE_SIZE": "300"}
    for command in ("prefetch", "train"):
        done = run_in(folder, command, **chosen)
        assert done.returncode == 0, done.stderr
    (folder / "train.txt").write_text(done.stderr)
    return folder


@pytest.fixture
def run(workplace: Path) -> Run:
    """Run a command in the workplace."""
    return partial(run_in, workplace)


@pytest.fixture(scope="session")
def chosen(workplace: Path) -> Path:
    """In the workplace, another folder of bundles: one that was trained to choose its method."""
    every = [word for name in METHOD for word in (f"--{name}", "auto")]
    named = "--models", "chosen", "--save-as", "chosen"
    done = run_in(workplace, "train", *named, *every, BACKBONE="tf_efficientnet_lite0")
    assert done.returncode == 0, done.stderr
    (workplace / "chosen.txt").write_text(done.stderr)
    return workplace / "chosen"
