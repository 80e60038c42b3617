"""Training in containers: from data to a bundle, into volumes or folders of the host."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.stack.clone import Stack
from tests.stack.conftest import SAMPLE_SIZE


def test_train_writes_sample_data_weights_and_a_bundle(stack: Stack, trained: str) -> None:
    count = "find /app/data -type f \\( -name '*.jpg' -o -name '*.png' \\) | wc -l"
    assert int(stack.shell("train", count)) == SAMPLE_SIZE
    assert int(stack.shell("train", "find /app/cache -type f | wc -l")) > 0
    bundle = json.loads(stack.shell("webui", "cat /app/models/latest/bundle.json"))
    metrics = json.loads(stack.shell("webui", "cat /app/models/latest/metrics.json"))
    assert bundle and set(metrics["tasks"]) == {"colour", "type"}
    assert "CPU: asked for by GPU=0." in trained


def test_a_second_train_reuses_the_features(stack: Stack, trained: str) -> None:
    kept = "find /app/cache/features /app/cache/graphs -type f -exec stat -c '%n %Y' {} + | sort"
    before = stack.shell("train", kept)
    stack.done("make", "train")
    assert set(before.splitlines()) <= set(stack.shell("train", kept).splitlines())


def test_a_picture_of_the_sample_set_is_answered(stack: Stack, trained: str) -> None:
    """By its path in the data volume, as the README has it."""
    picture = "data/images/00001.jpg"
    answer = json.loads(stack.done("make", "predict", f"ARGS={picture} --alpha 0.05").stdout)
    assert answer["image"] == picture and set(answer["tasks"]) == {"colour", "type"}


@pytest.mark.parametrize(
    ("service", "folder"),
    [("train", "data"), ("train", "static"), ("webui", "static")],
)
def test_volume_is_read_only(stack: Stack, service: str, folder: str) -> None:
    arguments = ("run", "--rm", "--no-deps", "--entrypoint", "touch", service, f"/app/{folder}/x")
    done = stack.run("docker", "compose", *arguments)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr


def test_folders_of_the_host(stack: Stack, trained: str, tmp_path: Path) -> None:
    """Own pictures in, a bundle out, owned by whoever ran make."""
    pictures, models = tmp_path / "pictures", tmp_path / "models"
    copy = ("--volume", f"{tmp_path}:/out", "--user", f"{os.getuid()}", "--entrypoint", "cp")
    stack.compose("run", "--rm", "--no-deps", *copy, "train", "-r", "/app/data", "/out/pictures")
    before = sorted(pictures.rglob("*"))

    folders = (f"DATA_DIR={pictures}", f"MODELS_DIR={models}")
    stack.done("make", "train", *folders, "ALPHA=0.2")
    metrics = json.loads((models / "latest" / "metrics.json").read_text())
    assert metrics["alpha"] == 0.2
    assert (models / "latest" / "metrics.json").stat().st_uid == tmp_path.stat().st_uid
    assert sorted(pictures.rglob("*")) == before, "the data folder is only read"

    picture = next(path for path in before if path.suffix in {".jpg", ".png"})
    answer = json.loads(stack.done("make", "predict", f"ARGS={picture}", *folders).stdout)
    assert answer["image"] == str(picture)
    assert set(answer["tasks"]) == {"colour", "type"}


def test_stopped_training_goes_on_where_it_was(stack: Stack, trained: str) -> None:
    """``docker stop`` within its grace of ten seconds; then the next ``make train``."""
    name = f"{stack.project}-stopped"
    run = ("run", "--detach", "--name", name, "--no-deps", "train")
    stack.compose(*run, SEED="5")
    try:
        wait = "until ls /app/cache/fitting/*.ckpt; do sleep 0.01; done"
        stack.done("docker", "exec", name, "timeout", "120", "sh", "-c", wait)
        told = time.monotonic()
        stack.done("docker", "stop", name)
        assert time.monotonic() - told < 10
        assert stack.inspect("inspect", name)["State"]["ExitCode"] == 143
        logs = stack.done("docker", "logs", name)
        said = logs.stdout + logs.stderr
        assert "stopped: " in said and "the same command goes on from there" in said
        assert "Traceback" not in said
    finally:
        stack.run("docker", "rm", "--force", name)
    done = stack.done("make", "train", "SEED=5")
    assert "head goes on from epoch" in done.stdout + done.stderr
    assert stack.shell("train", "ls -A /app/cache/fitting") == ""
    bundle = json.loads(stack.shell("webui", "cat /app/models/latest/bundle.json"))
    assert bundle["seed"] == 5
