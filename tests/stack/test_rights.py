"""Whom containers run as, what they may do, and whom belongs what they write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from testcontainers.compose import DockerCompose

from tests.stack.clone import Stack

ALL = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def status(text: str) -> dict[str, str]:
    """The facts of a ``/proc/PID/status``."""
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


# ---- rights


def test_web_page_runs_without_rights(webui: DockerCompose) -> None:
    """As whom the bundles belong to, who is not root."""
    facts = status(webui.exec_in_container(["cat", "/proc/1/status"], "webui")[0])
    owner = webui.exec_in_container(["stat", "-c", "%u %g", "/app/models"], "webui")[0].split()
    assert [facts["Uid"].split(), facts["Gid"].split()] == [[owner[0]] * 4, [owner[1]] * 4]
    assert owner[0] != "0"
    assert {int(facts[name], 16) for name in ALL} == {0}
    assert facts["NoNewPrivs"] == "1"


@pytest.mark.parametrize("user", ["1000:1000", "4321:4322", "0:0"])
def test_no_user_has_rights(project: Stack, user: str) -> None:
    """Root neither: it can write what is root's, and nothing more."""
    facts = status(project.shell("train", "cat /proc/self/status", RUN_AS=user))
    uid, gid = user.split(":")
    assert (facts["Uid"].split(), facts["Gid"].split()) == ([uid] * 4, [gid] * 4)
    assert {int(facts[name], 16) for name in ALL} == {0}
    assert facts["NoNewPrivs"] == "1"
    assert facts["Groups"].split() in ([], [gid])


def test_root_file_system_cannot_be_written(project: Stack) -> None:
    script = "for d in / /app /app/app /opt/venv /usr/local/bin; do touch $d/x 2>&1 || :; done"
    said = project.shell("train", script, RUN_AS="0:0").splitlines()
    assert len(said) == 5
    assert all("Read-only file system" in line for line in said)
    assert project.shell("train", "touch /tmp/x && echo written") == "written\n"


@pytest.mark.parametrize("word", ["me", "1000:", ":1000", "1:2:3", "-1"])
def test_user_that_is_no_number(project: Stack, word: str) -> None:
    command = ("docker", "compose", "run", "--rm", "--no-deps", "train")
    done = project.run(*command, RUN_AS=word)
    assert done.returncode == 1
    assert f"error: RUN_AS is '{word}': give it as uid:gid, two numbers." in done.stderr


def test_user_without_a_name_can_import_what_asks_for_one(project: Stack) -> None:
    script = 'id; python -c "import getpass, torch, wandb; print(getpass.getuser())"'
    said = project.shell("train", script, RUN_AS="4321:4322").splitlines()
    assert said == ["uid=4321 gid=4322 groups=4322", "sureset"]


# ---- whom it belongs


OWNERS = "cd /app; stat -c '%u:%g' {folders} | sort -u"


def test_fresh_volumes_belong_to_whom_they_are_used_by(project: Stack) -> None:
    script = "touch /app/models/x /app/wandb/x; " + OWNERS
    folders = "models models/x cache lightning_logs wandb wandb/x feedback"
    owners = project.shell("train", script.format(folders=folders), RUN_AS="4321:4322")
    assert owners == "4321:4322\n"


def test_the_web_page_can_write_bundles_and_feedback(project: Stack) -> None:
    script = "touch /app/models/x /app/feedback/x; " + OWNERS
    owners = project.shell("webui", script.format(folders="models/x feedback feedback/x"))
    assert owners == "1000:1000\n"


def test_volumes_go_over_to_whom_they_are_asked_for_by(project: Stack) -> None:
    """With all that is in them, also what only its owner may read."""
    script = (
        "mkdir -p /app/cache/a; mkdir -m 700 -p /app/cache/a/b; touch /app/cache/a/b/c; " + OWNERS
    )
    folders = "cache cache/a cache/a/b cache/a/b/c"
    for user in ("1000:1000", "4321:4322", "1000:1000"):
        owners = project.shell("train", script.format(folders=folders), RUN_AS=user)
        assert owners == f"{user}\n"


def test_where_nobody_is_asked_for_volumes_stay_with_whom_they_are(project: Stack) -> None:
    """So that what runs as their owner can go on writing."""
    script = "mkdir -p /app/cache/a; id -u; id -g; " + OWNERS.format(folders="cache cache/a")
    fresh = project.shell("prefetch", script).split()
    assert fresh == ["1000", "1000", "1000:1000"]
    project.shell("train", script, RUN_AS="4321:4322")
    for service in ("prefetch", "train"):
        assert project.shell(service, script).split() == ["4321", "4322", "4321:4322"]
    assert project.shell("train", script, RUN_AS_HOST_UID="0").split()[0] == "1000"


def test_what_is_mounted_by_other_means_keeps_its_owner(project: Stack, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o777)
    (elsewhere / "file").touch()
    before = (elsewhere / "file").stat().st_uid
    run = ("run", "--rm", "--no-deps", "--volume", f"{elsewhere}:/app/cache")
    project.compose(*run, "--entrypoint", "unprivileged true", "train", RUN_AS="4321:4322")
    assert (elsewhere / "file").stat().st_uid == elsewhere.stat().st_uid == before


def test_web_page_is_never_root(project: Stack, tmp_path: Path) -> None:
    """Not where the bundles are root's either: others may read them, and nothing is written."""
    if os.getuid() != 0:
        pytest.skip("only root has folders of root")
    models = tmp_path / "models"
    models.mkdir(mode=0o755)
    script = "id -u; ls /app/models"
    assert project.shell("webui", script, MODELS_DIR=str(models)) == "1000\n"
    assert project.shell("train", script, MODELS_DIR=str(models)) == "0\n"
    assert project.shell("train", script) == "1000\n", "it does not stay so"


def test_folders_of_the_host_keep_their_owner(project: Stack, tmp_path: Path) -> None:
    """And whoever owns what is written runs the container, where nobody is asked for."""
    if os.getuid() != 0:
        pytest.skip("only root can make folders of other users")
    models = tmp_path / "models"
    models.mkdir()
    os.chown(models, 4321, 4322)
    script = "touch /app/models/x; " + OWNERS.format(folders="models models/x cache")
    assert project.shell("train", script, MODELS_DIR=str(models)) == "4321:4322\n"
    assert ((models / "x").stat().st_uid, (models / "x").stat().st_gid) == (4321, 4322)

    refused = project.run(
        *("docker", "compose", "run", "--rm", "--no-deps", "--entrypoint", "unprivileged touch"),
        *("train", "/app/models/y"),
        MODELS_DIR=str(models),
        RUN_AS_HOST_UID="0",
    )
    assert refused.returncode != 0 and "Permission denied" in refused.stderr
    assert (models.stat().st_uid, models.stat().st_gid) == (4321, 4322)


def make(caller: Stack, *arguments: str) -> str:
    """What ``make ARGUMENTS`` says when the clone's owner calls it."""
    owner = caller.clone.stat()
    command = ["make", *arguments]
    if os.getuid() == 0:
        groups = Path("/var/run/docker.sock").stat().st_gid
        rights = (f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", f"--groups={groups}")
        command = ["setpriv", *rights, *command]
    done = caller.done(*command, HOME=str(caller.clone))
    return done.stdout + done.stderr


def test_what_training_writes_belongs_to_the_caller(caller: Stack) -> None:
    """In folders of the host and in fresh volumes."""
    folders = ("MODELS_DIR=./models", "LOGS_DIR=./logs", "WANDB_DIR_HOST=./wandb")
    make(caller, "train", *folders, "BACKBONE=tf_efficientnet_lite0")
    stat = caller.clone.stat()
    owner = (stat.st_uid, stat.st_gid)
    written = [path for folder in ("models", "logs") for path in (caller.clone / folder).rglob("*")]
    assert len(written) > 20
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in written} == {owner}

    script = "find /app/data /app/cache -printf '%U:%G\\n' | sort -u; find /app/cache -type f"
    root = ("--user", "0", "--entrypoint", "sh")
    found = caller.compose("run", "--rm", "--no-deps", *root, "train", "-c", script).split()
    assert found[0] == "{}:{}".format(*owner)
    assert len(found) > 1 and all(line.startswith("/app/cache/") for line in found[1:])


# ---- folders that are not there


@pytest.mark.parametrize(
    "name",
    [
        "DATA_DIR",
        "MODELS_DIR",
        "CACHE_DIR",
        "LOGS_DIR",
        "WANDB_DIR_HOST",
        "FEEDBACK_DIR",
        "STATIC_DIR",
    ],
)
def test_mistyped_folder_is_an_error_and_not_made(
    project: Stack, tmp_path: Path, name: str
) -> None:
    missing = tmp_path / "missing"
    command = ("docker", "compose", "run", "--rm", "--no-deps", "train")
    variables = {name: str(missing)}
    done = project.run(*command, **variables)
    assert done.returncode != 0
    assert f"path does not exist: {missing}" in done.stderr
    assert not missing.exists()
