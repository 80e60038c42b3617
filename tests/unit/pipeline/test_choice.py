"""``auto``: what may choose a method, what becomes of the choice, and when it is made anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.bundle import open_bundle
from app.conformal import SCORES, TAXONOMIES
from app.conformal.spaces import JOINT
from app.data.manifest import Manifest
from app.errors import SuresetError
from app.pipeline.choice import check_choosable, choose_method
from app.pipeline.pictures import Pictures, find_pictures
from app.pipeline.reuse import as_asked, as_trained
from app.settings import METHOD, Settings, load_settings
from app.vision.heads import Heads
from tests.unit.pipeline.conftest import Run
from tests.unit.pipeline.test_run import refused

CLASSES = {"colour": 4, "type": 3}
DEFAULT = {"head": "taskwise", "space": "taskwise", "score": "hinge", "taxonomy": "task"}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working folder, and no setting in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


# ---- who has a say

Labels = dict[str, np.ndarray]


@pytest.fixture
def problem() -> tuple[Heads, Pictures, np.ndarray, Labels]:
    """Two heads that see different things; labels by what the taskwise one sees; and the others'.

    A feature vector holds a noisy one-hot code of the classes twice: for the taskwise head, and for
    the joint one, of other classes.
    """
    rng = np.random.default_rng(0)
    n, outputs = 300, sum(CLASSES.values())
    seen_by = [{t: rng.integers(0, c, n) for t, c in CLASSES.items()} for _ in ("taskwise", JOINT)]
    codes = [
        np.concatenate([np.eye(c)[labels[t]] for t, c in CLASSES.items()], axis=1)
        for labels in seen_by
    ]
    features = 3 * np.concatenate(codes, axis=1) + rng.normal(size=(n, 2 * outputs))
    of_combination = np.array([[a, 4 + b] for a in range(4) for b in range(3)])
    joint = np.zeros((2 * outputs, 12), np.float32)
    for number, pair in enumerate(of_combination):
        joint[outputs + pair, number] = 1
    eye = np.eye(2 * outputs, outputs, dtype=np.float32)
    heads = Heads(
        mean=np.zeros(2 * outputs, np.float32),
        scale=np.ones(2 * outputs, np.float32),
        layers={
            "taskwise": {
                "colour": [(eye[:, :4], np.zeros(4, np.float32))],
                "type": [(eye[:, 4:], np.zeros(3, np.float32))],
            },
            JOINT: {JOINT: [(joint, np.zeros(12, np.float32))]},
        },
        classes=CLASSES,
        temperatures={"taskwise": dict.fromkeys(CLASSES, 1.0), JOINT: {JOINT: 1.0}},
    )
    names = {task: [f"{task} {i}" for i in range(count)] for task, count in CLASSES.items()}
    manifest = Manifest(Path("pictures"), "csv", [f"{i}.png" for i in range(n)], names, seen_by[0])
    split = np.repeat(["valid", "calib", "test"], n // 3)
    digests = rng.integers(0, 256, (n, 16), np.uint8)
    return heads, Pictures(manifest, digests, split, {}), features.astype(np.float32), seen_by[1]


def relabelled(pictures: Pictures, labels: Mapping[str, np.ndarray], *splits: str) -> Pictures:
    """Other labels in some splits."""
    at = np.isin(pictures.split, splits)
    mixed = {t: np.where(at, labels[t], y) for t, y in pictures.manifest.labels.items()}
    return replace(pictures, manifest=replace(pictures.manifest, labels=mixed))


def test_calibration_and_test_pictures_have_no_say(problem) -> None:
    heads, pictures, features, others = problem
    settings = load_settings(head="auto", score="auto")
    first: dict[str, Any] = {}
    concrete = choose_method(first, settings, heads, pictures, features)
    unusable = features.copy()
    unusable[~(pictures.split == "valid")] = np.nan
    unknown = {task: np.full(len(features), -1) for task in CLASSES}
    for labels in (others, unknown):
        again: dict[str, Any] = {}
        disturbed = relabelled(pictures, labels, "calib", "test")
        assert choose_method(again, settings, heads, disturbed, unusable) == concrete
        assert again == first


def test_validation_labels_have(problem) -> None:
    heads, pictures, features, others = problem
    settings = load_settings(head="auto")
    assert choose_method({}, settings, heads, pictures, features).head == "taskwise"
    seen_by_the_other = relabelled(pictures, others, "valid")
    assert choose_method({}, settings, heads, seen_by_the_other, features).head == JOINT


def test_what_is_named_is_kept_and_what_came_of_it_is_written_down(
    problem, capsys: pytest.CaptureFixture[str]
) -> None:
    heads, pictures, features, others = problem
    settings = load_settings(head="auto", taxonomy="auto", score="pip", alpha=0.2)
    facts: dict[str, Any] = {}
    pictures = relabelled(pictures, others, "valid")
    concrete = choose_method(facts, settings, heads, pictures, features)
    assert (concrete.space, concrete.score, concrete.alpha) == ("taskwise", "pip", 0.2)
    chosen = facts["chosen"]
    assert chosen["asked"] == {**DEFAULT, "head": "auto", "taxonomy": "auto", "score": "pip"}
    assert (chosen["alpha"], chosen["pictures"]) == (0.2, 100)
    assert [(c["head"], c["taxonomy"]) for c in chosen["candidates"]] == [
        (head, taxonomy)
        for head in ("taskwise", JOINT)
        for taxonomy in ("task", "global", "class", "cluster", "task_cluster")
    ]
    # The default is no candidate: what is left of it is the reference.
    assert {name: chosen["reference"][name] for name in METHOD} == {**DEFAULT, "score": "pip"}
    assert chosen["measured"] in chosen["candidates"]
    assert {name: chosen["measured"][name] for name in METHOD} == concrete.model_dump(
        include=set(METHOD)
    )
    json.dumps(facts, allow_nan=False)
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("chosen among 10 methods on 100 validation pictures: joint head")


def test_with_a_method_named_nothing_is_chosen(problem) -> None:
    heads, pictures, features, _ = problem
    settings = load_settings(score="aps")
    facts = {"chosen": {"asked": "of an earlier calibration"}}
    assert choose_method(facts, settings, heads, pictures, features) is settings
    assert facts == {}


def test_infeasible_joint_candidates_are_left_out() -> None:
    classes = {"a": 41, "b": 50}
    rng = np.random.default_rng(0)
    heads = Heads(
        mean=np.zeros(2, np.float32),
        scale=np.ones(2, np.float32),
        layers={
            "taskwise": {
                task: [(rng.normal(size=(2, c)).astype(np.float32), np.zeros(c, np.float32))]
                for task, c in classes.items()
            }
        },
        classes=classes,
        temperatures={"taskwise": dict.fromkeys(classes, 1.0)},
    )
    names = {task: [str(i) for i in range(count)] for task, count in classes.items()}
    labels = {task: rng.integers(0, count, 20) for task, count in classes.items()}
    manifest = Manifest(Path("pictures"), "csv", [str(i) for i in range(20)], names, labels)
    digests = rng.integers(0, 256, (20, 16), np.uint8)
    pictures = Pictures(manifest, digests, np.full(20, "valid"), {})
    facts: dict[str, Any] = {}
    features = rng.normal(size=(20, 2)).astype(np.float32)
    choose_method(facts, load_settings(head="auto", space="auto"), heads, pictures, features)
    assert [(c["head"], c["space"]) for c in facts["chosen"]["candidates"]] == [
        ("taskwise", "taskwise")
    ]


def test_too_few_validation_pictures_say_to_name_the_method(problem) -> None:
    _, pictures, _, _ = problem
    few = pictures.take(np.r_[0:17, 100:300])
    check_choosable(few, load_settings())
    settings = load_settings(score="auto", taxonomy="auto")
    with pytest.raises(SuresetError, match=r"17 pictures.*pictures.*name it with") as error:
        check_choosable(few, settings)
    assert "--score, --taxonomy" in str(error.value) and "--head" not in str(error.value)
    check_choosable(few, load_settings(score="auto", alpha=0.2))


# ---- what auto means for a bundle

FACTS: dict[str, Any] = {
    "method": {"head": "joint", "space": "taskwise", "score": "aps", "taxonomy": "class"},
    "alpha": 0.2,
    "seed": 3,
}


def named(settings: Settings) -> dict[str, str]:
    return settings.model_dump(include=set(METHOD))


def test_auto_is_the_bundles_own_method_where_nothing_is_calibrated() -> None:
    auto = dict.fromkeys(METHOD, "auto")
    assert named(as_trained(load_settings(None, **auto), FACTS)) == FACTS["method"]
    asked = {**FACTS, "chosen": {"asked": auto}}
    assert named(as_trained(load_settings(), asked)) == FACTS["method"]
    mixed = as_trained(load_settings(score="auto", taxonomy="task"), FACTS)
    assert (mixed.score, mixed.taxonomy) == ("aps", "task")


@pytest.mark.parametrize(
    ("asked", "given", "expected"),
    [
        ({}, {}, {}),
        ({}, {"score": "auto"}, {"score": "auto"}),
        ({"score": "auto", "head": "auto"}, {}, {"score": "auto", "head": "auto"}),
        ({"score": "auto", "head": "auto"}, {"score": "pip"}, {"score": "pip", "head": "auto"}),
        ({"score": "auto"}, {"score": "hinge"}, {"score": "hinge"}),
        ({"score": "auto"}, {"head": "taskwise"}, {"score": "auto", "head": "taskwise"}),
    ],
)
def test_calibrating_again_chooses_anew_what_is_not_named(
    asked: dict[str, str], given: dict[str, str], expected: dict[str, str]
) -> None:
    facts = dict(FACTS)
    if asked:
        facts["chosen"] = {"asked": {**FACTS["method"], **asked}}
    settings = as_asked(load_settings(None, **given), facts)
    assert named(settings) == {**FACTS["method"], **expected}
    assert (settings.alpha, settings.seed) == (0.2, 3)


# ---- a real run


def test_training_chooses_and_says_why(chosen: Path) -> None:
    path = chosen / "chosen"
    facts = open_bundle(path)
    assert set(facts["method"]) == set(METHOD)
    assert facts["method"]["score"] in SCORES and facts["method"]["taxonomy"] in TAXONOMIES
    assert facts["chosen"]["asked"] == dict.fromkeys(METHOD, "auto")
    assert len(facts["chosen"]["candidates"]) == 4 * len(SCORES) * len(TAXONOMIES)
    assert facts["chosen"]["pictures"] == facts["splits"]["valid"]
    assert facts["method"] == {name: facts["chosen"]["measured"][name] for name in METHOD}
    assert {name: facts["chosen"]["reference"][name] for name in METHOD} == DEFAULT
    assert json.loads((path / "metrics.json").read_text())["method"] == facts["method"]
    assert "<dt>chosen</dt>" in (path / "report.html").read_text()
    said = (chosen.parent / "chosen.txt").read_text()
    assert said.count("chosen among 120 methods on ") == 1


def test_auto_in_the_environment_is_the_bundles_own_method(chosen: Path, run: Run) -> None:
    auto = {name.upper(): "auto" for name in METHOD}
    trained = json.loads((chosen / "chosen" / "metrics.json").read_text())
    done = run("evaluate", "--models", "chosen", "--model", "chosen", **auto)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert all(measured[key] == trained[key] for key in ("alpha", "tasks", "joint", "method"))
    picture = str(min((chosen.parent / "data" / "images").iterdir()))
    answers = [
        run("predict", "--models", "chosen", "--model", "chosen", picture, **variables).stdout
        for variables in ({}, auto)
    ]
    assert answers[0] == answers[1] and json.loads(answers[0])["tasks"]


def test_calibrating_again_chooses_again(chosen: Path, run: Run) -> None:
    first = open_bundle(chosen / "chosen")
    again = "calibrate", "--models", "chosen", "--model", "chosen", "--save-as"
    done = run(*again, "same")
    assert done.returncode == 0, done.stderr
    assert "chosen among 120 methods" in done.stderr
    facts = open_bundle(chosen / "same")
    assert (facts["method"], facts["chosen"]) == (first["method"], first["chosen"])
    # The splits it was fitted on are still those of its training.
    assert facts["splits"] == first["splits"]

    named = [word for name, value in DEFAULT.items() for word in (f"--{name}", value)]
    done = run(*again, "named", *named)
    assert done.returncode == 0, done.stderr
    facts = open_bundle(chosen / "named")
    assert facts["method"] == DEFAULT and "chosen" not in facts


def test_without_validation_pictures_the_method_is_to_be_named(chosen: Path, run: Run) -> None:
    workplace = chosen.parent
    found = find_pictures(load_settings(data_dir=workplace / "data"))
    lines = (workplace / "data" / "labels.csv").read_text().splitlines()
    split = dict(zip(found.manifest.images, found.split, strict=True))
    rows = [f"{line},{split[line.split(',')[0]]}" for line in lines[1:]]
    held_out = [row for row in rows if row.endswith(("calib", "test"))]
    shutil.copytree(workplace / "data", workplace / "held-out")
    text = "\n".join([lines[0] + ",split", *held_out])
    (workplace / "held-out" / "labels.csv").write_text(text)
    again = "calibrate", "--models", "chosen", "--model", "chosen", "--data", "held-out"
    sentence = refused(run(*again))
    assert "the 0 pictures in the valid split" in sentence
    assert all(f"--{name}" in sentence for name in METHOD)
    named = [word for name, value in DEFAULT.items() for word in (f"--{name}", value)]
    done = run(*again, "--save-as", "held-out", *named)
    assert done.returncode == 0, done.stderr
