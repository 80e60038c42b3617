"""The report of one bundle: a page in one file that opens without a network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray

from app.conformal.evaluation import Evaluation
from app.conformal.law import CoverageLaw, of_groups
from app.conformal.method import BONFERRONI, Method
from app.conformal.metrics import STRATA
from app.conformal.spaces import JOINT, joint_labels, marginalise
from app.data.manifest import Manifest
from app.report.confusion import confusion
from app.report.gallery import missed, show, uncertain
from app.report.plots import (
    CLASSES,
    class_coverage,
    coverage_by_alpha,
    coverages_and_laws,
    outlier_p_values,
    reliability_diagram,
    set_sizes,
)
from app.settings import METHOD, Settings, flag_name

_ALPHAS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
#: With more tasks than this, the first have plots and tables of their own.
_TASKS = 6
#: So many skipped pictures are named.
_SKIPPED = 5

#: What decides a training run, beside the folder.
_DECISIVE: tuple[str, ...] = (
    *("layout", "backbone", "weights", "finetune", "recipe", "views", "search_s"),
    *("runtime", "precision", "alpha", *METHOD, "seed"),
)
#: Of these, what decides a calibration; the bundle that is calibrated again decides the others.
_OF_CALIBRATION: tuple[str, ...] = ("layout", "runtime", "precision", "alpha", *METHOD)

PAGES = Environment(loader=PackageLoader("app.report", "."), autoescape=True, trim_blocks=True)


@dataclass(frozen=True)
class Examined:
    """The test pictures of a bundle, and what it says of them.

    Attributes:
        pictures: m pictures and their labels.
        probs: their probabilities in the method's label space, by task (m, C).
        outlier_p: their outlier p-values, (m,).
        skipped: why each picture was left out of all splits, by path.
    """

    pictures: Manifest
    probs: Mapping[str, NDArray[np.float64]]
    outlier_p: NDArray[np.float64]
    skipped: Mapping[str, str]


def write_report(
    path: Path,
    facts: Mapping[str, Any],
    settings: Settings,
    measured: Evaluation,
    method: Method,
    examined: Examined,
    hashes: Mapping[str, str],
) -> None:
    """Write the page for one bundle.

    Args:
        facts: the bundle's, as far as they are known before it is sealed.
        settings: those that made it.
        measured: what came of the test pictures at the bundle's alpha.
        method: the calibrated method that was measured.
        examined: what it was measured on.
        hashes: sha256 of what it was made of, by what that is.
    """
    names: dict[str, list[str]] = facts["tasks"]
    few = list(names)[:_TASKS]
    # One task alone is all at once.
    told = list(names) if len(names) == 1 else [*names, JOINT, BONFERRONI]
    labels = examined.pictures.labels
    promised = 1 - measured.alpha
    answers = measured.answers
    joint = examined.probs.get(JOINT)
    probs = examined.probs if joint is None else marginalise(joint, method.classes)
    pictures = examined.pictures, answers, method.p_values(examined.probs), examined.outlier_p
    short = {task: found.below(promised) for task, found in measured.by_class.items()}
    laws = _laws(measured, method, labels)
    page = PAGES.get_template("report.html").render(
        facts=facts,
        data=settings.data_dir,
        layout=examined.pictures.layout,
        skipped=dict(islice(examined.skipped.items(), _SKIPPED)),
        skipped_count=len(examined.skipped),
        tasks={task: (len(names[task]), names[task][:12]) for task in names},
        few=few,
        most_classes=CLASSES,
        results={title(task): m for task, m in measured.results.items() if task in told},
        weighted=measured.weighted,
        mean_size=mean_size,
        unlimited=_named(names, measured.unlimited),
        short=_named(names, short),
        strata=_strata(measured, told),
        promise=coverage_by_alpha(
            _ALPHAS,
            _coverages(method, examined, _ALPHAS),
            facts["splits"]["calib"],
            min(m.n_test for m in measured.results.values()),
        ),
        sizes=set_sizes({task: answers.sets[task].sum(axis=1) for task in few}),
        lawful=coverages_and_laws(laws, promised) if laws else None,
        luck={task: _luck(law, covered) for task, (law, covered) in laws.items()},
        class_plots=[
            class_coverage(task, names[task], measured.by_class[task], promised) for task in few
        ],
        confusions={
            task: (
                confusion(names[task], labels[task], _one_hot(answers.top[task], names[task])),
                confusion(names[task], labels[task], answers.sets[task]),
            )
            for task in few
        },
        brier=measured.brier,
        diagrams=[reliability_diagram(task, measured.curves[task]) for task in few],
        uncertain=show(uncertain(answers, probs), *pictures),
        missed=show(missed(answers, probs, labels), *pictures),
        outliers=show(np.argsort(examined.outlier_p, kind="stable"), *pictures),
        outlier_plot=outlier_p_values(examined.outlier_p, facts["splits"]["calib"]),
        outlier_rate=float(np.mean(examined.outlier_p <= measured.alpha)),
        runtimes=_runtimes(facts.get("measured", {})),
        command=_command(facts, settings),
        hashes=hashes,
    )
    # A file's name may hold bytes that are no UTF-8.
    path.write_bytes(page.encode("utf-8", "backslashreplace"))


def plots_of(report: Path) -> dict[str, str]:
    """The plots of a report that was written, SVG by what they show."""
    page = report.read_text(encoding="utf-8")
    found = re.findall(r'(<svg role="img" aria-label="([^"]*)".*?</svg>)', page, re.DOTALL)
    return {unescape(label): svg for svg, label in found}


def mean_size(size: float) -> str:
    """A mean set size to read: 1.44, but 1.2e+30 where the combinations are countless."""
    return format(size, ".2f" if size < 1e6 else ".1e")


def title(name: str) -> str:
    """What a name of ``Answers.outcomes`` is called on a page: a task is called as it is."""
    return {JOINT: "all at once", BONFERRONI: "all at once, by Bonferroni"}.get(name, name)


def _coverages(
    method: Method, examined: Examined, alphas: tuple[float, ...]
) -> dict[str, list[float]]:
    """Coverage at each alpha, by title; of many tasks the first."""
    coverage: dict[str, list[float]] = {}
    kept = list(method.classes)[:_TASKS]
    if len(method.classes) > 1:
        kept += [JOINT, BONFERRONI]
    for answers in method.answers(examined.probs, alphas):
        outcomes = answers.outcomes(examined.pictures.labels)
        for task in kept:
            if task in outcomes:
                coverage.setdefault(title(task), []).append(float(outcomes[task].covered.mean()))
    return coverage


def _laws(
    measured: Evaluation, method: Method, labels: Mapping[str, NDArray[np.int64]]
) -> dict[str, tuple[NDArray[np.float64], int]]:
    """The law of the number covered and that number, of what has scores of its own, by title.

    The law is known where one score of each picture calibrates: a task's in the taskwise space or
    the combinations' in the joint space, by one threshold a task or one a class.
    """
    calibration = method.calibration
    if calibration.taxonomy not in ("task", "class"):
        return {}
    outcomes = measured.answers.outcomes(labels)
    laws = {}
    for name, groups in islice(calibration.groups.items(), _TASKS):
        if name == JOINT:
            known = np.all([codes >= 0 for codes in labels.values()], axis=0)
            complete = {task: labels[task][known] for task in method.classes}
            truth = joint_labels(complete, method.classes)
        else:
            truth = outcomes[name].truth
        of_truth, m = np.unique(groups[truth], return_counts=True)
        law = of_groups(
            CoverageLaw(len(calibration.scores[group]), int(count), measured.alpha)
            for group, count in zip(of_truth.tolist(), m, strict=True)
        )
        laws[title(name)] = law, int(outcomes[name].covered.sum())
    return laws


def _luck(law: NDArray[np.float64], covered: int) -> dict[str, Any]:
    """How much of the law lies as far out as what was measured, on its side of the middle."""
    low, high = float(law[: covered + 1].sum()), float(law[covered:].sum())
    return {"side": "low" if low < high else "high", "share": min(low, high, 1.0)}


def _one_hot(top: NDArray[np.int64], names: list[str]) -> NDArray[np.bool_]:
    return top[:, None] == np.arange(len(names))


def _runtimes(measured: Mapping[str, Any]) -> dict[str, Any] | None:
    """What each runtime came to, and what the quantised one costs; None for a single one."""
    if len(measured) < 2:
        return None
    rows = {
        kind: {title(task): of for task, of in results.items()}
        for kind, results in measured.items()
    }
    of_form = {_is_quantised(kind): kind for kind in reversed(list(measured))}
    if len(of_form) < 2:
        return {"rows": rows, "cost": None}
    cheap, full = of_form[True], of_form[False]
    tasks = [task for task in measured[full] if task not in (JOINT, BONFERRONI)]
    cost = {
        key: np.mean([measured[cheap][task][key] - measured[full][task][key] for task in tasks])
        for key in ("accuracy", "avg_set_size")
    }
    return {"rows": rows, "cheap": cheap, "full": full, "cost": cost}


def _is_quantised(kind: str) -> bool:
    # It loads OpenVINO, which the page on a folder of pictures shall not wait for.
    from app.vision.runtimes import network_of

    return network_of(kind) == "int8"


def _command(facts: Mapping[str, Any], settings: Settings) -> list[str]:
    """The command that makes the same again, whatever the defaults and the machine would choose.

    In parts that each stay on a line.
    """
    kind = facts["calibrations"][0]
    asked = {
        **settings.model_dump(include=set(_DECISIVE)),
        **facts.get("chosen", {}).get("asked", {}),
        "backbone": facts["backbone"]["name"],
        "search_s": f"{settings.search_s:g}",
        "runtime": kind.split("-")[0],
        "precision": "int8" if _is_quantised(kind) else kind.split("-")[-1],
    }
    parts, decisive = ["python -m app train"], _DECISIVE
    if "calibrated_from" in facts:
        parts = ["python -m app calibrate", f"--model {quote(facts['calibrated_from'])}"]
        decisive = _OF_CALIBRATION
    if facts.get("calibrated_on") == "feedback":
        parts.append(f"--from-feedback --feedback {quote(str(settings.feedback_dir))}")
        decisive = ("alpha", *METHOD)
    else:
        parts.append(f"--data {quote(str(settings.data_dir))}")
    given = [name for name in decisive if asked[name] is not None]
    return parts + [f"{flag_name(name)} {quote(str(asked[name]))}" for name in given]


def _named(
    names: Mapping[str, list[str]], which: Mapping[str, NDArray[np.bool_]]
) -> dict[str, list[str]]:
    """The names of the chosen classes, of the tasks that have some."""
    chosen = {
        task: [classes[c] for c in np.flatnonzero(which[task])] for task, classes in names.items()
    }
    return {task: classes for task, classes in chosen.items() if classes}


def _strata(measured: Evaluation, told: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each task that is told of, what its strata came to: {title: {sizes: numbers}}."""
    occur = np.any([found.n > 0 for found in measured.by_size.values()], axis=0)
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for task, found in measured.by_size.items():
        if task not in told:
            continue
        low, high = found.interval
        below = found.below(1 - measured.alpha)
        rows[title(task)] = {
            _range(*STRATA[i]): {
                "n": found.n[i],
                "rate": found.rate[i],
                "low": low[i],
                "high": high[i],
                "below": below[i],
            }
            for i in np.flatnonzero(occur)
        }
    return rows


def _range(least: int, most: int | None) -> str:
    return f"{least:,} or more" if most is None else f"{least} to {most:,}"
