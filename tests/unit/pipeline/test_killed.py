"""A real training, killed at random moments: nothing that was whole is lost, and it goes on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from app.bundle import bundle_names, find_bundle, open_bundle
from app.vision.backbones import EMBEDDED
from tests.unit.pipeline.conftest import clean_environment, run_in

KILLS = 10
TRAIN = [sys.executable, "-m", "app", "train", "--backbone", EMBEDDED, "--alpha", "0.3"]


def start(folder: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*TRAIN, "--save-as", name],
        cwd=folder,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_at_any_moment_nothing_is_lost(tmp_path: Path) -> None:
    reference, folder = tmp_path / "reference", tmp_path / "killed"
    reference.mkdir()
    assert run_in(reference, "sample", "--size", "150").returncode == 0
    folder.mkdir()
    (folder / "data").symlink_to(reference / "data")
    started = time.monotonic()
    undisturbed = start(reference, "whole")
    _, said = undisturbed.communicate()
    lasts = time.monotonic() - started
    assert undisturbed.returncode == 0, said
    expected = open_bundle(reference / "models" / "whole")["content_sha256"]

    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    before: set[str] = set()
    for turn in range(KILLS):
        moment, how = chance.uniform(1.0, lasts), chance.choice([signal.SIGKILL, signal.SIGTERM])
        told = f"seed {seed}, turn {turn}: {how.name} after {moment:.2f} s of {lasts:.2f} s"
        process = start(folder, f"turn-{turn}")
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(how)
        _, said = process.communicate(timeout=60)
        ended = process.returncode
        assert ended in (0, -signal.SIGKILL, 128 + signal.SIGTERM, -signal.SIGTERM), (told, said)
        assert "Traceback" not in said, (told, said)
        names = set(bundle_names(folder / "models")) if (folder / "models").exists() else set()
        assert before <= names, told
        for name in names:
            # Whatever came of it is whole, and what the undisturbed run gave.
            found = open_bundle(folder / "models" / name)["content_sha256"]
            assert found == expected, told
        if names:
            assert find_bundle(folder / "models").name in names, told
        before = names

    last = start(folder, "last")
    _, said = last.communicate()
    assert last.returncode == 0, said
    assert open_bundle(folder / "models" / "last")["content_sha256"] == expected, f"seed {seed}"
    left = {path.name for path in (folder / "models").iterdir()}
    assert left == {*before, "last", "latest"}, f"seed {seed}"
