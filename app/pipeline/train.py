"""The whole run: folder, splits, features, heads, calibration, evaluation, bundle."""

from __future__ import annotations

import platform
import shutil
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import numpy as np

from app import __version__
from app.bundle import Facts, check_name, new_bundle
from app.disk import writing
from app.errors import SuresetError
from app.pipeline.calibrate import calibrate_into
from app.pipeline.choice import check_choosable, choose_method
from app.pipeline.evaluate import evaluate_into, print_table
from app.pipeline.pictures import (
    check_held_out,
    check_space,
    check_training,
    extract,
    find_pictures,
)
from app.pipeline.reuse import FITTED
from app.pipeline.stopwatch import Stopwatch
from app.pipeline.tracking import Tracking
from app.progress import say
from app.settings import METHOD, Settings
from app.vision.backbones import EMBEDDED, Backbone, find_backbone
from app.vision.features import FeatureCache
from app.vision.runtimes import OpenVINORuntime, Runtime, TorchRuntime

_VERSIONS = ("torch", "openvino", "numpy", "timm", "pytorch-lightning", "pillow")

#: The settings that decide a run's results, beside those that are among the facts of its bundle.
_DECISIVE = {"layout", "alpha", *METHOD}


def train(settings: Settings) -> Path:
    """Train on a folder of labelled pictures; returns the bundle it wrote.

    Raises:
        SuresetError: the pictures, the weights or the disk do not allow it; it says what to do.
    """
    name = settings.save_as or datetime.now().strftime("%Y%m%d-%H%M%S")
    with Tracking(settings) as tracking:
        try:
            return _train(settings, name, tracking)
        except SystemExit:
            # Said before W&B is waited for, which may last until the process is ended for good.
            say(_what_stays(settings, name))
            raise


def _what_stays(settings: Settings, name: str) -> str:
    place = settings.models_dir / name
    if place.exists():
        return f"stopped: the bundle {place} is whole"
    return (
        f"stopped: the features and epochs that are done stay in {settings.cache_dir}, "
        "and the same command goes on from there"
    )


def _train(settings: Settings, name: str, tracking: Tracking) -> Path:
    watch = Stopwatch()
    pictures = find_pictures(settings)
    check_training(pictures)
    check_held_out(pictures, settings.alpha)
    check_choosable(pictures, settings)
    check_name(settings.models_dir, name)
    say("splits: " + ", ".join(f"{split} {n}" for split, n in pictures.sizes().items()))
    classes = {task: len(names) for task, names in pictures.manifest.classes.items()}
    check_space(classes, settings)

    # Torch and timm take seconds to load: only once there is something to train on.
    tracking.prepare()
    from app.vision.encoder import exported
    from app.vision.fitting import checkpoints_of, fit_heads

    backbone = choose_backbone(settings)
    with watch("export"):
        encoder = exported(backbone, settings.cache_dir)

    with watch("features"):
        serving = OpenVINORuntime(encoder)
        fitting = _runtime_for_fitting(backbone) or serving
        say(f"features: {backbone.name} by {fitting.name} in {fitting.precision}")
        # What is calibrated and tested must come from the runtime that will serve.
        runtime_of = {"train": fitting, "valid": fitting, "calib": serving, "test": serving}
        cache_of = {
            runtime: FeatureCache(settings.cache_dir, encoder.name, runtime, backbone.preprocess)
            for runtime in {fitting, serving}
        }
        pictures, features = extract(
            pictures, {split: cache_of[runtime] for split, runtime in runtime_of.items()}
        )
        check_held_out(pictures, settings.alpha)  # Some may have broken off when decoded.
        check_choosable(pictures, settings)

    facts: Facts = {
        "name": name,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "tasks": pictures.manifest.classes,
        "backbone": {
            "name": backbone.name,
            "weights_sha256": backbone.weights_sha256,
            "encoder": encoder.name,
        },
        "preprocess": asdict(backbone.preprocess),
        "runtime": {"name": serving.name, "precision": serving.precision},
        "seed": settings.seed,
        "versions": {
            "sureset": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in _VERSIONS},
        },
    }
    asked = settings.model_dump(include=_DECISIVE)
    tracking.begin(name, {**facts, **asked, "splits": pictures.sizes()})

    with watch("fit"), writing("the training log", settings.logs_dir, "--logs"):
        training, validation = (
            (features[rows], pictures.labels(rows))
            for rows in (pictures.rows("train"), pictures.rows("valid"))
        )
        problem = training, validation, classes, settings.seed
        checkpoints = checkpoints_of(*problem, settings.cache_dir)
        heads = fit_heads(*problem, settings.logs_dir, checkpoints, tracking)
    with watch("fit"):
        settings = choose_method(facts, settings, heads, pictures, features)
    facts["temperatures"] = heads.temperatures

    with new_bundle(settings.models_dir, name, facts) as folder:
        with watch("export"):
            heads.save(folder / "heads.safetensors")
            np.save(folder / FITTED, pictures.digests[pictures.rows("train", "valid")])
            for file in encoder.iterdir():
                shutil.copy(file, folder)
        with watch("calibrate"):
            reference = heads.standardise(training[0])
            calibrate_into(folder, facts, settings, heads, reference, pictures, features)
        results = evaluate_into(folder, facts, settings, heads, pictures, features, watch)
    checkpoints.remove()
    measured = {
        f"{task}/{key}": value for task, m in results.items() for key, value in asdict(m).items()
    }
    method = {f"method/{part}": chosen for part, chosen in facts["method"].items()}
    tracking.summarise({"bundle": name, **method, **measured})
    print_table(results, settings.alpha)
    place = settings.models_dir / name
    say(f"bundle {place} after {watch.seconds()['total']:.0f} s, report {place / 'report.html'}")
    say("next: make serve")
    return place


def choose_backbone(settings: Settings) -> Backbone:
    """The backbone asked for, or the embedded one where its weights are not here.

    Raises:
        SuresetError: a backbone was asked for by name and its weights are not here, or the
            catalogue of weights is at fault, or the weights are damaged.
    """
    backbone = find_backbone(settings.backbone, settings.cache_dir, settings.static_dir)
    if backbone is None and settings.given("backbone"):
        raise SuresetError(
            f"the weights of {settings.backbone} are not in {settings.cache_dir}: "
            f"fetch them with `python -m app prefetch --backbone {settings.backbone}`."
        )
    if backbone is None:
        backbone = find_backbone(EMBEDDED, settings.cache_dir, settings.static_dir)
        assert backbone is not None, "the embedded backbone needs no cache"
        say(f"{settings.backbone}'s weights are not here: using the embedded {EMBEDDED}")
    return backbone


def _runtime_for_fitting(backbone: Backbone) -> Runtime | None:
    """Torch on CUDA where there is one: most pictures only train, and may be read faster."""
    import torch

    if not torch.cuda.is_available():
        return None
    from app.vision.encoder import Encoder

    return TorchRuntime(Encoder(backbone))
