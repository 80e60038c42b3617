"""The compose files alone: what each combination would start, with which rights."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from tests.stack.clone import REPOSITORY, environment, fresh_clone

pytestmark = pytest.mark.usefixtures("compose_command")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_clone(tmp_path_factory.mktemp("compose") / "clone")


def services(clone: Path, *arguments: str, **variables: str) -> dict[str, Any]:
    """The services that ``docker compose ARGUMENTS up`` would start, fully resolved."""
    config = subprocess.run(
        ["docker", "compose", *arguments, "config", "--format", "json"],
        cwd=clone,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(config.stdout)["services"]


def mount(service: dict[str, Any], target: str) -> dict[str, Any]:
    return next(volume for volume in service["volumes"] if volume["target"] == target)


GPU = ("-f", "compose.yaml", "-f", "compose.gpu.yaml")


@pytest.mark.parametrize("files", [(), GPU])
def test_up_starts_one_web_page_on_one_port_of_this_machine(
    clone: Path, files: tuple[str, ...]
) -> None:
    started = services(clone, *files)
    assert set(started) == {"prefetch", "webui"}
    ports = [port for service in started.values() for port in service.get("ports", [])]
    assert [(port["host_ip"], port["published"], port["target"]) for port in ports] == [
        ("127.0.0.1", "7860", 7860)
    ]


def test_every_service_runs_the_same_image_without_rights(clone: Path) -> None:
    for service in services(clone, "--profile", "*").values():
        assert service["image"] == "masters-thesis:latest"
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        assert service["init"] is True


def test_training_reads_data_and_serving_reads_models(clone: Path) -> None:
    every = services(clone, "--profile", "*")
    assert mount(every["train"], "/app/data")["read_only"] is True
    assert not mount(every["prefetch"], "/app/data").get("read_only")
    assert mount(every["webui"], "/app/models")["read_only"] is True
    assert not mount(every["train"], "/app/models").get("read_only")
    for service in ("train", "webui"):
        static = mount(every[service], "/app/static")
        assert (static["type"], static["source"]) == ("bind", str(clone / "static"))
        assert static["read_only"] is True
    writable = {
        volume["target"] for volume in every["webui"]["volumes"] if not volume.get("read_only")
    }
    assert writable == set()


def test_prefetch_goes_before_both(clone: Path) -> None:
    every = services(clone, "--profile", "*")
    for service in ("train", "webui"):
        condition = every[service]["depends_on"]["prefetch"]["condition"]
        assert condition == "service_completed_successfully"


def test_gpu_file_reserves_the_devices_once(clone: Path) -> None:
    every = services(clone, *GPU, "--profile", "*")
    for service in ("train", "webui"):
        devices = every[service]["deploy"]["resources"]["reservations"]["devices"]
        assert [(d["driver"], d["count"], d["capabilities"]) for d in devices] == [
            ("nvidia", -1, ["gpu"])
        ]
    assert "deploy" not in every["prefetch"]
    assert all("deploy" not in s for s in services(clone, "--profile", "*").values())


def test_volumes_become_folders_of_the_host(clone: Path, tmp_path: Path) -> None:
    every = services(clone, "--profile", "*")
    for target in ("data", "models", "lightning_logs", "wandb", "cache"):
        assert mount(every["train"], f"/app/{target}")["type"] == "volume"

    folders = {
        name: str(tmp_path / name.lower())
        for name in ("DATA_DIR", "MODELS_DIR", "LOGS_DIR", "WANDB_DIR_HOST", "CACHE_DIR")
    }
    every = services(clone, "--profile", "*", **folders)
    mounted = {volume["source"] for volume in every["train"]["volumes"]}
    assert set(folders.values()) <= mounted
    assert mount(every["webui"], "/app/models")["source"] == folders["MODELS_DIR"]


def test_sample_set_is_never_written_unasked_into_a_folder_of_the_host(
    clone: Path, tmp_path: Path
) -> None:
    def size(**variables: str) -> str:
        return services(clone, **variables)["prefetch"]["environment"]["SAMPLE_SIZE"]

    assert size() == ""
    assert size(SAMPLE_SIZE="300") == "300"
    assert size(DATA_DIR=str(tmp_path)) == "0"
    assert size(DATA_DIR=str(tmp_path), SAMPLE_SIZE="300") == "300"


def test_settings_reach_every_container(clone: Path) -> None:
    every = services(clone, "--profile", "*", ALPHA="0.05", BACKBONE="tf_efficientnet_lite0")
    for service in every.values():
        assert service["environment"]["ALPHA"] == "0.05"
        assert service["environment"]["BACKBONE"] == "tf_efficientnet_lite0"
    elsewhere = {
        "data_dir",
        "models_dir",
        "logs_dir",
        "static_dir",
    }  # mounted where they default to
    elsewhere |= {"sample_size", "address", "port"}  # of prefetch and webui
    for name in Settings.model_fields.keys() - elsewhere:
        assert name.upper() in every["train"]["environment"]


def test_env_example_lists_what_is_read() -> None:
    listed = set(re.findall(r"^#?(\w+)=", (REPOSITORY / ".env.example").read_text(), re.MULTILINE))
    compose = (REPOSITORY / "compose.yaml").read_text()
    read = set(re.findall(r"\$\{(?!SURESET_)(\w+)", compose))  # those are docker/compose.sh's own
    read |= {*re.findall(r"args: \[(\w+), (\w+)\]", compose)[0]} - {"REVISION"}
    for script in (REPOSITORY / "docker").glob("*.sh"):
        read |= set(re.findall(r"\(setting ([A-Z_]+)\)", script.read_text()))
    read |= {name.upper() for name in Settings.model_fields}
    assert listed == read
