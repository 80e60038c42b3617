"""The thesis's matrix from one pass over the pictures: head x space x score x taxonomy x alpha.

Features come from the cache, heads from a bundle, so only calibration and evaluation are repeated:
on several random divisions of the held-out pictures, since one division is one draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, product
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.bundle import find_bundle, open_bundle
from app.conformal import SCORES, TAXONOMIES
from app.conformal.resplits import Division, divisions, fewest_labelled, resplits
from app.conformal.spaces import JOINT, completely_labelled
from app.data.splits import ties
from app.disk import writing
from app.errors import SuresetError
from app.pipeline.loading import load_heads, serving_runtime
from app.pipeline.pictures import Pictures
from app.pipeline.reuse import as_trained, encode_for_bundle
from app.progress import progress, say
from app.report.matrix import MEASURES, write_matrix
from app.settings import METHOD, Settings
from app.vision.heads import Heads, joint_is_feasible

_ALPHAS = (0.05, 0.1, 0.2)
#: Divisions that show how the coverage of the bundle's own method is distributed.
_DISTRIBUTION = 500
_KEY = [*METHOD, "alpha", "task"]

Row = dict[str, Any]


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
    divided = _divide(pictures, max(settings.repeats, _DISTRIBUTION), settings.seed)
    repeated = divided[: settings.repeats]
    every = pd.DataFrame(_measure_all(heads, pictures, features, repeated))
    own = facts["method"]
    probs = heads.probabilities(features, own["head"], own["space"])
    method = own["head"], own["space"], own["score"], own["taxonomy"]
    often = pd.DataFrame(_measure(probs, heads, pictures, method, [facts["alpha"]], divided))

    matrix = every.groupby(_KEY, sort=False)[list(MEASURES)].agg(["mean", "std"]).round(4)
    matrix.columns = ["_".join(column) for column in matrix.columns]
    matrix["n_divisions"] = settings.repeats
    folder = settings.logs_dir / "experiments" / path.name
    with writing("the matrix", folder, "--logs"):
        folder.mkdir(parents=True, exist_ok=True)
        matrix.reset_index().to_csv(folder / "matrix.csv", index=False)
        write_matrix(folder / "matrix.html", facts, every, often)
    say(f"{len(matrix)} rows, means over {settings.repeats} divisions: {folder / 'matrix.csv'}")
    say(f"the page: {folder / 'matrix.html'}")
    return folder


def _divide(pictures: Pictures, repeats: int, seed: int) -> list[Division]:
    """Random divisions with as many calibration pictures as there are now.

    Raises:
        SuresetError: one of them leaves nothing to measure all tasks at once on.
    """
    n_calib = len(pictures.rows("calib"))
    tied = ties(pictures.digests, pictures.manifest.group)
    divided = list(divisions(len(tied), n_calib, repeats, seed, tied))
    if fewest_labelled(pictures.manifest.labels, divided)[1] == 0:
        raise SuresetError(
            f"too few held-out pictures of {pictures.manifest.root} are labelled for every task to "
            "be divided at random: add some, or groups of them."
        )
    return divided


def _measure_all(
    heads: Heads, pictures: Pictures, features: NDArray[np.float32], divided: Sequence[Division]
) -> Iterator[Row]:
    """Every method on every division; rows as of ``_measure``."""
    spaces = ["taskwise", JOINT] if joint_is_feasible(heads.classes) else ["taskwise"]
    methods = list(product(spaces, spaces, SCORES, TAXONOMIES))
    with progress("experiments", len(methods), "methods") as advance:
        for (head, space), some in groupby(methods, key=itemgetter(0, 1)):
            probs = heads.probabilities(features, head, space)
            for method in some:
                yield from _measure(probs, heads, pictures, method, _ALPHAS, divided)
                advance(1)


def _measure(
    probs: dict[str, NDArray[np.float64]],
    heads: Heads,
    pictures: Pictures,
    method: tuple[str, str, str, str],
    alphas: Sequence[float],
    divided: Sequence[Division],
) -> Iterator[Row]:
    """One method on every division: of each task, numbers of labelled pictures and ``MEASURES``."""
    _, _, score, taxonomy = method
    labels = pictures.manifest.labels
    known = {task: label >= 0 for task, label in labels.items()}
    complete = completely_labelled(labels)
    for resplit in resplits(probs, labels, heads.classes, score, taxonomy, alphas, divided):
        for task, metrics in resplit.results.items():
            # What is no task concerns all at once.
            labelled = known.get(task, complete)
            yield {
                **dict(zip(METHOD, method, strict=True)),
                "alpha": resplit.alpha,
                "task": task,
                "division": resplit.division,
                "n_calib": int(labelled[divided[resplit.division].calib].sum()),
                "n_test": metrics.n_test,
                **{measure: getattr(metrics, measure) for measure in MEASURES},
            }
