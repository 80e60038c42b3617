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
from app.conformal.checks import as_alpha
from app.conformal.resplits import Division, divisions, fewest_labelled, resplits
from app.conformal.spaces import JOINT, completely_labelled
from app.data.splits import ties
from app.disk import writing
from app.errors import SuresetError
from app.pipeline.loading import load_heads, serving_runtime
from app.pipeline.pictures import Pictures
from app.pipeline.reuse import as_trained, encode_for_bundle
from app.progress import progress, say
from app.report.comparisons import MEASURES, compare, spread
from app.report.matrix import write_matrix
from app.settings import METHOD, Settings
from app.vision.heads import Heads, joint_is_feasible

#: Divisions that show how the coverage of the bundle's own method is distributed.
_DISTRIBUTION = 500
#: Of one task alone, or of all combinations as one, the same groups by another name.
_SAME_OF_ONE = {"global": "task", "task_cluster": "cluster"}

#: Head, space, score, taxonomy.
MethodName = tuple[str, str, str, str]
Row = dict[str, Any]


def experiments(settings: Settings) -> Path:
    """Measure every method on every division, compare them, and write it all under the logs.

    ``divisions.csv`` holds every number, ``matrix.csv`` their means and spreads,
    ``comparisons.csv`` which differences exceed chance, and ``matrix.html`` shows them.

    Raises:
        SuresetError: the bundle, the pictures or the settings do not allow it.
    """
    alphas = _alphas(settings.alphas)
    path = find_bundle(settings.models_dir, settings.model)
    facts = open_bundle(path)
    settings = as_trained(settings, facts)
    runtime = serving_runtime(path, facts)
    pictures, features = encode_for_bundle(settings, path, facts, runtime, "calib", "test")
    heads = load_heads(path, facts)
    own = canonical(tuple(facts["method"][part] for part in METHOD), len(heads.classes))
    divided = _divide(pictures, max(settings.repeats, _DISTRIBUTION), settings.seed)
    repeated = divided[: settings.repeats]
    every = pd.DataFrame(_measure_all(heads, pictures, features, alphas, repeated))
    probs = heads.probabilities(features, *own[:2])
    often = pd.DataFrame(_measure(probs, heads, pictures, own, [facts["alpha"]], divided))

    matrix = spread(every)
    compared = compare(every, list(heads.classes), own)
    folder = settings.logs_dir / "experiments" / path.name
    with writing("the matrix", folder, "--logs"):
        folder.mkdir(parents=True, exist_ok=True)
        every.to_csv(folder / "divisions.csv", index=False)
        matrix.to_csv(folder / "matrix.csv", index=False)
        compared.to_csv(folder / "comparisons.csv", index=False, float_format="%.6g")
        write_matrix(folder / "matrix.html", facts, own, every, compared, often)
    say(f"{len(matrix)} rows, means over {settings.repeats} divisions: {folder / 'matrix.csv'}")
    say(f"the page: {folder / 'matrix.html'}")
    return folder


def canonical(method: MethodName, tasks: int) -> MethodName:
    """The one name of a method that has several, with so many tasks.

    In the joint space all combinations are one task, and ``global`` is ``task``. Where there is
    one task alone, its classes are all combinations, and the spaces are one.
    """
    head, space, score, taxonomy = method
    if tasks == 1:
        space = "taskwise"
    if tasks == 1 or space == JOINT:
        taxonomy = _SAME_OF_ONE.get(taxonomy, taxonomy)
    return head, space, score, taxonomy


def _alphas(named: str) -> list[float]:
    """The error rates, from the smallest on.

    Raises:
        SuresetError: one of them is none.
    """
    try:
        return sorted({float(as_alpha(float(alpha))) for alpha in named.split(",")})
    except ValueError as error:
        raise SuresetError(
            f"setting alphas (--alphas) cannot be {named!r}: give numbers strictly between 0 and 1 "
            "with commas between them, as in 0.05,0.1,0.2."
        ) from error


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
    heads: Heads,
    pictures: Pictures,
    features: NDArray[np.float32],
    alphas: Sequence[float],
    divided: Sequence[Division],
) -> Iterator[Row]:
    """Every method on every division; rows as of ``_measure``."""
    spaces = ["taskwise", JOINT] if joint_is_feasible(heads.classes) else ["taskwise"]
    named = product(spaces, spaces, SCORES, TAXONOMIES)
    methods = list(dict.fromkeys(canonical(method, len(heads.classes)) for method in named))
    with progress("experiments", len(methods), "methods") as advance:
        for (head, space), some in groupby(methods, key=itemgetter(0, 1)):
            probs = heads.probabilities(features, head, space)
            for method in some:
                yield from _measure(probs, heads, pictures, method, alphas, divided)
                advance(1)


def _measure(
    probs: dict[str, NDArray[np.float64]],
    heads: Heads,
    pictures: Pictures,
    method: MethodName,
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
