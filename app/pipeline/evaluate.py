"""Measure a calibrated model on the test split: is the promise kept, and at what set size?"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from app.bundle import Facts, find_bundle, open_bundle
from app.checksums import sha256_of
from app.conformal import evaluation
from app.conformal.evaluation import Evaluation
from app.conformal.method import BONFERRONI, Method
from app.conformal.metrics import STRATA, Metrics, Rates
from app.conformal.outliers import Outliers
from app.conformal.spaces import JOINT, completely_labelled
from app.errors import SuresetError
from app.pipeline.loading import load_heads, serving_runtime
from app.pipeline.pictures import Pictures
from app.pipeline.predict import ANSWERS, answers_of, method_folder, outliers_file
from app.pipeline.reuse import as_trained, encode_for_bundle
from app.pipeline.stopwatch import Stopwatch
from app.progress import console
from app.report.page import Examined, mean_size, title, write_report
from app.settings import Settings
from app.vision.heads import Heads

_EXAMPLES = 12
_LARGEST_EXAMPLE = 2 << 20

Results = dict[str, Metrics]


@dataclass(frozen=True)
class Examples:
    """The pictures that a bundle shows, which lie in its folder ``examples`` already.

    Attributes:
        truths: of each, by file name, the true class by task.
        features: theirs (n, d), by kind of runtime.
    """

    truths: dict[str, dict[str, str]]
    features: dict[str, NDArray[np.float32]]


def evaluate_into(
    folder: Path,
    facts: Facts,
    settings: Settings,
    heads: Heads,
    pictures: Pictures,
    features: Mapping[str, NDArray[np.float32]],
    watch: Stopwatch,
    examples: Examples | None = None,
) -> Results:
    """Write metrics, report, examples and the list of skipped pictures of a calibrated bundle.

    Args:
        folder: the bundle being written; its calibrations are there.
        facts: what becomes its bundle.json; the examples and what each runtime came to are added.
        pictures: n pictures, of which the test split is used.
        features: their features (n, d), by kind of runtime; the report is on the first.
        watch: what the run spent its time on so far.
        examples: those of the bundle, unless they are to be taken from the test split.
    """
    with watch("evaluate"):
        rows = pictures.rows("test")
        labels = pictures.labels(rows)
        probs, method, measured = {}, {}, {}
        for kind, own in features.items():
            probs[kind] = heads.probabilities(own[rows], settings.head, settings.space)
            calibrated = method_folder(folder, kind, settings.score, settings.taxonomy)
            method[kind] = Method.load(calibrated, heads.classes)
            measured[kind] = evaluation.evaluate(method[kind], probs[kind], labels, settings.alpha)
        facts["measured"] = {kind: _in_short(m.results) for kind, m in measured.items()}
        first = next(iter(features))
        outliers = {kind: Outliers.load(outliers_file(folder, kind)) for kind in features}
        test = pictures.take(rows)
        if examples is None:
            own_test = {kind: own[rows] for kind, own in features.items()}
            examples = _copy_examples(test, own_test, folder / "examples")
        facts["examples"] = examples.truths
        answers = {
            kind: answers_of(
                method[kind],
                outliers[kind],
                heads.probabilities(own, settings.head, settings.space),
                heads.standardise(own),
            )
            for kind, own in examples.features.items()
        }
        (folder / ANSWERS).write_text(json.dumps(answers), encoding="utf-8")
        skipped = "".join(f"{image}\t{why}\n" for image, why in pictures.skipped.items())
        (folder / "skipped.tsv").write_bytes(skipped.encode("utf-8", "backslashreplace"))
        unlike = outliers[first].p_values(heads.standardise(features[first][rows]))
        examined = Examined(test.manifest, probs[first], unlike, pictures.skipped)
        hashes = {"heads": sha256_of(folder / "heads.safetensors")}
        if "data_sha256" in facts:
            hashes["training pictures and labels"] = facts["data_sha256"]
        write_report(
            folder / "report.html",
            facts,
            settings,
            measured[first],
            method[first],
            examined,
            hashes,
        )
    metrics = as_json(measured[first], facts["tasks"], facts["method"], watch.seconds())
    text = json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    return measured[first].results


def _in_short(results: Results) -> dict[str, dict[str, float]]:
    """What runtimes are compared by."""
    names = ("accuracy", "coverage", "avg_set_size")
    return {task: {name: getattr(m, name) for name in names} for task, m in results.items()}


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
        folder = method_folder(path, runtime.kind, settings.score, settings.taxonomy)
        calibrated = Method.load(folder, heads.classes)
        labels = pictures.manifest.labels
        if not completely_labelled(labels).any():
            raise SuresetError(
                f"the test split of {settings.data_dir} holds no picture that is labelled for "
                "every task: add some."
            )
        measured = evaluation.evaluate(calibrated, probs, labels, settings.alpha)
    print_table(measured.results, settings.alpha)
    metrics = as_json(measured, facts["tasks"], method, watch.seconds())
    json.dump(metrics, sys.stdout, indent=1, allow_nan=False)
    print()


def as_json(
    measured: Evaluation,
    names: Mapping[str, Sequence[str]],
    method: Mapping[str, str],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The contents of metrics.json, in numbers that strict JSON can say.

    Args:
        names: each task's class names.
    """
    promised = 1 - measured.alpha
    tasks = {}
    for task, classes in names.items():
        coverage = measured.by_class[task]
        tasks[task] = {
            **_of_sets(measured, task),
            "classes": dict(zip(classes, _coverages(coverage), strict=True)),
            "classes_short": _chosen(classes, coverage.below(promised)),
            "classes_without_threshold": _chosen(classes, measured.unlimited[task]),
            "ece": measured.curves[task].expected_calibration_error,
            "brier": measured.brier[task],
        }
    together = {"joint": JOINT, "bonferroni": BONFERRONI}
    return {
        "alpha": measured.alpha,
        "tasks": tasks,
        **{key: _of_sets(measured, n) for key, n in together.items() if n in measured.results},
        "weighted": asdict(measured.weighted),
        "method": dict(method),
        "timing_s": dict(seconds),
    }


def _of_sets(measured: Evaluation, name: str) -> dict[str, Any]:
    """The metrics of a task's sets, or of the joint ones."""
    metrics = asdict(measured.results[name])
    if not math.isfinite(metrics["avg_set_size"]):  # More combinations than a float can count.
        metrics["avg_set_size"] = None
    strata = zip(STRATA, _coverages(measured.by_size[name]), strict=True)
    return {
        **metrics,
        "by_size": [{"sizes": sizes, **found} for sizes, found in strata if found["n_test"]],
    }


def _coverages(coverage: Rates) -> list[dict[str, Any]]:
    """Coverage of each group; of a group without pictures there is none."""
    return [
        {
            "n_test": n,
            "covered": hits,
            "coverage": hits / n if n else None,
            "coverage_ci": [low, high],
        }
        for n, hits, low, high in zip(
            coverage.n.tolist(),
            coverage.hits.tolist(),
            *(end.tolist() for end in coverage.interval),
            strict=True,
        )
    ]


def _chosen(names: Sequence[str], which: NDArray[np.bool_]) -> list[str]:
    return [names[c] for c in np.flatnonzero(which).tolist()]


def print_table(results: Results, alpha: float) -> None:
    """The results as a table, all tasks at once in the last row."""
    n = results[JOINT].n_test
    table = Table(title=f"{n} test pictures, coverage promised: {1 - alpha:g}")
    table.add_column("task")
    for column in ("accuracy", "coverage", "95 % interval", "mean size", "singletons"):
        table.add_column(column, justify="right", no_wrap=True)
    for task, m in results.items():
        if task == BONFERRONI:  # For comparison, in the report.
            continue
        low, high = m.coverage_ci
        table.add_row(
            escape(title(task)),
            f"{m.accuracy:.3f}",
            f"{m.coverage:.3f}",
            f"{low:.3f}-{high:.3f}",
            mean_size(m.avg_set_size),
            f"{m.singleton_rate:.3f}",
        )
    console.print(table)


def _copy_examples(
    test: Pictures, features: Mapping[str, NDArray[np.float32]], folder: Path
) -> Examples:
    """Copy the first few of m test pictures; their features (m, d) are by kind of runtime."""
    folder.mkdir()
    truths: dict[str, dict[str, str]] = {}
    rows: list[int] = []
    for i in range(len(test.manifest)):
        source = test.manifest.path(i)
        if source.stat().st_size > _LARGEST_EXAMPLE:
            continue
        name = f"{len(rows):02d}{source.suffix.lower()}"
        shutil.copyfile(source, folder / name)
        truths[name] = {
            task: names[test.manifest.labels[task][i]]
            for task, names in test.manifest.classes.items()
            if test.manifest.labels[task][i] >= 0
        }
        rows.append(i)
        if len(rows) == _EXAMPLES:
            break
    return Examples(truths, {kind: own[rows] for kind, own in features.items()})
