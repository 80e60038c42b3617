"""On features of drawn pictures, our heads are as often right as logistic regression."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from app.data.manifest import SPLITS
from app.data.sample import write_sample
from app.pipeline.pictures import extract, find_pictures
from app.settings import load_settings
from app.vision.backbones import EMBEDDED, as_backbone, find_weights
from app.vision.candidates import search_for
from app.vision.exporting import exported
from app.vision.features import FeatureCache
from app.vision.fitting import checkpoints_of, fit_heads
from app.vision.runtimes import OpenVINORuntime


def test_accuracy_is_that_of_logistic_regression(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", 500)
    weights = find_weights(EMBEDDED, tmp_path, tmp_path)
    assert weights is not None
    backbone = as_backbone(EMBEDDED, weights)
    encoder = exported(backbone, "stages", tmp_path)
    runtime = OpenVINORuntime(encoder, "f32")
    cache = FeatureCache(tmp_path, encoder.name, runtime, backbone.preprocess)
    found = find_pictures(load_settings(data_dir=tmp_path / "sample", cache_dir=tmp_path))
    pictures, features = extract(found, SPLITS, cache)
    train, valid, new = (pictures.rows(*s) for s in (["train"], ["valid"], ["calib", "test"]))
    training, validation = ((features[rows], pictures.labels(rows)) for rows in (train, valid))
    classes = {task: len(names) for task, names in pictures.manifest.classes.items()}
    problem = training, validation, classes, 0, search_for("stages", 1000.0)
    heads, _ = fit_heads(*problem, tmp_path / "logs", checkpoints_of(*problem, tmp_path))

    # The features lie in the space the training pictures span: in its basis a penalty on the
    # weights is the same, and few numbers are left.
    x = heads.standardise(features)
    x = x @ np.linalg.svd(x[train], full_matrices=False)[2].T
    rights, labels = [], pictures.manifest.labels
    for y in labels.values():
        rivals = [
            LogisticRegression(C=c, max_iter=200).fit(x[train], y[train])
            for c in (1e-3, 1e-2, 1e-1, 1.0)
        ]
        best = max(rivals, key=lambda rival: rival.score(x[valid], y[valid]))
        rights.append(best.score(x[new], y[new]))
    # Two standard errors of a mean of two tasks' accuracies of about 0.7 on as many pictures.
    tolerance = 2 * sqrt(0.7 * 0.3 / (len(classes) * len(new)))
    probs = heads.probabilities(features[new], "taskwise", "taskwise")
    ours = np.mean([(probs[t].argmax(axis=1) == y[new]).mean() for t, y in labels.items()])
    assert ours > np.mean(rights) - tolerance
