"""A backbone trained on a few small drawn pictures: alone, with another process, and stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.optim.swa_utils import AveragedModel

from app.data.layouts import read_manifest
from app.data.pictures import Preprocess, digest
from app.data.sample import write_sample
from app.errors import SuresetError
from app.stopping import end_when_told_to
from app.vision import finetuning
from app.vision.backbones import EMBEDDED, as_backbone, find_weights
from app.vision.finetuning import Depth, Plan, Problem, facts_of, finetune, trained_parameters
from app.vision.networks import Network, TimmNetwork, TorchvisionNetwork, load_network
from app.vision.views import Examples

ROOT = Path(__file__).parents[3]

#: Full precision, in which another order of summing changes least.
PLAN = Plan(epochs=3, batch=8, precision="f32")

#: How far two processes' weights may be from one's. Training moves some of them by 1e-3 and more.
TOLERANCE = 1e-5

Process = subprocess.Popen[str]


def problem_of(folder: Path, depth: Depth = "last", seed: int = 3) -> Problem:
    """The first 64 of the folder's pictures train, the others validate; some labels are unknown."""
    weights = find_weights(EMBEDDED, folder, ROOT / "static")
    assert weights is not None
    backbone = as_backbone(EMBEDDED, weights)
    manifest = read_manifest(folder, "csv")
    digests = np.stack(
        [
            np.frombuffer(digest(manifest.path(i).read_bytes()), np.uint8)
            for i in range(len(manifest))
        ]
    )
    labels = np.stack([*manifest.labels.values()], axis=1)
    labels[::5, 1] = -1  # So the shares of a batch hold unequal numbers of known labels.

    def examples(first: int, end: int) -> Examples:
        def path_of(row: int) -> Path:
            return manifest.path(first + row)

        return Examples(path_of, digests[first:end], labels[first:end])

    return Problem(
        replace(backbone, preprocess=Preprocess(72, 64, "bilinear")),
        depth,
        examples(0, 64),
        examples(64, 81),
        {task: len(names) for task, names in manifest.classes.items()},
        seed,
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_sample(folder, 81, 0, ["colour", "type"])
    return folder


@pytest.fixture(scope="module")
def alone(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process comes to without being stopped."""
    return run(pictures, tmp_path_factory.mktemp("alone"))


def run(pictures: Path, folder: Path, plan: Plan = PLAN, seed: int = 3) -> Path:
    torch.set_num_threads(1)  # More would wait for each other on a machine with other work.
    return finetune(problem_of(pictures, seed=seed), folder / "cache", folder / "logs", plan)


@contextmanager
def started(*command: str, **variables: str) -> Iterator[Process]:
    """A process that is gone in the end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def two_machines(pictures: Path, folder: Path, *seeds: int) -> Iterator[list[Process]]:
    """A process each, which share no folder but that of the pictures, started by torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = "--nnodes=2", "--master-addr=127.0.0.1", f"--master-port={port}"
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                started(
                    *("torch.distributed.run", *meeting, f"--node-rank={machine}", __file__),
                    *(str(pictures), str(folder / str(machine)), str(seed)),
                )
            )
            for machine, seed in enumerate(seeds)
        ]


def wait_for_checkpoint(folder: Path, process: Process) -> None:
    while not list(folder.glob("cache/fitting/*.ckpt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def difference(a: Path, b: Path) -> float:
    ours, theirs = load_file(a), load_file(b)
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


def test_only_the_last_stage_is_trained_and_no_statistics(pictures: Path, alone: Path) -> None:
    problem = problem_of(pictures)
    network = load_network(problem.backbone)
    before = network.net.state_dict()
    after = load_file(alone)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    last = trained_parameters(network, 64, "last")
    assert {f"net.{name}" for name in changed} == last
    tuned = load_network(replace(problem.backbone, weights=alone))
    assert all(torch.equal(tuned.net.state_dict()[name], after[name]) for name in after)


def test_what_was_trained_is_told_and_not_trained_again(
    pictures: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = facts_of(alone)
    losses = facts["validation_losses"]
    assert facts["from"] == problem_of(pictures).backbone.weights_sha256
    assert facts["depth"] == "last"
    assert facts["epochs"] == len(losses) == 3
    assert losses[facts["best_epoch"]] == min(losses) < losses[0] < np.log(12) + 0.1
    monkeypatch.setattr(finetuning, "_train", lambda *_: pytest.fail("it is trained again"))
    assert run(pictures, alone.parents[2]) == alone
    assert not list(alone.parents[1].glob("fitting/*"))


def test_two_machines_come_to_what_one_process_does_also_after_one_is_lost(
    pictures: Path, alone: Path, tmp_path: Path
) -> None:
    with two_machines(pictures, tmp_path, 3, 3) as (first, second):
        wait_for_checkpoint(tmp_path / "0", first)
        os.kill(int((tmp_path / "1" / "pid").read_text()), signal.SIGKILL)
        said = first.communicate()[1]
        second.communicate()
    assert first.returncode != 0 and second.returncode != 0
    assert "start all of them again, and they go on where they were" in said

    with two_machines(pictures, tmp_path, 3, 3) as both:
        outputs = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert "fine-tuning goes on from epoch" in outputs[0]
    [weights] = tmp_path.glob("0/cache/finetuned/*")
    assert not list(tmp_path.glob("1/cache/*/*")), "only the first one's cache is written"
    assert difference(weights, alone) < TOLERANCE
    assert facts_of(weights)["validation_losses"] == pytest.approx(
        facts_of(alone)["validation_losses"], abs=1e-4
    )


def test_machines_that_were_given_different_problems_say_so(pictures: Path, tmp_path: Path) -> None:
    with two_machines(pictures, tmp_path, 3, 4) as (first, second):
        said = second.communicate()[1]
        first.terminate()
    assert "give every machine the same" in said


def test_processes_that_lightning_starts_come_to_the_same(
    pictures: Path, alone: Path, tmp_path: Path
) -> None:
    """As it does where a machine has several GPUs."""
    module = "tests.unit.vision.test_finetuning", str(pictures), str(tmp_path), "3"
    with started(*module, PROCESSES="2") as process:
        said = process.communicate()[1]
    assert process.returncode == 0, said
    [weights] = tmp_path.glob("cache/finetuned/*")
    assert difference(weights, alone) < TOLERANCE


def test_stopped_it_goes_on_to_the_same_weights(
    pictures: Path, alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = "tests.unit.vision.test_finetuning", str(pictures), str(tmp_path), "3"
    with started(*module) as process:
        wait_for_checkpoint(tmp_path, process)
        process.send_signal(signal.SIGTERM)
        said = process.communicate()[1]
    assert process.returncode == 143, said
    weights = run(pictures, tmp_path)
    assert "fine-tuning goes on from epoch" in capsys.readouterr().err
    assert difference(weights, alone) == 0
    assert weights.read_bytes() == alone.read_bytes()


@pytest.mark.parametrize(
    ("network", "last"),
    [
        (TimmNetwork(EMBEDDED), ("blocks.5", "blocks.6", "conv_head", "bn2")),
        (TimmNetwork("resnet18"), ("layer4",)),
        (TorchvisionNetwork("resnet18", 64), ("layer4",)),
    ],
    ids=["embedded", "timm", "torchvision"],
)
def test_what_is_trained_follows_from_the_network(network: Network, last: tuple[str, ...]) -> None:
    network = network.eval()
    everything = {name for name, _ in network.named_parameters()}
    chosen = trained_parameters(network, 64, "all")
    assert chosen == everything
    assert trained_parameters(network, 64, "last") == {
        name for name in chosen if name.removeprefix("net.").startswith(last)
    }


def test_of_a_network_whose_stages_are_not_known_only_all_can_be_trained() -> None:
    network = TorchvisionNetwork("vit_b_16", 224).eval()
    with pytest.raises(SuresetError, match="--finetune all"):
        trained_parameters(network, 224, "last")


def test_a_mean_of_weights_sees_its_own_maps() -> None:
    """The maps are kept by hooks, which a copy has to have of its own."""
    network = TorchvisionNetwork("resnet18", 64).eval()
    copy = AveragedModel(network).eval()
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.mul_(2)
        pictures = torch.rand(1, 3, 64, 64)
        (ours, *_), (theirs, *_) = network(pictures), copy(pictures)
    assert len(ours) == len(theirs) == 5
    assert not torch.equal(ours[0], theirs[0])


def test_more_processes_than_pictures_are_one_sentence(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(SuresetError, match="9 processes cannot share batches of 8"):
        run(pictures, tmp_path, replace(PLAN, processes=9))


def test_whatever_decides_the_result_is_in_its_name(pictures: Path) -> None:
    problem = problem_of(pictures)
    labels = problem.training.labels.copy()
    labels[1, 0] = -1
    digests = problem.validation.digests.copy()
    digests[1, 0] ^= 1
    problems = [
        problem,
        replace(problem, depth="all"),
        replace(problem, seed=4),
        replace(problem, training=replace(problem.training, labels=labels)),
        replace(problem, validation=replace(problem.validation, digests=digests)),
        replace(problem, classes=dict(reversed([*problem.classes.items()]))),
        replace(problem, backbone=replace(problem.backbone, mean=(0, 0, 0))),
    ]
    names = {finetuning._fingerprint(each, PLAN) for each in problems}
    names |= {
        finetuning._fingerprint(problem, plan)
        for plan in (replace(PLAN, epochs=4), replace(PLAN, processes=2), replace(PLAN, batch=4))
    }
    assert len(names) == 10
    assert finetuning._fingerprint(problem_of(pictures), PLAN) in names


if __name__ == "__main__":  # One of several processes, or one that is to be stopped.
    end_when_told_to()
    place = Path(sys.argv[2])
    place.mkdir(exist_ok=True)
    (place / "pid").write_text(str(os.getpid()))
    processes = int(os.environ.get("PROCESSES", 1))
    run(Path(sys.argv[1]), place, replace(PLAN, processes=processes), int(sys.argv[3]))
