"""Whether make runs things in Docker or in the local .venv."""

from __future__ import annotations

import pytest

from tests.stack.machine import CUDA, IMAGE, Machine

LOCALLY = "Running in the local .venv: "


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
        ({"ENGINE": "no"}, "no Docker engine answers (cannot connect)"),
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
    facts = {"MADE_OF": "something else"}
    said = machine.make("train", IMAGES=IMAGE, **facts)
    assert f"{IMAGE} is older than its sources and used as it is" in said
    assert not machine.calls("build")

    machine.make("train", IMAGES=f"{IMAGE} some-base", **facts)
    assert machine.calls("BASE_IMAGE=") == ["BASE_IMAGE=some-base"]


def test_any_change_of_what_goes_in_makes_an_image_outdated(machine: Machine) -> None:
    """Also one that leaves no newer file behind."""
    images = f"{IMAGE} some-base"
    made_of = machine.sources()
    machine.make("train", IMAGES=images, MADE_OF=made_of)
    assert not machine.calls("build")
    (machine.clone / "app" / "py.typed").touch()
    assert machine.sources() != made_of
    (machine.clone / "app" / "py.typed").unlink()
    assert machine.sources() == made_of
    (machine.clone / "app" / "errors.py").unlink()
    machine.make("train", IMAGES=images, MADE_OF=made_of)
    assert len(machine.calls("BASE_IMAGE=")) == 1


def test_compose_files_at_fault_are_no_reason_to_run_elsewhere(machine: Machine) -> None:
    said = machine.make_fails("train", IMAGES=CUDA, CONFIG="bad")
    assert "error: Compose cannot read its files as they are set" in said
    assert not machine.calls("python") and not machine.calls(" build")


def test_a_dry_run_runs_nothing(machine: Machine) -> None:
    machine.make("-n", "train")
    assert not machine.log.exists()
