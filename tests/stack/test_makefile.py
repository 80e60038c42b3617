"""What make passes on, and its targets beside the commands."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.stack.machine import CALLER, CUDA, ID, IMAGE, Machine, script


@pytest.mark.parametrize("runner", ["docker", "local"])
def test_variables_and_flags_reach_both_runners(machine: Machine, runner: str) -> None:
    (machine.clone / "pics").mkdir()
    flags = "--seed 3 --score=aps --backbone=tf_efficientnet_lite0"
    arguments = [f"RUNNER={runner}", "ALPHA=0.05", "DATA_DIR=./pics", f"ARGS={flags}"]
    machine.make("train", *arguments)
    prefetch, train = machine.calls(" run " if runner == "docker" else "python -m")
    assert prefetch.endswith(" prefetch --seed 3 --backbone=tf_efficientnet_lite0")
    assert train.endswith(f" train {flags}")
    (seen,) = set(machine.calls("ALPHA="))
    assert f"{seen} ".startswith("ALPHA=0.05 DATA_DIR=./pics ")


@pytest.mark.parametrize("runner", ["docker", "local"])
def test_a_data_set_is_asked_for_by_a_variable(machine: Machine, runner: str) -> None:
    machine.make("train", f"RUNNER={runner}", "DATASET=utkface")
    assert set(machine.calls("DATASET=")) == {"DATASET=utkface"}


def test_containers_run_as_the_caller(machine: Machine) -> None:
    machine.add("id", ID)
    machine.make("calibrate")
    machine.make("calibrate", "RUN_AS_HOST_UID=0")
    machine.make("calibrate", "RUN_AS=7:8")
    assert machine.calls("RUN_AS=") == [f"RUN_AS={CALLER}", "RUN_AS=", "RUN_AS=7:8"]


def test_root_and_rootless_engines_leave_it_to_the_folder_who_writes(machine: Machine) -> None:
    """Root in a rootless engine's container is the caller, and any other user is nobody."""
    machine.add("id", ID)
    machine.make("calibrate", SECURITY="[name=seccomp,profile=builtin name=rootless]")
    machine.add("id", "#!/bin/sh\necho 0\n")
    machine.make("calibrate")
    assert machine.calls("RUN_AS=") == ["RUN_AS=", "RUN_AS="]


def test_container_name_is_that_of_the_command(machine: Machine) -> None:
    machine.make("train", "CONTAINER_NAME=cars")
    prefetch, train = machine.calls(" run ")
    assert " --name cars-prefetch prefetch prefetch" in prefetch
    assert " --name cars-train train train" in train


# ---- folders and files


FOLDERS = (
    "DATA_DIR",
    "MODELS_DIR",
    "CACHE_DIR",
    "LOGS_DIR",
    "WANDB_DIR_HOST",
    "FEEDBACK_DIR",
    "STATIC_DIR",
)


@pytest.mark.parametrize("runner", ["docker", "local"])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_bare_word_is_no_folder(machine: Machine, runner: str, name: str) -> None:
    (machine.clone / "pics").mkdir()
    said = machine.make_fails("train", f"RUNNER={runner}", f"{name}=pics")
    assert f"error: {name} is 'pics', which could be a folder or a volume: " in said
    assert f"as in {name}=./pics." in said
    assert not machine.calls(" run ") and not machine.calls("python")


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("~/models", "give the path without ~"),
        ("./a:b", "a colon cannot be part of the path in Docker"),
        ("${HOME}/models", "write the path out, variables mean nothing here"),
    ],
)
def test_paths_that_mean_something_else_to_compose(
    machine: Machine, path: str, sentence: str
) -> None:
    (machine.clone / ".env").write_text(f"MODELS_DIR={path}\n")
    said = machine.make_fails("train")
    assert f"error: MODELS_DIR is '{path}': {sentence}." in said
    assert not machine.calls(" run ") and not machine.calls("build")


@pytest.mark.parametrize("name", ["DATA_DIR", "STATIC_DIR"])
def test_missing_folder_that_is_read_is_said_and_not_made(machine: Machine, name: str) -> None:
    said = machine.make_fails("train", f"{name}=./picz")
    assert f"error: there is no folder ./picz: check {name}." in said
    assert not (machine.clone / "picz").exists()
    assert not machine.calls(" run ")


@pytest.mark.parametrize(
    "command", ["serve", "predict", "evaluate", "calibrate", "experiments", "bench", "shell"]
)
def test_bundles_must_be_there_to_be_used(machine: Machine, command: str) -> None:
    said = machine.make_fails(command, "MODELS_DIR=./modelz")
    assert "error: there is no folder ./modelz: check MODELS_DIR." in said
    assert not (machine.clone / "modelz").exists()


def test_folders_that_are_written_are_made_by_the_caller(machine: Machine) -> None:
    machine.make("train", "MODELS_DIR=./out/models", "CACHE_DIR=./out/cache", "LOGS_DIR=./out/logs")
    made = {path.name: path.stat().st_uid for path in (machine.clone / "out").iterdir()}
    assert made == dict.fromkeys(("models", "cache", "logs"), os.getuid())


def test_folders_come_from_the_env_file_too(machine: Machine) -> None:
    (machine.clone / ".env").write_text("DATA_DIR=pics\n")
    assert "error: DATA_DIR is 'pics'" in machine.make_fails("train")


@pytest.mark.parametrize("name", ["WANDB_KEY_FILE", "CA_BUNDLE"])
def test_missing_file_is_said(machine: Machine, name: str) -> None:
    said = machine.make_fails("train", f"{name}=./nothing")
    assert f"error: there is no file ./nothing that you can read: check {name}." in said
    (machine.clone / "nothing").touch()
    assert "give a path that begins with / or ./" in machine.make_fails("train", f"{name}=nothing")
    machine.make("train", f"{name}=./nothing")


def test_pictures_of_this_machine_are_mounted_for_predict(machine: Machine, tmp_path: Path) -> None:
    (machine.clone / "my car.jpg").touch()
    bus = tmp_path / "bus.jpg"
    bus.touch()
    machine.make("predict", f"ARGS='my car.jpg' {bus} missing.jpg --alpha 0.2")
    (call,) = machine.calls(" run ")
    assert f"--volume {machine.clone}/my car.jpg:/app/my car.jpg:ro" in call
    assert f"--volume {bus}:{bus}:ro" in call
    assert call.count("--volume") == 2
    assert call.endswith(f" train predict my car.jpg {bus} missing.jpg --alpha 0.2")


def test_files_that_flags_name_are_mounted_too(machine: Machine) -> None:
    (machine.clone / "run.yaml").touch()
    (machine.clone / "train").mkdir()
    for flag in ("--config run.yaml", "--config=run.yaml"):
        machine.log.unlink(missing_ok=True)
        machine.make("train", f"ARGS={flag}")
        prefetch, train = machine.calls(" run ")
        mounted = f"--volume {machine.clone}/run.yaml:/app/run.yaml:ro"
        assert prefetch.endswith(f"{mounted} prefetch prefetch {flag}")
        assert train.endswith(f"{mounted} train train {flag}")
        assert train.count("--volume") == 1, "a folder called train is not the command"


@pytest.mark.parametrize(
    ("name", "sentence"), [("a:b.jpg", "a colon is in its name"), (".", "name a folder in it")]
)
def test_what_cannot_be_mounted_is_said(machine: Machine, name: str, sentence: str) -> None:
    if name != ".":
        (machine.clone / name).touch()
    said = machine.make_fails("predict", f"ARGS={name}")
    assert f"error: '{name}' cannot be mounted" in said and sentence in said
    assert not machine.calls(" run ")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("ALPHA=0.05", "0.05"),
        ("ALPHA = 0.05  # an error rate", "0.05"),
        ("export ALPHA=0.05", "0.05"),
        ("ALPHA=", ""),
        ("ALPHA=  # nothing", ""),
        ("ALPHA='a # b'  # c", "a # b"),
        ('ALPHA="a # b"', "a # b"),
        ("ALPHA=a#b", "a#b"),
        ("ALPHA=1\nALPHA=2", "2"),
        ("# ALPHA=1", ""),
        ("MY_ALPHA=1", ""),
    ],
)
def test_the_env_file_is_read_as_compose_reads_it(machine: Machine, line: str, value: str) -> None:
    (machine.clone / ".env").write_text(f"{line}\n")
    script = ". docker/settings.sh; setting ALPHA; given ALPHA && echo given || echo not given"
    command = ["sh", "-c", script]
    env = {"PATH": str(machine.bin)}
    said = subprocess.check_output(command, cwd=machine.clone, env=env, text=True).splitlines()
    given = "not given" if line.startswith(("#", "MY")) else "given"
    assert said == ([value, given] if given == "given" else [given])


def test_an_override_file_is_merged(machine: Machine) -> None:
    (machine.clone / "compose.override.yaml").touch()
    machine.make("serve")
    (up,) = machine.calls(" up ")
    assert up.startswith("docker compose -f compose.yaml -f compose.override.yaml ")


def test_serve_in_docker_takes_no_flags(machine: Machine) -> None:
    said = machine.make_fails("serve", "ARGS=--port 8000")
    assert "make serve PORT=8000" in said


def test_help_for_train_fetches_nothing(machine: Machine) -> None:
    machine.make("train", "ARGS=--help")
    assert [call.rpartition(" run ")[2] for call in machine.calls(" run ")] == [
        "--rm --no-deps train train --help"
    ]


@pytest.mark.parametrize("named", [True, False])
def test_sample_set_is_never_written_unasked_into_a_named_folder(
    machine: Machine, named: bool
) -> None:
    (machine.clone / "pics").mkdir()
    folder = ["DATA_DIR=./pics"] if named else []
    machine.make("prefetch", "RUNNER=local", "SAMPLE_SIZE=300", *folder)
    assert machine.calls("SAMPLE_SIZE=") == [f"SAMPLE_SIZE={0 if named else 300}"]


@pytest.mark.parametrize("runner", ["docker", "local"])
def test_a_sample_set_goes_into_the_folder_that_is_asked_for(machine: Machine, runner: str) -> None:
    """In Docker by the service that may write there, and to nowhere by a flag."""
    wanted = "ARGS=--size 30 --tasks colour,view"
    machine.make("sample", f"RUNNER={runner}", "DATA_DIR=./new/pics", "MODELS_DIR=./none", wanted)
    assert (machine.clone / "new" / "pics").stat().st_uid == os.getuid()
    (call,) = machine.calls(" run " if runner == "docker" else "python -m")
    service = "prefetch " if runner == "docker" else "app "
    assert call.endswith(f"{service}sample --size 30 --tasks colour,view")
    assert "DATA_DIR=./new/pics" in machine.calls("ALPHA=")[0]
    if runner == "docker":
        said = machine.make_fails("sample", f"RUNNER={runner}", "ARGS=--data ./new/pics")
        assert "error: in Docker, a folder that is written is a variable, not a flag: " in said
        assert len(machine.calls(" run ")) == 1


@pytest.mark.parametrize(("what", "service"), [("check", "train"), ("split", "prefetch")])
def test_data_is_split_by_the_service_that_may_write_there(
    machine: Machine, what: str, service: str
) -> None:
    (machine.clone / "pics").mkdir()
    wanted = f"ARGS={what} --seed 3"
    machine.make("data", "RUNNER=docker", "DATA_DIR=./pics", "MODELS_DIR=./none", wanted)
    (call,) = machine.calls(" run ")
    assert call.endswith(f" {service} data {what} --seed 3")
    machine.make("data", "RUNNER=local", "DATA_DIR=./pics", wanted)
    assert machine.calls("python -m")[0].endswith(f"app data {what} --seed 3")


def test_root_writes_pictures_as_the_owner_of_their_folder(machine: Machine) -> None:
    machine.add("id", "#!/bin/sh\necho 0\n")
    (machine.clone / "pics").mkdir()
    owner = f"{os.getuid()}:{os.getgid()}"
    for command, *more in (
        ("sample", "DATA_DIR=./pics"),
        ("data", "DATA_DIR=./pics", "ARGS=split"),
        ("prefetch", "DATA_DIR=./pics", "DATASET=utkface"),
        ("sample", "DATA_DIR=./pics", "RUN_AS=7:8"),
        ("prefetch", "DATA_DIR=./pics"),
        ("sample",),
    ):
        machine.make(command, *more)
    chosen = [owner] * 3 + ["7:8", "", ""]
    assert machine.calls("RUN_AS=") == [f"RUN_AS={user}" for user in chosen]


def test_a_failed_prefetch_stops_train(machine: Machine) -> None:
    script(machine.clone / ".venv" / "bin" / "python", '#!/bin/sh\necho "$*" >>"$CALLS"\nexit 1\n')
    machine.make_fails("train", "RUNNER=local")
    assert machine.log.read_text() == "-m app prefetch\n"


def test_help_lists_every_target(machine: Machine) -> None:
    listed = {line.split()[0] for line in machine.make().splitlines()}
    targets = (
        "train serve access test data sample prefetch calibrate evaluate experiments predict "
        "bundle cache build config down logs shell doctor lint bench peers clean help"
    )
    assert listed == set(targets.split())


# ---- doctor


def test_doctor_tells_what_was_found_and_chosen(machine: Machine) -> None:
    machine.add("id", ID)
    (machine.clone / "models").mkdir()
    said = machine.make("doctor", "MODELS_DIR=./models")
    for line in (
        "Docker: engine 26.1, Compose 2.26",
        f"image: {IMAGE}, made 2026-01-02 03:04 UTC",
        f"where: Running in Docker, image {IMAGE}.",
        "device: CPU: nvidia-smi finds no GPU here.",
        "MODELS_DIR: the folder ./models",
        "DATA_DIR CACHE_DIR LOGS_DIR WANDB_DIR_HOST FEEDBACK_DIR",
        f"containers run as you, {CALLER}",
        "Weights & Biases: no WANDB_KEY_FILE, so runs are kept offline",
    ):
        assert line in said
    (call,) = machine.calls(" run ")
    assert call.endswith(" train doctor")


def test_doctor_builds_and_pulls_nothing(machine: Machine) -> None:
    said = machine.make("doctor", IMAGES="")
    assert f"image: there is no {IMAGE} yet" in said
    assert f"The next command builds {IMAGE} on {CUDA}" in said
    assert "the app is not installed yet" in said
    assert not machine.calls("pull") and not machine.calls("build") and not machine.calls(" run ")


def test_doctor_without_docker_asks_the_local_app(machine: Machine) -> None:
    (machine.bin / "docker").unlink()
    said = machine.make("doctor")
    assert "Docker: there is no docker command" in said
    assert "where: Running in the local .venv: there is no docker command." in said
    assert machine.calls("python") == ["python -m app doctor"]


def test_doctor_tells_what_to_mend(machine: Machine) -> None:
    said = machine.make_fails("doctor", "DATA_DIR=./picz", "GPU=yes", "WANDB_KEY_FILE=./key")
    assert "-> DATA_DIR: there is no folder ./picz: make it, or name another" in said
    assert "-> device: GPU is 'yes': give 1 or 0." in said
    assert "-> Weights & Biases: there is no key that you can read in ./key" in said
    assert not machine.calls(" run ")


# ---- clean

VOLUMES = "cars_data\ncars_models\n"


@pytest.mark.parametrize("answer", ["", "no\n", "y\n", "YES\n"])
def test_clean_deletes_nothing_unless_told_to(machine: Machine, answer: str) -> None:
    said = machine.make_fails("clean", answer=answer, VOLUMES=VOLUMES)
    assert "  cars_data\n  cars_models\n" in said
    assert "error: nothing was deleted." in said
    assert not machine.calls(" down ")


def test_clean_deletes_when_told_to(machine: Machine) -> None:
    machine.make("clean", answer="yes\n", VOLUMES=VOLUMES)
    (down,) = machine.calls(" down ")
    assert down.endswith("--profile * down --remove-orphans --volumes")


def test_clean_without_volumes_does_not_ask(machine: Machine) -> None:
    assert "There are no volumes to delete." in machine.make("clean")
    assert machine.calls(" down ")


def test_clean_touches_nothing_where_the_files_cannot_be_read(machine: Machine) -> None:
    said = machine.make_fails("clean", "RUN_AS=broken", answer="yes\n", PROJECT="no")
    assert "error: nothing was deleted, for Compose cannot read its files." in said
    assert not machine.calls(" down ")


def test_clean_without_an_engine(machine: Machine) -> None:
    assert "no Docker engine answers" in machine.make_fails("clean", ENGINE="no")
