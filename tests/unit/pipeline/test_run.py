"""The commands on a real run: what they write, print and refuse."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from app.bundle import open_bundle
from app.conformal import SCORES, TAXONOMIES
from app.conformal.method import Method
from app.pipeline.experiments import canonical
from app.pipeline.pictures import find_pictures
from app.settings import load_settings
from app.vision.heads import in_space
from tests.unit.pipeline.conftest import ROOT, Run, run_in

METRICS = {
    "accuracy",
    "coverage",
    "coverage_ci",
    "avg_set_size",
    "singleton_rate",
    "empty_rate",
    "covgap",
    "sscv",
    "n_test",
    "by_size",
}
#: Of a task alone.
OF_CLASSES = {"classes", "classes_short", "classes_without_threshold", "ece", "brier"}


def bundle(workplace: Path) -> Path:
    return (workplace / "models" / "latest").resolve()


def pictures(workplace: Path, n: int) -> list[str]:
    return [str(p) for p in sorted((workplace / "data" / "images").iterdir())[:n]]


def strict(text: str) -> dict[str, Any]:
    """JSON as its standard has it: Python alone reads NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def test_train_ends_with_a_table_and_the_next_command(workplace: Path) -> None:
    said = (workplace / "train.txt").read_text()
    for word in ("accuracy", "coverage", "95 % interval", "mean size", "singletons"):
        assert word in said
    for row in ("colour", "type", "all at once"):
        assert row in said
    assert said.rstrip().endswith("next: make serve")


def test_the_bundle_holds_what_it_promises(workplace: Path) -> None:
    path = bundle(workplace)
    facts = open_bundle(path)
    files = set(facts["files"])
    assert {"heads.safetensors", "encoder.xml", "encoder.bin", "encoder.onnx"} <= files
    assert {"metrics.json", "report.html", "skipped.tsv"} <= files
    assert len([f for f in files if f.endswith("calibration.npz")]) == len(SCORES) * len(TAXONOMIES)
    assert {f.removeprefix("examples/") for f in files if "examples/" in f} == set(
        facts["examples"]
    )
    assert {task: len(names) for task, names in facts["tasks"].items()} == {
        "colour": 12,
        "type": 11,
    }
    assert sum(facts["splits"].values()) == 300
    assert not [f for f in path.rglob("*") if f.suffix in {".pkl", ".pt", ".pth", ".ckpt"}]


def test_what_was_measured(workplace: Path) -> None:
    path = bundle(workplace)
    facts = open_bundle(path)
    metrics = strict((path / "metrics.json").read_text())
    together = {"joint", "bonferroni", "weighted"}
    assert set(metrics) == {"alpha", "tasks", *together, "method", "timing_s"}
    assert set(metrics["tasks"]) == {"colour", "type"}
    assert set(metrics["joint"]) == set(metrics["bonferroni"]) == METRICS
    for measured in (*metrics["tasks"].values(), metrics["joint"], metrics["bonferroni"]):
        assert measured["coverage_ci"][0] <= measured["coverage"] <= measured["coverage_ci"][1]
        assert sum(stratum["n_test"] for stratum in measured["by_size"]) == measured["n_test"]
        strata = [stratum["coverage"] - (1 - metrics["alpha"]) for stratum in measured["by_size"]]
        assert measured["sscv"] == max(map(abs, strata))
    for task, measured in metrics["tasks"].items():
        assert set(measured) == METRICS | OF_CLASSES
        assert list(measured["classes"]) == facts["tasks"][task]
        of_class = measured["classes"].values()
        assert sum(c["n_test"] for c in of_class) == measured["n_test"] == facts["splits"]["test"]
        assert sum(c["covered"] for c in of_class) / measured["n_test"] == measured["coverage"]
        for name, found in measured["classes"].items():
            assert (found["coverage"] is None) == (found["n_test"] == 0)
            short = found["coverage_ci"][1] < 1 - metrics["alpha"]
            assert (name in measured["classes_short"]) == short
        assert measured["classes_without_threshold"] == []
        assert 0 < measured["ece"] < 1 and 0 < measured["brier"] < 2
    sizes = [metrics["tasks"][task]["avg_set_size"] for task in ("colour", "type")]
    mean = (12 * sizes[0] + 11 * sizes[1]) / 23
    assert metrics["weighted"]["avg_set_size"] == pytest.approx(mean)
    steps = {"features", "fit", "calibrate", "evaluate", "export", "total"}
    assert set(metrics["timing_s"]) == steps


def test_the_report_opens_without_a_network(workplace: Path) -> None:
    page = (bundle(workplace) / "report.html").read_text()
    # Of all: promise, law, sizes, outliers; of two tasks each: by class and by probability.
    assert page.count("<svg") == 4 + 2 * 2
    assert set(re.findall(r'src="(.{11})', page)) == {"data:image/"}
    assert "<link" not in page and "<script" not in page


def test_a_second_run_computes_no_feature_again(workplace: Path, run: Run) -> None:
    done = run("train", "--save-as", "second", BACKBONE="tf_efficientnet_lite0")
    assert done.returncode == 0, done.stderr
    assert "features: 3" not in done.stderr
    first = open_bundle(bundle(workplace).parent / "second")["files"]
    others = [p for p in (workplace / "models").iterdir() if p.name not in ("second", "latest")]
    again = open_bundle(others[0])["files"]
    stable = [f for f in first if f not in ("metrics.json", "report.html")]
    assert {f: first[f] for f in stable} == {f: again[f] for f in stable}  # the same seed


def test_predict_prints_a_json_object_a_picture(workplace: Path, run: Run) -> None:
    paths = pictures(workplace, 3)
    done = run("predict", *paths, "--alpha", "0.2")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [a["image"] for a in answers] == paths
    tasks = open_bundle(bundle(workplace))["tasks"]
    for answer in answers:
        assert set(answer) == {"image", "tasks", "joint", "outlier_p"}
        assert 0 < answer["outlier_p"] <= 1
        for task, said in answer["tasks"].items():
            assert list(said["p_values"]) == tasks[task]
            assert said["top"] in tasks[task]
            assert set(said["set"]) == {c for c, p in said["p_values"].items() if p > 0.2}
        size = 1
        for classes in answer["joint"]["sets"].values():
            size *= len(classes)
        assert answer["joint"]["size"] == size
        first, *others = answer["joint"]["likeliest"]
        assert first["classes"] == answer["joint"]["top"]
        assert all(first["probability"] >= other["probability"] > 0 for other in others)


def test_predict_says_what_it_cannot_read_and_goes_on(workplace: Path, run: Run) -> None:
    (workplace / "broken.jpg").write_bytes(Path(pictures(workplace, 1)[0]).read_bytes()[:5000])
    (workplace / "text.png").write_text("no picture")
    good = pictures(workplace, 1)[0]
    done = run("predict", "broken.jpg", "text.png", "absent.jpg", good)
    assert done.returncode == 1
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["error" in a for a in answers] == [True, True, True, False]
    assert "Traceback" not in done.stderr


def test_evaluate_repeats_what_training_measured(workplace: Path, run: Run) -> None:
    trained = json.loads((bundle(workplace) / "metrics.json").read_text())
    # HEAD and SPACE are for the next training: this bundle was calibrated with its own.
    for variables in ({}, {"HEAD": "joint", "SPACE": "joint"}):
        done = run("evaluate", **variables)
        assert done.returncode == 0, done.stderr
        again = strict(done.stdout)
        for key in ("alpha", "tasks", "joint", "weighted", "method"):
            assert again[key] == trained[key]


def test_calibrate_makes_a_new_bundle_and_keeps_the_old(workplace: Path, run: Run) -> None:
    shutil.copytree(workplace / "models", workplace / "other", symlinks=True)
    old = (workplace / "other" / "latest").resolve()
    done = run("calibrate", "--models", "other", "--space", "joint", "--head", "joint")
    assert done.returncode == 0, done.stderr
    new = (workplace / "other" / "latest").resolve()
    assert new != old and open_bundle(old)
    facts = open_bundle(new)
    assert facts["calibrated_from"] == open_bundle(old)["name"]
    assert facts["method"] == {
        "head": "joint",
        "space": "joint",
        "score": "hinge",
        "taxonomy": "task",
    }
    assert facts["files"]["heads.safetensors"] == open_bundle(old)["files"]["heads.safetensors"]
    done = run("predict", "--models", "other", pictures(workplace, 1)[0])
    joint = json.loads(done.stdout)["joint"]
    assert joint["size"] == len(joint["combinations"])


def test_doctor_finds_it_all(workplace: Path, run: Run) -> None:
    done = run("doctor", "--port", "0", "--static", str(ROOT / "static"))
    assert done.returncode == 0, done.stderr
    assert "data in data: 300 pictures, layout csv, tasks colour (12), type (11)" in done.stdout
    assert "weights of resnet50: not in cache" in done.stdout
    assert f"bundle models/{bundle(workplace).name}: whole" in done.stdout


def refused(done) -> str:
    """The one sentence a command ended with."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.startswith("error: ") and last.endswith(".")
    return last


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of 40 pictures of two classes in labels.csv."""
    (tmp_path / "data").mkdir()
    rows = ["image,kind"]
    for i in range(40):
        Image.new("RGB", (40, 40), (6 * i, 100, 255 - 6 * i)).save(tmp_path / "data" / f"{i}.png")
        rows.append(f"{i}.png,{'ab'[i % 2]}")
    (tmp_path / "data" / "labels.csv").write_text("\n".join(rows))
    return tmp_path


def spoil_empty(data: Path) -> None:
    shutil.rmtree(data)
    data.mkdir()


def spoil_missing(data: Path) -> None:
    (data / "7.png").unlink()


def spoil_columns(data: Path) -> None:
    text = (data / "labels.csv").read_text()
    (data / "labels.csv").write_text(text.replace("image,kind", "file,kind"))


def spoil_one_class(data: Path) -> None:
    text = (data / "labels.csv").read_text()
    (data / "labels.csv").write_text(text.replace("png,b", "png,a"))


def spoil_nothing(data: Path) -> None:
    pass


def spoil_pictures(data: Path) -> None:
    for i in range(0, 40, 4):
        (data / f"{i}.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (spoil_empty, "there are no pictures in data"),
        (spoil_missing, "7.png"),
        (spoil_columns, "image"),
        (spoil_one_class, "kind"),
        (spoil_nothing, "add pictures, or accept a larger --alpha"),
        (spoil_pictures, "10 of 40 pictures"),
    ],
)
def test_bad_folders_end_in_one_sentence(folder: Path, spoil, sentence: str) -> None:
    spoil(folder / "data")
    done = run_in(folder, "train", "--alpha", "0.05")
    assert sentence in refused(done)
    assert not (folder / "models").exists()


def test_no_folder_at_all(tmp_path: Path) -> None:
    assert "data" in refused(run_in(tmp_path, "train"))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_bundle(workplace: Path, tmp_path: Path) -> None:
    """No file may grow beyond 12 MB here, and the network has 13."""
    done = run_in(
        workplace,
        *("calibrate", "--model", str(bundle(workplace)), "--models", str(tmp_path / "models")),
        file_limit=12 << 20,
    )
    assert "the bundle" in refused(done) and "File too large" in done.stderr
    assert not any((tmp_path / "models").iterdir())


def test_a_bundle_with_a_changed_byte_does_not_answer(workplace: Path, tmp_path: Path) -> None:
    shutil.copytree(workplace / "models", tmp_path / "models", symlinks=True)
    file = (tmp_path / "models" / "latest" / "heads.safetensors").resolve()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    done = run_in(workplace, "predict", "--models", str(tmp_path / "models"), "x.jpg")
    assert "heads.safetensors was changed" in refused(done)
    assert done.stdout == ""


def test_no_bundle_yet(tmp_path: Path) -> None:
    assert "make train" in refused(run_in(tmp_path, "predict", "x.jpg"))


def test_prefetch_writes_no_sample_set_into_a_folder_that_was_named(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    done = run_in(tmp_path, "prefetch", "--data", "mine", BACKBONE="tf_efficientnet_lite0")
    assert done.returncode == 0
    assert list((tmp_path / "mine").iterdir()) == []


def test_an_unknown_backbone_names_those_there_are(tmp_path: Path) -> None:
    sentence = refused(
        run_in(tmp_path, "prefetch", "--backbone", "resnet51", "--static", f"{ROOT}/static")
    )
    assert "resnet50" in sentence and "tf_efficientnet_lite0" in sentence


def test_other_classes_than_the_bundle_was_trained_on(run: Run, folder: Path) -> None:
    done = run("evaluate", "--data", str(folder / "data"))
    assert "not those the bundle" in refused(done)


def test_no_picture_that_is_labelled_for_every_task(workplace: Path, run: Run) -> None:
    other = workplace / "halves"
    shutil.copytree(workplace / "data", other)
    header, *lines = (other / "labels.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines]
    for i, row in enumerate(rows):
        row[header.split(",").index(("colour", "type")[i % 2])] = ""
    (other / "labels.csv").write_text("\n".join([header, *map(",".join, rows)]))
    sentence = refused(run("evaluate", "--data", "halves"))
    assert "holds no picture that is labelled for every task" in sentence


def test_experiments_cover_the_whole_matrix(workplace: Path, run: Run) -> None:
    done = run("experiments", "--repeats", "2", "--alphas", "0.3, 0.1")
    assert done.returncode == 0, done.stderr
    folder = workplace / "lightning_logs" / "experiments" / bundle(workplace).name
    matrix = pd.read_csv(folder / "matrix.csv")
    heads, alphas, tasks = 2, 2, 3  # colour, type, and both at once
    # In the joint space taxonomies over all tasks and within each are the same.
    taskwise, joint = (heads * len(SCORES) * taxonomies for taxonomies in (len(TAXONOMIES), 3))
    other = matrix.task.isin(["joint (Bonferroni)", "joint (product)"])
    assert other.sum() == 2 * alphas * taskwise and (matrix[other].space == "taskwise").all()
    assert len(matrix[~other]) == alphas * tasks * (taskwise + joint)
    measures = ["coverage", "avg_set_size", "singleton_rate", "empty_rate", "covgap", "sscv"]
    assert list(matrix.columns) == [
        *("head", "space", "score", "taxonomy", "alpha", "task"),
        *(f"{measure}_{of}" for measure in ["accuracy", *measures] for of in ("mean", "std")),
        "n_divisions",
    ]
    assert (matrix.n_divisions == 2).all() and not matrix.isna().any(axis=None)
    task = (matrix.taxonomy == "task") & (matrix.space == "taskwise") & (matrix.task != "joint")
    by_alpha = matrix[task & ~other].groupby("alpha").coverage_mean.mean()
    assert list(by_alpha.index) == [0.1, 0.3]
    # Of one division's 45 pictures to test and about as many to calibrate, a coverage scatters by
    # 0.1; two divisions and two tasks that go together leave some 0.06 of it.
    assert np.allclose(by_alpha, 1 - by_alpha.index, atol=0.2)

    every = pd.read_csv(folder / "divisions.csv")
    key = list(matrix.columns[:6])
    assert len(every) == 2 * len(matrix) and not every.duplicated([*key, "division"]).any()
    means = every.groupby(key, sort=False).covgap.mean()
    assert np.allclose(means, matrix.covgap_mean, atol=1e-4)
    compared = pd.read_csv(folder / "comparisons.csv")
    assert len(compared) == (taskwise + joint) * alphas * (tasks + 1) * 2
    assert (compared.reading == "own").sum() == alphas * (tasks + 1) * 2

    page = (folder / "matrix.html").read_text()
    assert page.count('class="own"') == alphas
    # Over alphas of tasks and of both; at each the legend, heads and spaces, differences; the law.
    assert page.count("<svg") == 2 + alphas * (1 + 4 + 1) + 4
    assert page.count('class="best"') >= alphas and "src=" not in page and "<script" not in page


def test_an_error_rate_that_is_none(run: Run) -> None:
    for alphas in ("0.1,1", "0.1,,0.2", "a"):
        assert f"--alphas) cannot be '{alphas}'" in refused(run("experiments", "--alphas", alphas))


@pytest.mark.parametrize(
    ("method", "tasks", "same"),
    [
        (("joint", "joint", "hinge", "global"), 2, ("joint", "joint", "hinge", "task")),
        (("joint", "joint", "hinge", "task_cluster"), 2, ("joint", "joint", "hinge", "cluster")),
        (("joint", "taskwise", "hinge", "global"), 2, ("joint", "taskwise", "hinge", "global")),
        (("joint", "joint", "aps", "global"), 1, ("joint", "taskwise", "aps", "task")),
        (("taskwise", "joint", "aps", "class"), 1, ("taskwise", "taskwise", "aps", "class")),
    ],
)
def test_methods_of_one_name_have_the_same_sets(method: Any, tasks: int, same: Any) -> None:
    assert canonical(method, tasks) == same
    classes = {"colour": 3, "type": 2} if tasks == 2 else {"colour": 5}
    rng = np.random.default_rng(0)
    labels = {task: rng.integers(0, count, 300) for task, count in classes.items()}
    own = {task: rng.dirichlet(np.ones(count), 300) for task, count in classes.items()}
    answers = []
    for _, space, score, taxonomy in (method, same):
        probs = in_space(own, classes, "taskwise", space)
        calibrated = Method.calibrate(probs, labels, classes, score, taxonomy, seed=1)
        answers.append(calibrated.answer(probs, 0.1))
    for task in classes:
        assert (answers[0].sets[task] == answers[1].sets[task]).all()
        assert (answers[0].joint_sets[task] == answers[1].joint_sets[task]).all()


def test_pictures_that_trained_the_bundle_calibrate_nothing(workplace: Path, run: Run) -> None:
    """The same pictures, with training and calibration exchanged by a split column."""
    other = workplace / "exchanged"
    shutil.copytree(workplace / "data", other)
    lines = (other / "labels.csv").read_text().splitlines()
    rows = [f"{line},{('calib', 'test', 'train')[i % 3]}" for i, line in enumerate(lines[1:])]
    (other / "labels.csv").write_text("\n".join([lines[0] + ",split", *rows]))
    for command in ("calibrate", "evaluate"):
        sentence = refused(run(command, "--data", "exchanged"))
        assert "were used to train the bundle" in sentence


def test_labels_of_calibration_and_test_change_nothing_that_is_fitted(
    workplace: Path, run: Run
) -> None:
    """Neither weights nor temperatures: the bundle of pictures whose other labels are shuffled."""
    facts = open_bundle(bundle(workplace))
    settings = load_settings(data_dir=workplace / "data", layout="csv", seed=facts["seed"])
    found = find_pictures(settings)
    shutil.copytree(workplace / "data", workplace / "shuffled")
    table = pd.DataFrame(
        {
            task: np.array(names)[found.manifest.labels[task]]
            for task, names in facts["tasks"].items()
        }
    )
    held_out = found.rows("calib", "test")
    assert len(held_out) == facts["splits"]["calib"] + facts["splits"]["test"]
    table.iloc[held_out] = table.iloc[np.random.default_rng(0).permutation(held_out)]
    table.insert(0, "image", found.manifest.images)
    table["split"] = found.split
    table.to_csv(workplace / "shuffled" / "labels.csv", index=False)

    done = run(
        *("train", "--data", "shuffled", "--models", "of-shuffled"),
        BACKBONE="tf_efficientnet_lite0",
    )
    assert done.returncode == 0, done.stderr
    again = open_bundle(workplace / "of-shuffled" / "latest")
    assert again["temperatures"] == facts["temperatures"]
    assert again["files"]["heads.safetensors"] == facts["files"]["heads.safetensors"]
    calibration = f"calibration/{facts['calibrations'][0]}/hinge-task/calibration.npz"
    assert again["files"][calibration] != facts["files"][calibration]


def test_other_pictures_may_lack_some_classes(workplace: Path, run: Run) -> None:
    """Codes are those of the bundle, not of the folder: a wrong code would cost accuracy."""
    other = workplace / "fewer"
    shutil.copytree(workplace / "data", other)
    lines = (other / "labels.csv").read_text().splitlines()
    kept = [line for line in lines if ",beige," not in line and ",bicycle" not in line]
    (other / "labels.csv").write_text("\n".join(kept))
    done = run("evaluate", "--data", "fewer")
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)["tasks"]
    trained = json.loads((bundle(workplace) / "metrics.json").read_text())["tasks"]
    for task in measured:
        assert measured[task]["n_test"] < trained[task]["n_test"]
        assert measured[task]["accuracy"] > trained[task]["accuracy"] - 0.15


def test_a_name_that_is_taken_is_refused_before_any_work(workplace: Path, run: Run) -> None:
    done = run("train", "--save-as", bundle(workplace).name, BACKBONE="tf_efficientnet_lite0")
    assert "name another with --save-as" in refused(done)
    assert "features" not in done.stderr and "fitting" not in done.stderr


def test_too_few_pictures_to_calibrate_again(workplace: Path, run: Run) -> None:
    before = sorted((workplace / "models").iterdir())
    assert "accept a larger --alpha" in refused(run("calibrate", "--alpha", "0.001"))
    assert sorted((workplace / "models").iterdir()) == before


def test_a_task_cannot_be_called_joint(folder: Path) -> None:
    text = (folder / "data" / "labels.csv").read_text()
    (folder / "data" / "labels.csv").write_text(text.replace("kind", "joint"))
    assert "cannot be called joint" in refused(run_in(folder, "train"))


def test_terminated_it_leaves_nothing_half_written(workplace: Path, tmp_path: Path) -> None:
    """SIGTERM while the bundle is being filled."""
    models = tmp_path / "models"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BACKBONE": "tf_efficientnet_lite0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "train", "--models", str(models)],
        cwd=workplace,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not list(models.glob(".*/heads.safetensors")):
        time.sleep(0.01)
    process.terminate()
    try:
        _, said = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 143, said
    assert list(models.iterdir()) == []


def test_stopped_while_fitting_it_goes_on_to_the_same_bundle(
    workplace: Path, tmp_path: Path
) -> None:
    """SIGTERM as `docker stop` sends it, then Ctrl-C, then left alone."""
    shutil.copytree(workplace / "cache" / "features", tmp_path / "cache" / "features")
    folders = [
        word for name in ("cache", "models", "logs") for word in (f"--{name}", str(tmp_path / name))
    ]
    command = [sys.executable, "-m", "app", "train", *folders]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BACKBONE": "tf_efficientnet_lite0"}
    kept = tmp_path / "cache" / "fitting"
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = subprocess.Popen(
            command, cwd=workplace, env=environment, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        try:
            if number == signal.SIGTERM:
                while process.poll() is None and not list(kept.glob("*.ckpt")):
                    time.sleep(0.001)
            else:
                while "goes on from epoch" not in process.stderr.readline():
                    assert process.poll() is None
            process.send_signal(number)
            said = process.communicate(timeout=10)[1]  # Docker kills after as long.
        finally:
            process.kill()
        assert process.returncode == status
        last = said.rstrip().splitlines()[-1]
        assert f"stay in {tmp_path / 'cache'}" in last and "the same command goes on" in last
        assert "Traceback" not in said
    done = run_in(workplace, "train", *folders, BACKBONE="tf_efficientnet_lite0")
    assert done.returncode == 0, done.stderr
    assert "fitting the taskwise head goes on from epoch" in done.stderr
    assert list(kept.iterdir()) == []
    first = open_bundle(tmp_path / "models" / "latest")["files"]
    again = open_bundle(bundle(workplace))["files"]
    stable = [f for f in first if f not in ("metrics.json", "report.html")]
    assert {f: first[f] for f in stable} == {f: again[f] for f in stable}
