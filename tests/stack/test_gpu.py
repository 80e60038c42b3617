"""Whether containers get the GPU: what is there, and what is said."""

from __future__ import annotations

import re

import pytest

from tests.stack.machine import Machine

NVIDIA = '{"nvidia":{"path":"nvidia-container-runtime"},"runc":{}}'
NO_GPU = "CPU: nvidia-smi finds no GPU here."
NO_DEVICES = "CPU: there is a GPU, but the engine hands out no NVIDIA devices"
FOUND = "GPU: nvidia-smi works and the engine knows NVIDIA."
BY_RUN_ARGS = "GPU: asked for by --gpus in DOCKER_RUN_ARGS."
BY_GPU_ARGS = "GPU: asked for by --gpus in GPU_ARGS."
FORBIDDEN = "CPU: asked for by an empty GPU_ARGS."


def files(machine: Machine) -> list[str]:
    """The compose files that were merged."""
    (call,) = machine.calls(" up ")
    words = call.split()
    return [words[i + 1] for i, word in enumerate(words) if word == "-f"]


def reservation(machine: Machine) -> str:
    """What the file that was made of --gpus reserves, if one was merged."""
    if ".compose.run-args.yaml" not in files(machine):
        return ""
    merged = (machine.clone / ".compose.run-args.yaml").read_text()
    return " ".join(sorted(set(re.findall(r"(?:count|device_ids): .*", merged))))


@pytest.mark.parametrize("has_gpu", [False, True])
@pytest.mark.parametrize("runtimes", ["{}", NVIDIA])
@pytest.mark.parametrize("asked", [None, "0", "1"])
@pytest.mark.parametrize("gpu_args", [None, "", "--gpus all"])
@pytest.mark.parametrize("run_args", [None, "--gpus all", "--gpus=device=1", "--shm-size 2g"])
def test_gpu_or_cpu(
    machine: Machine,
    has_gpu: bool,
    runtimes: str,
    asked: str | None,
    gpu_args: str | None,
    run_args: str | None,
) -> None:
    """Every combination of what is there and what is said: GPU decides, then --gpus, then the
    probe; the reservation is made once.
    """
    machine.add("nvidia-smi", f"#!/bin/sh\nexit {0 if has_gpu else 9}\n")
    words = {"GPU": asked, "GPU_ARGS": gpu_args, "DOCKER_RUN_ARGS": run_args}
    arguments = [f"{name}={value}" for name, value in words.items() if value is not None]
    said = machine.make("serve", *arguments, RUNTIMES=runtimes)

    forced = "--gpus" in (run_args or "")
    if asked is not None:
        gpu, why = asked == "1", f"{'GPU' if asked == '1' else 'CPU'}: asked for by GPU={asked}."
    elif forced:
        gpu, why = True, BY_RUN_ARGS
    elif gpu_args is not None:
        gpu, why = bool(gpu_args), BY_GPU_ARGS if gpu_args else FORBIDDEN
    elif not has_gpu:
        gpu, why = False, NO_GPU
    else:
        gpu, why = runtimes == NVIDIA, FOUND if runtimes == NVIDIA else NO_DEVICES
    assert why in said
    assert said.count("GPU: ") + said.count("CPU: ") == 1, "it is said in one line"

    by_arguments = gpu and (forced or bool(gpu_args))
    assert ("compose.gpu.yaml" in files(machine)) == (gpu and not by_arguments)
    expected = "device_ids: ['1']" if "device=1" in (run_args or "") else "count: all"
    assert reservation(machine) == (expected if by_arguments else "")


def test_an_empty_gpu_args_in_the_env_file_forbids_too(machine: Machine) -> None:
    machine.add("nvidia-smi")
    (machine.clone / ".env").write_text("GPU_ARGS=\n")
    assert FORBIDDEN in machine.make("serve", RUNTIMES=NVIDIA)
    assert files(machine) == ["compose.yaml"]


def test_gpu_word_is_checked(machine: Machine) -> None:
    said = machine.make_fails("serve", "GPU=yes")
    assert "GPU is 'yes': give 1 or 0." in said
    assert not machine.calls(" up ")


def test_gpu_0_hides_the_devices_from_a_local_run(machine: Machine) -> None:
    machine.make("bench", "RUNNER=local")
    machine.make("bench", "RUNNER=local", "GPU=0")
    seen = [line.rpartition("=")[2] for line in machine.calls("CUDA_VISIBLE_DEVICES")]
    assert seen == ["unset", ""]
