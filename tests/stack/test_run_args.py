"""DOCKER_RUN_ARGS: arguments of ``docker run``, in Compose's words."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stack.clone import Stack, environment, fresh_clone
from tests.stack.machine import Machine


def merged(machine: Machine, arguments: str) -> dict[str, Any]:
    """The services of the file that is merged over compose.yaml."""
    machine.make("serve", f"DOCKER_RUN_ARGS={arguments}")
    (up,) = machine.calls(" up ")
    assert up.startswith("docker compose -f compose.yaml -f .compose.run-args.yaml ")
    return yaml.safe_load((machine.clone / ".compose.run-args.yaml").read_text())["services"]


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        ("--shm-size 2g", {"shm_size": "2g"}),
        ("--shm-size=2g --shm-size=4g", {"shm_size": "4g"}),
        ("--ipc=host -m 8g --cpus 2", {"ipc": "host", "mem_limit": "8g", "cpus": "2"}),
        ("--network none", {"network_mode": "none"}),
        ("-m8g -eA=1", {"mem_limit": "8g", "environment": ["A=1"]}),
        ("--stop-timeout 60", {"stop_grace_period": "60s"}),
        ("-e A=1 --env=B=2", {"environment": ["A=1", "B=2"]}),
        ("-e 'A=two words' -e 'B=\"'", {"environment": ["A=two words", 'B="']}),
        ("-e 'A=C:\\data' -e \"B='\"", {"environment": ["A=C:\\data", "B='"]}),
        ("-v /a:/b:ro", {"volumes": ["/a:/b:ro"]}),
        (
            "--ulimit memlock=-1 --ulimit stack=67108864:67108865",
            {
                "ulimits": {
                    "memlock": {"soft": -1, "hard": -1},
                    "stack": {"soft": 67108864, "hard": 67108865},
                }
            },
        ),
        (
            "--add-host a:10.0.0.1 --dns 10.0.0.2",
            {"extra_hosts": ["a:10.0.0.1"], "dns": ["10.0.0.2"]},
        ),
        ("--rm -it --init", {}),
    ],
)
def test_translation(machine: Machine, arguments: str, keys: dict[str, Any]) -> None:
    assert merged(machine, arguments) == dict.fromkeys(("prefetch", "train", "webui"), keys)


@pytest.mark.parametrize(
    ("arguments", "devices"),
    [
        ("--gpus all", {"count": "all"}),
        ("--gpus 2", {"count": 2}),
        ("--gpus device=1", {"device_ids": ["1"]}),
        ("--gpus '\"device=0,2\"'", {"device_ids": ["0", "2"]}),
    ],
)
def test_gpus_become_a_reservation(
    machine: Machine, arguments: str, devices: dict[str, Any]
) -> None:
    services = merged(machine, arguments)
    for name in ("train", "webui"):
        (reserved,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert reserved == {"driver": "nvidia", **devices, "capabilities": ["gpu"]}
    assert services["prefetch"] == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--privileged", "the app runs without privileges"),
        ("--cap-add SYS_PTRACE", "the app runs without privileges"),
        ("--group-add=audio", "the app runs without privileges"),
        ("--network host", "ADDRESS and PORT mean nothing outside"),
        ("--net=cars", "would leave the stack's network"),
        ("--gpus all,capabilities=utility", "is neither all, a number, nor device=…"),
        ("-p 80:80", "the page is published by ADDRESS and PORT, not by -p"),
        ("--publish=80:80", "by ADDRESS and PORT"),
        ("--name cars", "named by CONTAINER_NAME"),
        ("--user 0", "RUN_AS=uid:gid"),
        ("--blkio-weight 10", "--blkio-weight has no counterpart in Compose that is known here"),
        ("image", "image has no counterpart"),
        ("--shm-size", "--shm-size lacks its value"),
        ("--ulimit core", "--ulimit core is not name=value"),
        ('--ipc host "--cpus', "a quotation mark is not closed"),
    ],
)
def test_what_cannot_be_translated_is_said(machine: Machine, arguments: str, sentence: str) -> None:
    said = machine.make_fails("serve", f"DOCKER_RUN_ARGS={arguments}")
    assert "error: DOCKER_RUN_ARGS: " in said and sentence in said
    assert not machine.calls(" up ")
    assert not list(machine.clone.glob(".compose.run-args*"))


def test_nothing_in_them_is_run(machine: Machine) -> None:
    machine.make("serve", "DOCKER_RUN_ARGS=-e 'A=$$(touch made)' -e 'B=`touch made`'")
    assert not (machine.clone / "made").exists()


def test_a_device_is_no_gpu(machine: Machine) -> None:
    """What --device asks for leaves the reservation that GPU=1 asks for as it is."""
    machine.make("serve", "GPU=1", "DOCKER_RUN_ARGS=--device /dev/fuse -e 'X=- driver: nvidia'")
    (up,) = machine.calls(" up ")
    assert " -f compose.gpu.yaml -f .compose.run-args.yaml " in up


@pytest.mark.usefixtures("compose_command")
def test_compose_reads_the_translation(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "--silent", "config", "ARGS=--format json"],
        cwd=fresh_clone(tmp_path / "clone"),
        env=environment(
            GPU="1",
            DOCKER_RUN_ARGS="--shm-size 3g --ulimit memlock=-1 --gpus device=1 -e 'A=$x'",
            COMPOSE_PROFILES="train",
        ),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    train = json.loads(done.stdout)["services"]["train"]
    assert train["shm_size"] == str(3 << 30)
    assert train["ulimits"] == {"memlock": {"soft": -1, "hard": -1}}
    assert train["environment"]["A"] == "$$x"  # As Compose prints a single one.
    (reserved,) = train["deploy"]["resources"]["reservations"]["devices"]
    assert reserved["device_ids"] == ["1"]


def test_what_run_does_not_take_arrives_all_the_same(stack: Stack) -> None:
    arguments = "DOCKER_RUN_ARGS=--shm-size 64m --ulimit nofile=4321 --hostname elsewhere"
    script = "df --output=size /dev/shm | tail -n 1; ulimit -n; hostname\n"
    inside = stack.done("make", "shell", arguments, typed=script).stdout
    assert inside.split() == ["65536", "4321", "elsewhere"]
