"""The sample set is hard enough to show what a prediction set is for.

This is coarse: of the 300 pictures that the run here learns from, little can be learnt. It fails
where a task has become trivial, not where it is merely easier than at the usual size it should be.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from app.data.sample import USUAL_TASKS
from tests.unit.pipeline.conftest import run_in


@pytest.fixture(scope="module")
def sizes(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Counter[int]]:
    """Of each task, how many of 100 new vehicles get a set of how many classes."""
    fresh = tmp_path_factory.mktemp("fresh") / "data"
    done = run_in(workplace, "sample", "--data", str(fresh), "--size", "100", "--seed", "9")
    assert done.returncode == 0, done.stderr
    pictures = sorted(map(str, (fresh / "images").iterdir()))
    done = run_in(workplace, "predict", "--alpha", "0.1", *pictures)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line)["tasks"] for line in done.stdout.splitlines()]
    return {task: Counter(len(answer[task]["set"]) for answer in answers) for task in USUAL_TASKS}


@pytest.mark.parametrize("task", USUAL_TASKS)
@pytest.mark.parametrize("size", [2, 3])
def test_sets_of_two_and_three_classes_occur(
    sizes: dict[str, Counter[int]], task: str, size: int
) -> None:
    assert sizes[task].total() == 100
    assert sizes[task][size] >= 3
