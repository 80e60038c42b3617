"""What make chooses on machines that have or lack things: stub commands stand in for them."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stack.clone import fresh_clone

#: The commands that make and the scripts rest on; nothing else is on PATH but the stubs.
TOOLS = ("sh", "make", "sed", "tail", "find", "printenv", "id", "mkdir", "touch", "rm", "awk", "cp")

DOCKER = """#!/bin/sh
echo "docker $*" >>"$CALLS"
for last; do :; done
case "$*" in
    version) [ "$ENGINE" = yes ] ;;
    'info '*) echo "$RUNTIMES" ;;
    'image inspect --format {{.Created}}'*) echo "$CREATED" ;;
    'image inspect --format {{index'*) echo some-base ;;
    'image inspect '*) case " $IMAGES " in *" $last "*) ;; *) exit 1 ;; esac ;;
    'pull '*) [ "$PULL" = yes ] || { echo 'lookup registry: no such host' >&2; exit 1; } ;;
    *' build'*) echo "BASE_IMAGE=$BASE_IMAGE" >>"$CALLS"; [ "$BUILD" = yes ] ;;
    *' run '*)
        echo "ALPHA=$ALPHA DATA_DIR=$DATA_DIR" >>"$CALLS"
        echo "PART=$SURESET_PART_OF_CACHE RUN_AS=$RUN_AS" >>"$CALLS" ;;
esac
"""

PYTHON = """#!/bin/sh
echo "python $*" >>"$CALLS"
echo "ALPHA=$ALPHA DATA_DIR=$DATA_DIR CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES-unset}" >>"$CALLS"
"""

IMAGE = "masters-thesis:latest"
CUDA = "nvidia/cuda:12.4.1-cudnn-runtime-ubuntu22.04"
LOCALLY = "Running in the local .venv: "


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@dataclass(frozen=True)
class Machine:
    """A fresh clone on a machine whose docker and python only note what they are asked."""

    clone: Path
    bin: Path
    log: Path

    def make(self, *arguments: str, **facts: str) -> str:
        """What a successful ``make ARGUMENTS`` says where the stubs see ``facts``."""
        done = self._run(*arguments, **facts)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def make_fails(self, *arguments: str, **facts: str) -> str:
        """What an unsuccessful one says."""
        done = self._run(*arguments, **facts)
        assert done.returncode != 0, done.stdout
        return done.stdout

    def _run(self, *arguments: str, **facts: str) -> subprocess.CompletedProcess[str]:
        given = {"ENGINE": "yes", "IMAGES": IMAGE, "CREATED": "2999-01-01T00:00:00Z", "PULL": "no"}
        given |= {"BUILD": "yes", "RUNTIMES": '{"runc":{}}', **facts}
        return subprocess.run(
            ["make", *arguments],
            cwd=self.clone,
            env={"PATH": str(self.bin), "CALLS": str(self.log), "HOME": "/nowhere", **given},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def calls(self, word: str) -> list[str]:
        """The noted lines that hold ``word``."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if word in line]

    def add(self, name: str, text: str = "#!/bin/sh\n") -> None:
        script(self.bin / name, text)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(fresh_clone(tmp_path / "clone"), tmp_path / "bin", tmp_path / "calls")
    machine.bin.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, f"{tool} is needed"
        (machine.bin / tool).symlink_to(found)
    machine.add("docker", DOCKER)
    (machine.clone / ".venv" / "bin").mkdir(parents=True)
    script(machine.clone / ".venv" / "bin" / "python", PYTHON)
    (machine.clone / ".venv" / ".installed").touch()
    return machine


# ---- docker or local


def test_docker_where_the_image_is_there(machine: Machine) -> None:
    said = machine.make("train")
    assert f"Running in Docker, image {IMAGE}." in said
    prefetch, train = machine.calls(" run ")
    assert prefetch.endswith("run --rm --no-deps prefetch prefetch")
    assert train.endswith("run --rm --no-deps train train")
    assert not machine.calls("build")
    assert not machine.calls("python")


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"ENGINE": "no"}, "no Docker engine answers"),
        (
            {"IMAGES": ""},
            f"the image is not here and its base {CUDA} cannot be pulled"
            " (lookup registry: no such host)",
        ),
        ({"IMAGES": CUDA, "BUILD": "no"}, f"{IMAGE} could not be built"),
    ],
)
def test_local_where_docker_cannot(machine: Machine, facts: dict[str, str], why: str) -> None:
    said = machine.make("train", **facts)
    (line,) = [line for line in said.splitlines() if line.startswith(LOCALLY)]
    assert line == f"{LOCALLY}{why}."
    assert machine.calls("python") == ["python -m app prefetch", "python -m app train"]
    assert not machine.calls(" run ")

    machine.log.unlink()
    said = machine.make_fails("train", "RUNNER=docker", **facts)
    assert f"error: RUNNER=docker was asked for, but {why}." in said
    assert not machine.calls("python")


def test_local_without_a_docker_command(machine: Machine) -> None:
    (machine.bin / "docker").unlink()
    assert f"{LOCALLY}there is no docker command." in machine.make("train")


def test_local_when_asked(machine: Machine) -> None:
    assert f"{LOCALLY}RUNNER=local was asked for." in machine.make("train", "RUNNER=local")
    assert not machine.calls("docker")


def test_runner_comes_from_env_file_too(machine: Machine) -> None:
    (machine.clone / ".env").write_text('RUNNER="local"  # no containers here\n')
    assert LOCALLY in machine.make("train")
    assert "Running in Docker" in machine.make("train", "RUNNER=docker")


def test_unknown_runner(machine: Machine) -> None:
    said = machine.make_fails("train", "RUNNER=podman")
    assert "RUNNER is 'podman': give docker or local." in said


def test_missing_image_is_built_on_a_base_that_is_there(machine: Machine) -> None:
    machine.make("train", "BASE_IMAGE=other-base", IMAGES="other-base")
    assert machine.calls("BASE_IMAGE=") == ["BASE_IMAGE=other-base"]
    assert len(machine.calls(" run ")) == 2


def test_missing_image_is_built_on_a_base_that_can_be_pulled(machine: Machine) -> None:
    machine.make("train", IMAGES="", PULL="yes")
    assert machine.calls("pull") == [f"docker pull {CUDA}"]
    assert machine.calls("BASE_IMAGE=") == [f"BASE_IMAGE={CUDA}"]


def test_outdated_image_is_built_on_the_base_it_was_made_from(machine: Machine) -> None:
    facts = {"CREATED": "2001-01-01T00:00:00Z"}
    said = machine.make("train", IMAGES=IMAGE, **facts)
    assert f"{IMAGE} is older than its sources and used as it is" in said
    assert not machine.calls("build")

    machine.make("train", IMAGES=f"{IMAGE} some-base", **facts)
    assert machine.calls("BASE_IMAGE=") == ["BASE_IMAGE=some-base"]


# ---- GPU or CPU

NVIDIA = '{"nvidia":{"path":"nvidia-container-runtime"},"runc":{}}'


@pytest.mark.parametrize(
    ("has_gpu", "runtimes", "asked", "merged", "why"),
    [
        (False, "{}", "", False, "CPU: nvidia-smi finds no GPU here."),
        (False, NVIDIA, "", False, "CPU: nvidia-smi finds no GPU here."),
        (True, "{}", "", False, "CPU: there is a GPU, but the engine hands out no NVIDIA devices"),
        (True, NVIDIA, "", True, "GPU: nvidia-smi works and the engine knows NVIDIA."),
        (False, "{}", "1", True, "GPU: asked for by GPU=1."),
        (True, NVIDIA, "0", False, "CPU: asked for by GPU=0."),
    ],
)
def test_gpu_file_is_merged_where_gpu_and_engine_allow(
    machine: Machine, has_gpu: bool, runtimes: str, asked: str, merged: bool, why: str
) -> None:
    machine.add("nvidia-smi", f"#!/bin/sh\nexit {0 if has_gpu else 9}\n")
    said = machine.make("serve", *([f"GPU={asked}"] if asked else []), RUNTIMES=runtimes)
    assert why in said
    (up,) = machine.calls(" up ")
    files = "compose.yaml -f compose.gpu.yaml" if merged else "compose.yaml"
    assert up == f"docker compose -f {files} up --attach-dependencies webui"


def test_gpu_word_is_checked(machine: Machine) -> None:
    said = machine.make_fails("serve", "GPU=yes")
    assert "GPU is 'yes': give 1 or 0." in said
    assert not machine.calls(" up ")


def test_gpu_0_hides_the_devices_from_a_local_run(machine: Machine) -> None:
    machine.make("bench", "RUNNER=local")
    machine.make("bench", "RUNNER=local", "GPU=0")
    seen = [line.rpartition("=")[2] for line in machine.calls("CUDA_VISIBLE_DEVICES")]
    assert seen == ["unset", ""]


# ---- what reaches the command


@pytest.mark.parametrize("runner", ["docker", "local"])
def test_variables_and_flags_reach_both_runners(machine: Machine, runner: str) -> None:
    (machine.clone / "pics").mkdir()
    flags = "--seed 3 --score=aps --backbone=tf_efficientnet_lite0"
    arguments = [f"RUNNER={runner}", "ALPHA=0.05", "DATA_DIR=pics", f"ARGS={flags}"]
    machine.make("train", *arguments)
    prefetch, train = machine.calls(" run " if runner == "docker" else "python -m")
    assert prefetch.endswith(" prefetch --seed 3 --backbone=tf_efficientnet_lite0")
    assert train.endswith(f" train {flags}")
    (seen,) = set(machine.calls("ALPHA="))
    folder = str(machine.clone / "pics") if runner == "docker" else "pics"
    assert f"{seen} ".startswith(f"ALPHA=0.05 DATA_DIR={folder} ")


def test_containers_write_into_given_folders_as_the_caller(machine: Machine) -> None:
    (machine.clone / "pics").mkdir()
    user = f"{os.getuid()}:{os.getgid()}"
    me = f"PART=/{user} RUN_AS={user}"
    machine.make("calibrate")
    machine.make("calibrate", "DATA_DIR=./pics")
    machine.make("calibrate", "MODELS_DIR=out")
    machine.make("calibrate", "MODELS_DIR=out", "RUN_AS_HOST_UID=0")
    machine.make("calibrate", "MODELS_DIR=out", "RUN_AS=7:8")
    machine.make("calibrate", "CACHE_DIR=cache")
    assert machine.calls("RUN_AS=") == [
        *("PART= RUN_AS=", me, me, "PART= RUN_AS=", "PART= RUN_AS=7:8"),
        f"PART= RUN_AS={user}",
    ]
    assert (machine.clone / "out").is_dir()


def test_missing_data_folder_is_said_and_not_made(machine: Machine) -> None:
    said = machine.make_fails("train", "DATA_DIR=picz")
    assert f"error: there is no folder {machine.clone / 'picz'}: check DATA_DIR." in said
    assert not (machine.clone / "picz").exists()
    assert not machine.calls(" run ")


def test_pictures_of_this_machine_are_mounted_for_predict(machine: Machine, tmp_path: Path) -> None:
    (machine.clone / "my car.jpg").touch()
    bus = tmp_path / "bus.jpg"
    bus.touch()
    machine.make("predict", f"ARGS='my car.jpg' {bus} missing.jpg --alpha 0.2")
    (call,) = machine.calls(" run ")
    assert f"--volume {machine.clone}/my car.jpg:/app/my car.jpg:ro" in call
    assert f"--volume {bus}:{bus}:ro" in call
    assert call.count("--volume") == 2
    assert call.endswith(f" webui predict my car.jpg {bus} missing.jpg --alpha 0.2")


def test_serve_in_docker_takes_no_flags(machine: Machine) -> None:
    said = machine.make_fails("serve", "ARGS=--port 8000")
    assert "make serve PORT=8000" in said


def test_help_for_train_fetches_nothing(machine: Machine) -> None:
    machine.make("train", "ARGS=--help")
    assert [call.rpartition(" run ")[2] for call in machine.calls(" run ")] == [
        "--rm --no-deps train train --help"
    ]


def test_a_failed_prefetch_stops_train(machine: Machine) -> None:
    script(machine.clone / ".venv" / "bin" / "python", '#!/bin/sh\necho "$*" >>"$CALLS"\nexit 1\n')
    machine.make_fails("train", "RUNNER=local")
    assert machine.log.read_text() == "-m app prefetch\n"


def test_help_lists_every_target(machine: Machine) -> None:
    listed = {line.split()[0] for line in machine.make().splitlines()}
    targets = (
        "train serve test prefetch calibrate evaluate experiments predict build config down "
        "logs shell doctor lint bench help"
    )
    assert listed == set(targets.split())


# ---- the local environment

INTERPRETER = """#!/bin/sh
echo "{name} $*" >>"$CALLS"
case "$*" in
    -c*) exit {unsupported} ;;
    --version) echo 'Python 3.12.1' ;;
    '-m venv'*) [ "$VENV_MODULE" != no ] && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    '-m pip install'*' uv') [ -n "$PIP_HAS_UV" ] && cp "$PIP_HAS_UV" .venv/bin/uv ;;
    '-m pip install'*) [ "$INSTALL" != no ] ;;
esac
"""

UV = """#!/bin/sh
echo "uv $*" >>"$CALLS"
case "$*" in
    'venv '*) mkdir -p .venv/bin ;;
    'pip install'*) [ "$INSTALL" != no ] ;;
esac
"""


@pytest.fixture
def bare(machine: Machine) -> Machine:
    """A machine with a python3 that is supported, and neither .venv nor uv."""
    shutil.rmtree(machine.clone / ".venv")
    machine.add("python3", INTERPRETER.format(name="python3", unsupported=0))
    return machine


def installed(machine: Machine) -> bool:
    return (machine.clone / ".venv" / ".installed").exists()


def test_venv_with_plain_pip(bare: Machine) -> None:
    said = bare.make(".venv/.installed")
    assert "Building .venv with Python 3.12.1" in said
    assert "with pip, as uv cannot be had" in said
    (install,) = bare.calls("--require-hashes")
    assert install.endswith("--require-hashes -r requirements.txt")
    assert installed(bare)

    bare.log.unlink()
    bare.make(".venv/.installed")
    assert not bare.log.exists(), "an installed environment is left alone"


def test_venv_is_renewed_when_the_lock_changes(bare: Machine) -> None:
    bare.make(".venv/.installed")
    later = (bare.clone / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(bare.clone / "requirements.txt", (later, later))
    bare.log.unlink()
    bare.make(".venv/.installed")
    assert len(bare.calls("--require-hashes")) == 1
    assert not bare.calls("-m venv")


def test_venv_with_uv_on_path(bare: Machine) -> None:
    bare.add("uv", UV)
    bare.make(".venv/.installed")
    (install,) = bare.calls("uv pip install")
    assert "--require-hashes --compile-bytecode -r requirements.txt" in install
    assert not bare.calls("-m pip")


def test_venv_with_uv_got_by_pip(bare: Machine, tmp_path: Path) -> None:
    script(tmp_path / "uv", UV)
    bare.make(".venv/.installed", PIP_HAS_UV=str(tmp_path / "uv"))
    assert len(bare.calls("uv pip install")) == 1
    assert not bare.calls("--disable-pip-version-check --require-hashes")


def test_interrupted_install_is_taken_up_again(bare: Machine) -> None:
    bare.make_fails(".venv/.installed", INSTALL="no")
    assert not installed(bare)
    bare.make(".venv/.installed")
    assert installed(bare)


def test_an_older_python_is_passed_over(bare: Machine) -> None:
    bare.add("python3", INTERPRETER.format(name="python3", unsupported=1))
    bare.add("python3.11", INTERPRETER.format(name="python3.11", unsupported=0))
    bare.make(".venv/.installed")
    assert bare.calls("python3.11 -m venv")


def test_no_supported_python(bare: Machine) -> None:
    (bare.bin / "python3").unlink()
    said = bare.make_fails("train", "RUNNER=local")
    assert "there is no Python 3.10 to 3.13 here: install one" in said


def test_python_without_venv(bare: Machine) -> None:
    said = bare.make_fails(".venv/.installed", VENV_MODULE="no")
    assert "apt install python3-venv" in said
    assert not (bare.clone / ".venv").exists()
