"""The compose files alone: what each combination would start, with which rights."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from tests.stack.clone import REPOSITORY, environment, fresh_clone

pytestmark = pytest.mark.usefixtures("compose_command")

SERVICES = {"prefetch", "train", "train-gpu", "webui", "webui-gpu"}
FILES = ("-f", "compose.yaml", "-f", "compose.gpu.yaml")
RESERVATION = [("nvidia", -1, ["gpu"])]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_clone(tmp_path_factory.mktemp("compose") / "clone")


def config(clone: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", "compose", *arguments, "config", "--format", "json"],
        cwd=clone,
        env=environment(**variables),
        capture_output=True,
        text=True,
    )


def services(clone: Path, *arguments: str, **variables: str) -> dict[str, Any]:
    """The services that ``docker compose ARGUMENTS up`` would start, fully resolved."""
    read = config(clone, *arguments, **variables)
    assert read.returncode == 0, read.stderr
    return json.loads(read.stdout)["services"]


def mount(service: dict[str, Any], target: str) -> dict[str, Any]:
    return next(volume for volume in service["volumes"] if volume["target"] == target)


def devices(service: dict[str, Any]) -> list[tuple[str, int, list[str]]]:
    """The devices that a service has reserved."""
    resources = service.get("deploy", {}).get("resources", {})
    reserved = resources.get("reservations", {}).get("devices", [])
    return [(device["driver"], device["count"], device["capabilities"]) for device in reserved]


# ---- what starts


@pytest.mark.parametrize(
    ("arguments", "variables", "web", "reserved"),
    [
        ((), {}, "webui", []),
        (("--profile", "gpu"), {}, "webui-gpu", RESERVATION),
        ((), {"COMPOSE_PROFILES": "gpu"}, "webui-gpu", RESERVATION),
        (FILES, {}, "webui", RESERVATION),
        ((*FILES, "--profile", "gpu"), {}, "webui-gpu", RESERVATION),
    ],
)
def test_up_starts_one_web_page_on_one_port_of_this_machine(
    clone: Path,
    arguments: tuple[str, ...],
    variables: dict[str, str],
    web: str,
    reserved: list[tuple[str, int, list[str]]],
) -> None:
    started = services(clone, *arguments, **variables)
    assert set(started) == {"prefetch", web}
    assert devices(started[web]) == reserved
    ports = [port for service in started.values() for port in service.get("ports", [])]
    assert [(port["host_ip"], port["published"], port["target"]) for port in ports] == [
        ("127.0.0.1", "7860", 7860)
    ]


@pytest.mark.parametrize("files", [(), FILES])
@pytest.mark.parametrize("count", range(4))
def test_no_combination_publishes_a_port_twice(
    clone: Path, files: tuple[str, ...], count: int
) -> None:
    for profiles in itertools.combinations(("gpu", "train", "train-gpu"), count):
        chosen = [word for profile in profiles for word in ("--profile", profile)]
        started = services(clone, *files, *chosen)
        ports = [port for service in started.values() for port in service.get("ports", [])]
        assert len(ports) == (not profiles or "gpu" in profiles), profiles


@pytest.mark.parametrize(
    ("arguments", "service"), [((), "train-gpu"), (FILES, "train"), (FILES, "train-gpu")]
)
def test_training_reaches_the_gpu_once(
    clone: Path, arguments: tuple[str, ...], service: str
) -> None:
    every = services(clone, *arguments, "--profile", "*")
    assert set(every) == SERVICES
    assert devices(every[service]) == RESERVATION


def test_nothing_else_reserves_a_gpu(clone: Path) -> None:
    every = services(clone, "--profile", "*")
    assert {name for name in every if devices(every[name])} == {"train-gpu", "webui-gpu"}
    merged = services(clone, *FILES, "--profile", "*")
    assert {name for name in merged if devices(merged[name])} == SERVICES - {"prefetch"}


def test_prefetch_goes_before_all(clone: Path) -> None:
    every = services(clone, "--profile", "*")
    for name in SERVICES - {"prefetch"}:
        condition = every[name]["depends_on"]["prefetch"]["condition"]
        assert condition == "service_completed_successfully"


def test_containers_are_named_when_asked(clone: Path) -> None:
    unnamed = services(clone, "--profile", "*")
    assert all(not service.get("container_name") for service in unnamed.values())
    named = services(clone, "--profile", "*", CONTAINER_NAME="cars")
    assert named["webui"]["container_name"] == "cars"
    assert named["prefetch"]["container_name"] == "cars-prefetch"
    assert named["train"]["container_name"] == "cars-train"


# ---- with which rights


def test_every_service_runs_the_same_image_with_no_more_rights_than_the_entry_point_needs(
    clone: Path,
) -> None:
    for service in services(clone, "--profile", "*").values():
        assert service["image"] == "masters-thesis:latest"
        assert service["cap_drop"] == ["ALL"]
        assert service["cap_add"] == ["CHOWN", "SETGID", "SETPCAP", "SETUID"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
        assert "privileged" not in service


def test_logs_cannot_fill_the_disk(clone: Path) -> None:
    for service in services(clone, "--profile", "*").values():
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}


def test_training_reads_data_and_serving_writes_bundles_and_feedback_alone(clone: Path) -> None:
    every = services(clone, "--profile", "*")
    assert mount(every["train"], "/app/data")["read_only"] is True
    assert not mount(every["prefetch"], "/app/data").get("read_only")
    assert not mount(every["train"], "/app/models").get("read_only")
    for name, service in every.items():
        static = mount(service, "/app/static")
        assert (static["type"], static["source"]) == ("bind", str(clone / "static"))
        assert static.get("read_only", False) is (name != "prefetch")  # It writes datasets.lock.
    writable = {
        volume["target"] for volume in every["webui"]["volumes"] if not volume.get("read_only")
    }
    assert writable == {"/app/models", "/app/feedback"}


def test_the_key_reaches_training_alone_and_no_environment(clone: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("0123456789abcdef")
    every = services(clone, "--profile", "*", WANDB_KEY_FILE=str(key))
    with_key = {
        name
        for name, service in every.items()
        if "wandb_key" in {secret["source"] for secret in service.get("secrets", [])}
    }
    assert with_key == {"train", "train-gpu"}
    assert "0123456789abcdef" not in json.dumps(every)


def test_the_file_of_who_may_ask_reaches_the_web_ui_alone(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("alice:" + "0" * 64)
    every = services(clone, "--profile", "*", ACCESS_FILE=str(tmp_path / "keys"))
    told = {name for name, s in every.items() if s["environment"].get("ACCESS_FILE")}
    given = {
        name
        for name, service in every.items()
        if "access" in {secret["source"] for secret in service.get("secrets", [])}
    }
    assert told == given == {"webui", "webui-gpu"}
    assert every["webui"]["environment"]["ACCESS_FILE"] == "/run/secrets/access"
    assert not services(clone)["webui"]["environment"]["ACCESS_FILE"]


def test_nothing_is_mounted_from_where_docker_desktop_shares_nothing(clone: Path) -> None:
    assert (clone / "docker" / "unset").read_bytes() == b""
    read = json.loads(config(clone, "--profile", "*").stdout)
    files = [entry.get("file") for kind in ("configs", "secrets") for entry in read[kind].values()]
    assert {Path(file).parent for file in files if file} == {clone, clone / "docker"}


# ---- folders


def test_volumes_become_folders_of_the_host(clone: Path, tmp_path: Path) -> None:
    every = services(clone, "--profile", "*")
    for target in ("data", "models", "lightning_logs", "wandb", "cache", "feedback"):
        assert mount(every["train"], f"/app/{target}")["type"] == "volume"

    folders = {
        name: str(tmp_path / name.lower())
        for name in (
            *("DATA_DIR", "MODELS_DIR", "LOGS_DIR", "WANDB_DIR_HOST", "CACHE_DIR"),
            "FEEDBACK_DIR",
        )
    }
    every = services(clone, "--profile", "*", **folders)
    mounted = {volume["source"] for volume in every["train"]["volumes"]}
    assert set(folders.values()) <= mounted
    assert mount(every["webui"], "/app/models")["source"] == folders["MODELS_DIR"]
    assert mount(every["webui"], "/app/feedback")["source"] == folders["FEEDBACK_DIR"]


def test_named_volumes_have_the_names_of_their_folders(clone: Path) -> None:
    read = json.loads(config(clone, "-p", "cars", "--profile", "*").stdout)
    assert {volume["name"] for volume in read["volumes"].values()} == {
        f"cars_{folder}"
        for folder in ("data", "models", "cache", "lightning_logs", "wandb", "feedback")
    }


@pytest.mark.parametrize(
    "name",
    [
        "DATA_DIR",
        "MODELS_DIR",
        "LOGS_DIR",
        "WANDB_DIR_HOST",
        "CACHE_DIR",
        "FEEDBACK_DIR",
        "STATIC_DIR",
    ],
)
@pytest.mark.parametrize("word", ["data", "models", "cache", "wandb", "pictures"])
def test_a_bare_word_is_refused_and_no_volume(clone: Path, name: str, word: str) -> None:
    read = config(clone, "--profile", "*", **{name: word})
    assert read.returncode != 0
    assert f"refers to undefined volume {word}" in read.stderr


# ---- settings


def test_settings_reach_every_container(clone: Path) -> None:
    every = services(clone, "--profile", "*", ALPHA="0.05", BACKBONE="tf_efficientnet_lite0")
    for service in every.values():
        assert service["environment"]["ALPHA"] == "0.05"
        assert service["environment"]["BACKBONE"] == "tf_efficientnet_lite0"
    # Mounted where they default to, or of prefetch and webui.
    elsewhere = {"data_dir", "models_dir", "logs_dir", "static_dir", "wandb_dir", "feedback_dir"}
    elsewhere |= {"dataset", "sample_size", "address", "port"}
    elsewhere |= {"root_path", "trusted_proxies", "access_file", "log"}  # Of webui alone.
    elsewhere |= {"keep_pictures"}
    elsewhere |= {"weights"}  # A file, which make mounts where a flag names it.
    for name in Settings.model_fields.keys() - elsewhere:
        assert name.upper() in every["train"]["environment"]


def test_the_proxy_is_passed_on_to_what_goes_out(clone: Path) -> None:
    every = services(clone, "--profile", "*", HTTPS_PROXY="http://proxy:3128")
    through = {
        name
        for name, service in every.items()
        if service["environment"].get("HTTPS_PROXY") == "http://proxy:3128"
    }
    assert through == {"prefetch", "train", "train-gpu"}


def test_shared_memory_and_ipc_can_be_set(clone: Path) -> None:
    for service in services(clone, "--profile", "*").values():
        assert (service["shm_size"], service["ipc"]) == (str(1 << 30), "private")
    chosen = services(clone, "--profile", "*", SHM_SIZE="8g", IPC_MODE="host")
    for service in chosen.values():
        assert (service["shm_size"], service["ipc"]) == (str(8 << 30), "host")


def test_env_example_lists_what_is_read() -> None:
    """Each variable once, with one line above it that explains it."""
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    listed = []
    for above, line in itertools.pairwise(lines):
        if found := re.match(r"#(\w+)=", line):
            listed.append(found[1])
            assert above.startswith("# ") and not above.startswith("# ----"), line
    assert len(listed) == len(set(listed))

    compose = (REPOSITORY / "compose.yaml").read_text()
    read = set(re.findall(r"\$\{(\w+)", compose)) - {"COMPOSE_PROJECT_NAME"}  # Compose's own
    read |= set(re.findall(r"^  (\w+_PROXY):$", compose, re.MULTILINE))
    (arguments,) = re.findall(r"args: \[(.+)\]", compose)
    read |= set(arguments.split(", ")) - {"REVISION", "CREATED", "SOURCES"}  # docker/compose.sh's
    for script in (REPOSITORY / "docker").glob("*.sh"):
        read |= set(re.findall(r"\((?:setting|with_default) ([A-Z_]+)\)", script.read_text()))
    read |= {name.upper() for name in Settings.model_fields} - {"WANDB_DIR"}
    assert set(listed) == read


def test_env_example_tells_the_defaults() -> None:
    listed = dict(
        re.findall(r"^#(\w+)=(.*)$", (REPOSITORY / ".env.example").read_text(), re.MULTILINE)
    )
    of_compose = dict(
        re.findall(r"\$\{(\w+):-([^${}]+)\}", (REPOSITORY / "compose.yaml").read_text())
    )
    for name, default in of_compose.items():
        if not default.endswith("-volume") and default != "./docker/unset":
            assert listed[name] == default
    dockerfile = (REPOSITORY / "docker" / "Dockerfile").read_text()
    assert f"ARG BASE_IMAGE={listed['BASE_IMAGE']}\n" in dockerfile
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, str | int | float) and name != "model":
            assert listed[name.upper()] == str(field.default)
