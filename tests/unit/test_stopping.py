"""Told to stop, a process ends soon, with the signal's status, whatever it is in the midst of."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.pipeline.conftest import clean_environment

#: Training that is told to stop while ``logging`` holds its lock. Before Python 3.13 ``logging``
#: keeps it then, so that W&B's thread waits for it, and the main thread for W&B's.
STUCK = """
import logging, os, sys
from app import cli, stopping
from app.pipeline import train

class Cache(dict):
    def clear(self):
        os.kill(os.getpid(), int(os.environ["SIGNAL"]))
        super().clear()

def fit(settings, name, tracking):
    tracking.prepare()
    tracking.begin("a-name", {})
    logging.getLogger("probe")._cache = Cache()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

train._train = fit
stopping._CLEANING_S = 1
stopping.end_when_told_to()
sys.argv[1:] = ["train"]
cli.main()
"""


def run(program: str, folder: Path, number: int) -> subprocess.CompletedProcess[str]:
    """Run a program that sends itself the signal."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=clean_environment(SIGNAL=str(int(number))),
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_lock_that_is_never_released_keeps_nobody(tmp_path: Path, number: int) -> None:
    started = time.monotonic()
    done = run(STUCK, tmp_path, number)
    assert done.returncode == 128 + number
    assert time.monotonic() - started < 15
    assert "Traceback" not in done.stderr
    assert "the same command goes on from there" in done.stderr
    if sys.version_info < (3, 13):
        assert "stopped: what did not end within 1 s was left" in done.stderr


#: Told to stop in the midst of writing an archive, which makes an error of its own of it.
MASKED = """
import os, sys, zipfile
import numpy as np
from app import cli, stopping
from app.pipeline import train

write = zipfile.ZipFile._open_to_write

def stopped(*arguments, **options):
    opened = write(*arguments, **options)
    os.kill(os.getpid(), int(os.environ["SIGNAL"]))
    return opened

zipfile.ZipFile._open_to_write = stopped
train.train = lambda settings: np.savez("a.npz", a=np.zeros(3))
stopping.end_when_told_to()
sys.argv[1:] = ["train"]
cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_another_error_made_of_it_is_none(tmp_path: Path, number: int) -> None:
    done = run(MASKED, tmp_path, number)
    assert (done.returncode, done.stderr) == (128 + number, "")


#: ``python -m app`` that is told to stop as soon as it loads something of size.
LOADING = """
import os, runpy, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "typer":
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))

sys.meta_path.insert(0, Finder())
runpy.run_module("app", run_name="__main__")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_it_loads_it_ends_without_a_word(tmp_path: Path, number: int) -> None:
    done = run(LOADING, tmp_path, number)
    assert (done.returncode, done.stderr) == (128 + number, "")
