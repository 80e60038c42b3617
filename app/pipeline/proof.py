"""Prove a bundle: its files are as they were written, and its answers as where it was made."""

from __future__ import annotations

import json

import numpy as np

from app.bundle import find_bundle, open_bundle
from app.pipeline.loading import bundled_runtime
from app.pipeline.predict import ANSWERS, Answered, Classifier
from app.settings import Settings
from app.vision.runtimes import CannotRun

#: The same network in the same precision rounds a little differently on another processor. So much
#: may a p-value move, which is a share of the calibration pictures.
_TOLERANCE = 0.02


def prove(settings: Settings) -> bool:
    """Print what was checked of a bundle; whether all of it holds.

    Raises:
        SuresetError: there is no such bundle, or a file of it is damaged.
    """
    path = find_bundle(settings.models_dir, settings.model)
    facts = open_bundle(path)
    print(f"{path}: {len(facts['files'])} files are as they were written")
    print(f"content sha256 {facts['content_sha256']}")
    expected = json.loads((path / ANSWERS).read_text(encoding="utf-8"))
    examples = [path / "examples" / name for name in facts["examples"]]
    holds = True
    for kind in facts["calibrations"]:
        try:
            runtime = bundled_runtime(kind, path, facts)
        except CannotRun as error:
            print(f"{kind}: cannot be run here, {error}")
            continue
        answers = Classifier(path, facts, runtime).answers(examples)
        moved = max(map(_moved, answers, expected[kind]), default=0.0)
        same = moved <= _TOLERANCE
        holds &= same
        print(
            f"{kind}: {len(examples)} pictures are answered "
            + ("as" if same else "-> otherwise than")
            + f" where it was made, no p-value moved by more than {moved:.2g}"
        )
    return holds


def _moved(answer: Answered, expected: Answered) -> float:
    """The largest difference between p-values."""
    differences = [
        np.abs(np.subtract(p, expected["p_values"][task])).max()
        for task, p in answer["p_values"].items()
    ]
    return float(max(*differences, abs(answer["outlier_p"] - expected["outlier_p"])))
