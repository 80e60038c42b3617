"""A bundle in plain words, and where its report is shown. Escapes as ``cards`` does."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from html import escape
from typing import TYPE_CHECKING, Any

from app.web import cards

if TYPE_CHECKING:
    from app.pipeline.predict import Classifier

#: What a threshold is found for.
_THRESHOLDS = {
    "global": "one threshold for all attributes",
    "task": "a threshold for each attribute",
    "class": "a threshold for each class",
    "cluster": "a threshold for each group of alike classes",
    "task_cluster": "a threshold for each group of alike classes of an attribute",
}


def measured(classifier: Classifier) -> dict[str, Any]:
    """What the header tells of a bundle's quality: as it came out in the runtime that serves."""
    metrics = classifier.metrics
    here: Mapping[str, Any] = classifier.facts["measured"][classifier.runtime]
    return {
        "alpha": metrics["alpha"],
        "tasks": {
            task: {"coverage": here[task]["coverage"], "n_test": of_task["n_test"]}
            for task, of_task in metrics["tasks"].items()
        },
    }


def facts(classifier: Classifier) -> str:
    """What a bundle is and how good it was, as a list of terms."""
    told = classifier.facts
    splits, method, alpha = told["splits"], told["method"], classifier.metrics["alpha"]
    made = datetime.fromisoformat(told["created"]).astimezone(timezone.utc)
    terms = {
        "Made": f"{made:%d %B %Y, %H:%M} UTC".lstrip("0"),
        "Tells": "; ".join(f"{t} ({len(c)} classes)" for t, c in classifier.classes.items()),
        "Pictures": (
            f"{splits['train']:,} to train, {splits['valid']:,} to choose by, "
            f"{splits['calib']:,} to calibrate, {splits['test']:,} to test"
        ),
        "Network": f"{told['backbone']['name']}, run by {classifier.runtime}",
        "Method": (
            f"score {method['score']}, {_THRESHOLDS[method['taxonomy']]}, heads {method['head']}"
        ),
        "Promise": (
            f"at alpha {alpha:.4g}, at least {cards.share(1 - alpha)} of 100 sets hold the truth"
        ),
        "Measured": _quality(classifier),
    }
    if "calibrated_from" in told:
        terms["Calibrated anew from"] = told["calibrated_from"]
    listed = "".join(f"<dt>{t}</dt><dd>{escape(said)}</dd>" for t, said in terms.items())
    return f'<dl class="bundle">{listed}</dl>'


def report(name: str) -> str:
    """A frame for a bundle's report, which may neither run scripts nor lead elsewhere."""
    address = f"bundles/{escape(name)}/report.html"
    return (
        f'<div class="report"><p><a href="{address}" target="_blank" rel="noopener">Open the '
        f'report on its own</a></p><iframe src="{address}" sandbox loading="lazy" '
        f'title="Report of the bundle {escape(name)}"></iframe></div>'
    )


def loading(name: str) -> str:
    """While a bundle is checked and loaded."""
    return f'<p class="loading">Loading {escape(name)}, which takes a few seconds …</p>'


def refused(sentence: str) -> str:
    """Why another bundle could not be had."""
    text = escape(sentence[:1].upper() + sentence[1:])
    return f'<p class="loading problem" role="alert">{text}</p>'


def _quality(classifier: Classifier) -> str:
    """How often the truth was in the set and how large sets were, as it runs here."""
    here = classifier.facts["measured"][classifier.runtime]
    n = max(of_task["n_test"] for of_task in classifier.metrics["tasks"].values())
    told = [
        f"{task} {100 * here[task]['coverage']:.1f} % with {here[task]['avg_set_size']:.1f} classes"
        for task in classifier.metrics["tasks"]
    ]
    if "joint" in here:
        told.append(f"all at once {100 * here['joint']['coverage']:.1f} %")
    return f"on {n:,} test pictures the truth was in the set: {', '.join(told)}"
