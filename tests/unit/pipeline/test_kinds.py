"""A calibration belongs to the kind of runtime that it was made with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from app.bundle import Facts, new_bundle, open_bundle
from app.errors import SuresetError
from app.pipeline import loading
from app.pipeline.loading import bundled_runtime, serving_runtime
from app.pipeline.predict import Classifier
from app.vision.backbones import EMBEDDED
from app.vision.runtimes import CannotRun, Runtime, best_float
from tests.unit.pipeline.conftest import Run, run_in
from tests.unit.pipeline.test_run import bundle, pictures, refused

FULL = f"openvino-{best_float()}"


@pytest.fixture(scope="module")
def quantised(workplace: Path) -> Path:
    """A bundle of the same pictures whose network computes in 8 bits."""
    done = run_in(
        *(workplace, "train", "--precision", "int8", "--models", "kinds", "--save-as", "int8"),
        BACKBONE=EMBEDDED,
    )
    assert done.returncode == 0, done.stderr
    return workplace / "kinds" / "int8"


def test_a_quantised_bundle_tells_what_quantisation_cost(quantised: Path) -> None:
    facts = open_bundle(quantised)
    int8 = f"openvino-int8-{best_float()}"
    assert facts["calibrations"] == list(facts["measured"]) == [int8, FULL]
    assert {"encoder-int8.xml", "encoder-int8.bin", "encoder.xml"} <= set(facts["files"])
    metrics = json.loads((quantised / "metrics.json").read_text())
    for task in ("colour", "type"):
        for name, value in facts["measured"][int8][task].items():
            assert metrics["tasks"][task][name] == value
        # Networks that round otherwise answer otherwise, but not much.
        of_both = [facts["measured"][kind][task]["accuracy"] for kind in (int8, FULL)]
        assert abs(of_both[0] - of_both[1]) < 0.15
    thresholds = [
        (quantised / "calibration" / kind / "hinge-task" / "calibration.npz").read_bytes()
        for kind in (int8, FULL)
    ]
    assert thresholds[0] != thresholds[1]


def test_it_is_served_as_it_was_calibrated_first(workplace: Path, quantised: Path) -> None:
    facts = open_bundle(quantised)
    classifier = Classifier(quantised, facts)
    assert classifier.runtime == facts["calibrations"][0]
    full = Classifier(quantised, facts, bundled_runtime(FULL, quantised, facts))
    [path] = pictures(workplace, 1)
    first, second = (c.answers([Path(path)])[0] for c in (classifier, full))
    assert not np.array_equal(first["p_values"]["colour"], second["p_values"]["colour"])


def unable(*kinds: str):
    """A machine that cannot run some kinds."""

    def opened(kind: str, path: Path, facts: Facts) -> Runtime:
        if kind in kinds:
            raise CannotRun("this processor has no such numbers")
        return bundled_runtime(kind, path, facts)

    return opened


def test_a_machine_that_cannot_run_the_first_kind_runs_the_next_and_says_so(
    quantised: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = open_bundle(quantised)
    first = facts["calibrations"][0]
    monkeypatch.setattr(loading, "bundled_runtime", unable(first))
    assert serving_runtime(quantised, facts).kind == FULL
    assert f"int8 runs as {FULL} here, not as {first}" in capsys.readouterr().err


def test_a_machine_that_can_run_none_is_told_to_calibrate(
    quantised: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = open_bundle(quantised)
    monkeypatch.setattr(loading, "bundled_runtime", unable(*facts["calibrations"]))
    with pytest.raises(
        SuresetError,
        match=r"no such numbers.*guarantee would not hold.*python -m app calibrate --model int8",
    ):
        serving_runtime(quantised, facts)


def test_calibrate_adds_a_kind_and_renews_the_others(workplace: Path, run: Run) -> None:
    shutil.copytree(bundle(workplace), workplace / "kinds" / "plain")
    named = "--models", "kinds", "--model", "plain", "--save-as", "both"
    done = run("calibrate", *named, "--precision", "f32")
    assert done.returncode == 0, done.stderr
    facts = open_bundle(workplace / "kinds" / "both")
    assert facts["calibrations"] == list(dict.fromkeys(["openvino-f32", FULL]))
    done = run("bundle", "check", "--models", "kinds", "--model", "both")
    assert done.returncode == 0, done.stderr
    assert "openvino-f32: 12 pictures are answered as where it was made" in done.stdout


def test_calibrate_cannot_quantise(workplace: Path, run: Run) -> None:
    said = refused(run("calibrate", "--precision", "int8"))
    assert "train it with --precision int8): leave both out" in said


def test_calibrate_has_no_weights_for_torch(run: Run) -> None:
    said = refused(run("calibrate", RUNTIME="torch"))
    assert "cannot run as torch-" in said and "train it with --runtime torch): leave both" in said


def test_torch_has_no_int8(run: Run) -> None:
    done = run("train", "--precision", "int8", "--runtime", "torch", BACKBONE=EMBEDDED)
    assert "--runtime torch --precision int8 cannot be had" in refused(done)


def test_torch_and_openvino_share_a_bundle_and_nearly_their_answers(
    workplace: Path, run: Run
) -> None:
    named = "--models", "kinds", "--save-as", "torch"
    done = run("train", *named, "--runtime", "torch", BACKBONE=EMBEDDED)
    assert done.returncode == 0, done.stderr
    path = workplace / "kinds" / "torch"
    facts = open_bundle(path)
    assert facts["calibrations"][1] == FULL
    answers = [
        Classifier(path, facts, bundled_runtime(kind, path, facts)).answers(
            [Path(p) for p in pictures(workplace, 3)]
        )
        for kind in facts["calibrations"]
    ]
    for ours, theirs in zip(*answers, strict=True):
        for task, p_values in ours["p_values"].items():
            np.testing.assert_allclose(p_values, theirs["p_values"][task], atol=0.15)


def test_bundle_check_notices_answers_that_moved(workplace: Path, run: Run) -> None:
    """Whoever changed the answers and the checksums alike would still not answer so."""
    old = bundle(workplace)
    facts = {k: v for k, v in open_bundle(old).items() if k not in ("files", "content_sha256")}
    with new_bundle(workplace / "kinds", "moved", facts) as folder:
        shutil.copytree(old, folder, dirs_exist_ok=True)
        (folder / "bundle.json").unlink()
        answers = json.loads((folder / "answers.json").read_text())
        answers[FULL][3]["p_values"]["type"][0] += 0.1
        (folder / "answers.json").write_text(json.dumps(answers))
    done = run("bundle", "check", "--models", "kinds", "--model", "moved")
    assert done.returncode == 1 and "otherwise than where it was made" in done.stdout
    whole = run("bundle", "check")
    assert whole.returncode == 0 and open_bundle(old)["content_sha256"] in whole.stdout


def test_views_are_more_to_learn_from(workplace: Path, run: Run) -> None:
    named = "--models", "kinds", "--save-as", "views", "--views", "1"
    done = run("train", *named, BACKBONE=EMBEDDED)
    assert done.returncode == 0, done.stderr
    train = open_bundle(workplace / "kinds" / "views")["splits"]["train"]
    assert f"features: {train}/{train} pictures" in done.stderr
    assert open_bundle(workplace / "kinds" / "views")["views"] == 1
    again = run("train", *named[:2], *named[4:], BACKBONE=EMBEDDED)
    assert again.returncode == 0, again.stderr
    assert f"features: {train}/" not in again.stderr
