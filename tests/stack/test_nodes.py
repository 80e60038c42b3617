"""Fine-tuning on two machines: two containers that find each other on the stack's network."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.stack.clone import Stack

#: Between validation losses near 2. Training is in bf16 where the processor has it, in which
#: another order of summing changes more than in float32.
TOLERANCE = 0.05

#: Few pictures, with splits that suffice for this alpha.
SETTINGS = {"SAMPLE_SIZE": "150", "ALPHA": "0.3", "FINETUNE": "last"}


def bundle(project: Stack, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is known of a bundle, and what it scored."""
    script = f"cat /app/models/{name}/bundle.json; echo ,; cat /app/models/{name}/metrics.json"
    facts, metrics = json.loads(f"[{project.shell('train', script)}]")
    return facts, metrics


def test_two_containers_come_to_what_one_does(project: Stack) -> None:
    project.compose("run", "--rm", "prefetch", **SETTINGS)
    project.compose("run", "--rm", "--no-deps", "train", "train", "--save-as", "one", **SETTINGS)

    names = [f"{project.project}-{machine}" for machine in range(2)]
    for machine, name in enumerate(names):
        torchrun = (
            f"unprivileged torchrun --nnodes 2 --node-rank {machine} "
            f"--master-addr {names[0]} --master-port 29400 -m app"
        )
        run = ("run", "--detach", "--name", name, "--no-deps", "--entrypoint", torchrun)
        project.compose(*run, "train", "train", "--save-as", "two", **SETTINGS)
    try:
        statuses = [project.done("docker", "wait", name).stdout.strip() for name in names]
        logs = [project.done("docker", "logs", name) for name in names]
        said = [log.stdout + log.stderr for log in logs]
    finally:
        project.run("docker", "rm", "--force", *names)
    assert statuses == ["0", "0"], said
    assert "bundle models/two" in said[0]
    assert said[1].splitlines()[-1] == (
        "process 1: its share of the fine-tuning is done, process 0 goes on alone"
    )
    assert not re.search("splits|features|fitting", said[1])

    (one, scored), (two, scored_by_two) = bundle(project, "one"), bundle(project, "two")
    ours, theirs = (facts["finetuned"]["validation_losses"] for facts in (one, two))
    assert theirs == pytest.approx(ours, abs=TOLERANCE)
    assert min(ours) < ours[0]
    for task, metrics in scored["tasks"].items():
        pictures = metrics["n_test"]
        difference = abs(metrics["accuracy"] - scored_by_two["tasks"][task]["accuracy"])
        assert difference * pictures <= 2, (task, scored, scored_by_two)
