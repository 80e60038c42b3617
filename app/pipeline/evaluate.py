"""Measure a calibrated model on the test split: is the promise kept, and at what set size?"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from app.bundle import Facts, find_bundle, open_bundle
from app.conformal.method import Method
from app.conformal.metrics import Metrics
from app.conformal.spaces import JOINT
from app.pipeline.loading import load_heads, serving_runtime
from app.pipeline.pictures import Pictures
from app.pipeline.predict import method_folder
from app.pipeline.reuse import as_trained, encode_for_bundle
from app.pipeline.stopwatch import Stopwatch
from app.progress import console
from app.report.page import write_report
from app.settings import Settings
from app.vision.heads import Heads

_EXAMPLES = 12
_LARGEST_EXAMPLE = 2 << 20

Results = dict[str, Metrics]


def evaluate_into(
    folder: Path,
    facts: Facts,
    settings: Settings,
    heads: Heads,
    pictures: Pictures,
    features: NDArray[np.float32],
    watch: Stopwatch,
) -> Results:
    """Write metrics, report, examples and the list of skipped pictures of a calibrated bundle.

    Args:
        folder: the bundle being written; its calibration is there.
        facts: what becomes its bundle.json; the examples are added.
        pictures: n pictures, of which the test split is used.
        features: their features, (n, d).
        watch: what the run spent its time on so far.
    """
    with watch("evaluate"):
        rows = pictures.rows("test")
        probs = heads.probabilities(features[rows], settings.head, settings.space)
        method = Method.load(
            method_folder(folder, settings.score, settings.taxonomy), heads.classes
        )
        answers = method.answer(probs, settings.alpha)
        results = answers.measure(pictures.labels(rows), settings.alpha)
        facts["examples"] = _copy_examples(pictures.take(rows), folder / "examples")
        skipped = "".join(f"{image}\t{why}\n" for image, why in pictures.skipped.items())
        (folder / "skipped.tsv").write_bytes(skipped.encode("utf-8", "backslashreplace"))
        write_report(folder / "report.html", facts, results, method, probs, pictures.labels(rows))
    metrics = as_json(results, settings.alpha, facts["method"], watch.seconds())
    text = json.dumps(metrics, indent=1, ensure_ascii=False)
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    return results


def evaluate(settings: Settings) -> None:
    """Measure a bundle on the test split of a folder; the table, and JSON on standard output.

    Raises:
        SuresetError: the bundle or the pictures do not allow it.
    """
    watch = Stopwatch()
    path = find_bundle(settings.models_dir, settings.model)
    facts = open_bundle(path)
    settings = as_trained(settings, facts)
    with watch("features"):
        runtime = serving_runtime(path, facts)
        pictures, features = encode_for_bundle(settings, path, facts, runtime, "test")
    heads = load_heads(path, facts)
    # The head and space are what was calibrated, whatever HEAD and SPACE ask of the next training.
    method = {**facts["method"], "score": settings.score, "taxonomy": settings.taxonomy}
    with watch("evaluate"):
        probs = heads.probabilities(features, method["head"], method["space"])
        folder = method_folder(path, settings.score, settings.taxonomy)
        answers = Method.load(folder, heads.classes).answer(probs, settings.alpha)
        results = answers.measure(pictures.manifest.labels, settings.alpha)
    print_table(results, settings.alpha)
    json.dump(as_json(results, settings.alpha, method, watch.seconds()), sys.stdout, indent=1)
    print()


def as_json(
    results: Results, alpha: float, method: Mapping[str, str], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """The contents of metrics.json."""
    return {
        "alpha": alpha,
        "tasks": {task: asdict(m) for task, m in results.items() if task != JOINT},
        "joint": asdict(results[JOINT]),
        "method": dict(method),
        "timing_s": dict(seconds),
    }


def print_table(results: Results, alpha: float) -> None:
    """The results as a table, all tasks at once in the last row."""
    n = results[JOINT].n_test
    table = Table(title=f"{n} test pictures, coverage promised: {1 - alpha:g}")
    table.add_column("task")
    for column in ("accuracy", "coverage", "95 % interval", "mean size", "singletons"):
        table.add_column(column, justify="right", no_wrap=True)
    for task, m in results.items():
        low, high = m.coverage_ci
        table.add_row(
            "all at once" if task == JOINT else escape(task),
            f"{m.accuracy:.3f}",
            f"{m.coverage:.3f}",
            f"{low:.3f}-{high:.3f}",
            f"{m.avg_set_size:.2f}",
            f"{m.singleton_rate:.3f}",
        )
    console.print(table)


def _copy_examples(test: Pictures, folder: Path) -> dict[str, dict[str, str]]:
    """Copy the first few test pictures; of each file name, the picture's true classes."""
    folder.mkdir()
    truths: dict[str, dict[str, str]] = {}
    for i in range(len(test.manifest)):
        source = test.manifest.path(i)
        if source.stat().st_size > _LARGEST_EXAMPLE:
            continue
        name = f"{len(truths):02d}{source.suffix.lower()}"
        shutil.copyfile(source, folder / name)
        truths[name] = {
            task: names[test.manifest.labels[task][i]]
            for task, names in test.manifest.classes.items()
            if test.manifest.labels[task][i] >= 0
        }
        if len(truths) == _EXAMPLES:
            break
    return truths
