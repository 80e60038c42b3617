"""Train the backbone on the pictures, before it is used as any other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from app.disk import writing
from app.pipeline.pictures import Pictures
from app.settings import Settings
from app.vision.backbones import Backbone


def finetuned(
    settings: Settings, pictures: Pictures, backbone: Backbone
) -> tuple[Backbone, dict[str, Any]]:
    """The backbone with weights trained on the pictures, and how they came about.

    Of several processes only the first gets the weights.

    Raises:
        SuresetError: the cache or the logs cannot be written, or a process is lost.
    """
    from app.vision.finetuning import Problem, facts_of, finetune
    from app.vision.views import Examples

    def examples(split: str) -> Examples:
        of_split = pictures.take(pictures.rows(split))
        manifest = of_split.manifest
        return Examples(manifest.path, of_split.digests, np.stack([*manifest.labels.values()], 1))

    assert settings.finetune is not None
    classes = {task: len(names) for task, names in pictures.manifest.classes.items()}
    training, validation = examples("train"), examples("valid")
    problem = Problem(backbone, settings.finetune, training, validation, classes, settings.seed)
    with writing("the training log", settings.logs_dir, "--logs"):
        weights = finetune(problem, settings.cache_dir, settings.logs_dir)
    if not weights.is_file():  # It is on the first process's machine.
        return backbone, {}
    return replace(backbone, weights=weights), facts_of(weights)
