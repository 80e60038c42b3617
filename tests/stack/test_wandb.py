"""The key of Weights & Biases: a file of the caller's, seen by nobody but the process."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from tests.stack.clone import Stack
from tests.unit.pipeline.fake_wandb import FakeWandb

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """Readable by its owner alone, who is not root where there is a choice."""
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    path.chmod(0o600)
    if os.getuid() == 0:
        os.chown(path, 4321, 4322)
    return path


def test_without_a_key_the_run_is_kept_and_it_is_said(stack: Stack, trained: str) -> None:
    (line,) = [line for line in trained.splitlines() if line.startswith("W&B: ")]
    assert line.startswith("W&B: kept here (no key), `wandb sync wandb/wandb/offline-run-")
    assert stack.shell("train", "ls /app/wandb/wandb/offline-run-*/*.wandb")


def test_the_key_is_used_and_left_nowhere(
    stack: Stack, trained: str, host: str, key_file: Path
) -> None:
    """By a process that has no rights any more, and may read the file all the same."""
    name = f"{stack.project}-tracked"
    owner = key_file.stat()
    with FakeWandb(host) as server:
        stack.compose(
            *("run", "--detach", "--name", name, "--no-deps", "train"),
            SEED="6",  # Its epochs are in no checkpoint.
            WANDB_KEY_FILE=str(key_file),
            WANDB_BASE_URL=server.url,
            RUN_AS=f"{owner.st_uid}:{owner.st_gid}",
        )
        try:
            assert stack.done("docker", "wait", name).stdout == "0\n"
            logs = stack.done("docker", "logs", name)
            said = logs.stdout + logs.stderr
            facts = stack.done("docker", "inspect", name).stdout
            left = stack.done("docker", "diff", name).stdout
        finally:
            stack.run("docker", "rm", "--force", name)
        assert f"W&B: {server.url}/me/sureset/runs/" in said
        expected = base64.b64encode(f"api:{KEY}".encode()).decode()
        assert f"Basic {expected}" in {request.authorization for request in server.requests}
        assert server.exit_codes() == [0]
        assert server.streamed("wandb-history.jsonl")
    image = stack.done("docker", "image", "inspect", stack.image).stdout
    history = stack.done("docker", "history", "--no-trunc", stack.image).stdout
    assert KEY not in said + facts + image + history
    assert "/run/secrets/wandb_key" in facts
    assert "netrc" not in left
    script = f"grep -rl {KEY} /app/models /app/cache /app/lightning_logs /app/wandb || :"
    assert stack.shell("train", script) == ""


def test_a_key_that_may_not_be_read_is_said_before_any_work(
    stack: Stack, trained: str, key_file: Path
) -> None:
    command = ("docker", "compose", "run", "--rm", "--no-deps", "train")
    done = stack.run(*command, WANDB_KEY_FILE=str(key_file), RUN_AS="1234:1234")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: the file of WANDB_KEY_FILE cannot be read by 1234:1234, ")
    assert "features" not in done.stderr


def test_a_key_file_that_is_not_there(stack: Stack, tmp_path: Path) -> None:
    command = ("docker", "compose", "run", "--rm", "--no-deps", "train")
    done = stack.run(*command, WANDB_KEY_FILE=str(tmp_path / "none"))
    assert done.returncode != 0
    assert f"path does not exist: {tmp_path / 'none'}" in done.stderr
