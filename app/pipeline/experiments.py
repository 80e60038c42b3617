"""The thesis's matrix from one pass over the pictures: head x space x score x taxonomy x alpha.

Features come from the cache, heads from a bundle, so only calibration and evaluation are repeated:
on several random divisions of the held-out pictures, since one division is one draw.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from app.bundle import find_bundle, open_bundle
from app.conformal import SCORES, TAXONOMIES
from app.conformal.method import Method
from app.conformal.spaces import JOINT
from app.data.splits import ties
from app.disk import writing
from app.pipeline.loading import load_heads, serving_runtime
from app.pipeline.reuse import as_trained, encode_for_bundle
from app.progress import progress, say
from app.settings import Settings
from app.vision.heads import joint_is_feasible

_DIVISIONS = 5
_ALPHAS = (0.05, 0.1, 0.2)
_KEY = ["head", "space", "score", "taxonomy", "alpha", "task"]


def experiments(settings: Settings) -> Path:
    """Write ``matrix.csv`` (mean and spread of every method) and ``matrix.html`` under the logs.

    Raises:
        SuresetError: the bundle or the pictures do not allow it.
    """
    path = find_bundle(settings.models_dir, settings.model)
    facts = open_bundle(path)
    settings = as_trained(settings, facts)
    runtime = serving_runtime(path, facts)
    pictures, features = encode_for_bundle(settings, path, facts, runtime, "calib", "test")
    heads = load_heads(path, facts)
    labels = pictures.manifest.labels
    calib_share = len(pictures.rows("calib")) / len(features)
    tie = ties(pictures.digests, pictures.manifest.group)

    spaces = ("taskwise", JOINT) if joint_is_feasible(heads.classes) else ("taskwise",)
    combinations = list(product(heads.weights, spaces))
    rows = []
    total = _DIVISIONS * len(combinations) * len(SCORES) * len(TAXONOMIES)
    with progress("experiments", total, "methods") as advance:
        for head, space in combinations:
            probs = heads.probabilities(features, head, space)
            for division, score, taxonomy in product(range(_DIVISIONS), SCORES, TAXONOMIES):
                # Pictures of one group, and copies, go to one side together.
                draw = np.random.default_rng([settings.seed, division]).random(tie.max() + 1)
                in_calib = draw[tie] < calib_share
                calib, test = np.flatnonzero(in_calib), np.flatnonzero(~in_calib)
                method = Method.calibrate(
                    {name: p[calib] for name, p in probs.items()},
                    {task: values[calib] for task, values in labels.items()},
                    heads.classes,
                    score,
                    taxonomy,
                    settings.seed,
                )
                for alpha in _ALPHAS:
                    answers = method.answer({name: p[test] for name, p in probs.items()}, alpha)
                    truths = {task: values[test] for task, values in labels.items()}
                    for task, m in answers.measure(truths, alpha).items():
                        at = (head, space, score, taxonomy, alpha, task)
                        measured = (m.coverage, m.avg_set_size, m.singleton_rate, m.covgap)
                        rows.append((*at, *measured))
                advance(1)

    measures = ["coverage", "avg_set_size", "singleton_rate", "covgap"]
    table = pd.DataFrame(rows, columns=[*_KEY, *measures])
    matrix = table.groupby(_KEY, sort=False)[measures].agg(["mean", "std"]).round(4)
    matrix.columns = ["_".join(column) for column in matrix.columns]
    folder = settings.logs_dir / "experiments" / path.name
    with writing("the matrix", folder, "--logs"):
        folder.mkdir(parents=True, exist_ok=True)
        matrix.reset_index().to_csv(folder / "matrix.csv", index=False)
        matrix.reset_index().to_html(folder / "matrix.html", index=False)
    say(f"{len(matrix)} rows, means over {_DIVISIONS} divisions: {folder / 'matrix.csv'}")
    return folder
