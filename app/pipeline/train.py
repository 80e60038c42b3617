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
from app.data.manifest import SPLITS
from app.disk import writing
from app.pipeline.calibrate import calibrate_into
from app.pipeline.choice import check_choosable, choose_method
from app.pipeline.evaluate import evaluate_into, print_table
from app.pipeline.finetune import finetuned
from app.pipeline.loading import WEIGHTS, kinds_asked_for
from app.pipeline.network import Exported, choose_backbone, export_network
from app.pipeline.pictures import (
    Pictures,
    check_held_out,
    check_space,
    check_training,
    extract,
    extract_again,
    find_pictures,
)
from app.pipeline.reuse import FITTED
from app.pipeline.stopwatch import Stopwatch
from app.pipeline.tracking import Tracking
from app.progress import say, silence
from app.ranks import rank
from app.settings import METHOD, Settings

_VERSIONS = ("torch", "openvino", "numpy", "timm", "pytorch-lightning", "pillow")

#: The settings that decide a run's results, beside those that are among the facts of its bundle.
_DECISIVE = {"layout", "finetune", "search_s", "alpha", *METHOD}


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


def take_part(settings: Settings) -> None:
    """What processes beside the first do: their share of fine-tuning, and nothing else.

    Raises:
        SuresetError: as ``train``.
    """
    if settings.finetune:
        with silence():
            pictures = find_for_training(settings)
            finetuned(settings, pictures, choose_backbone(settings))
        say(f"process {rank()}: its share of the fine-tuning is done, process 0 goes on alone")
    else:
        say(f"process {rank()}: only --finetune is shared among processes, process 0 trains alone")


def find_for_training(settings: Settings) -> Pictures:
    """The pictures, once it is seen that the run will come to its end with them.

    Raises:
        SuresetError: it will not.
    """
    pictures = find_pictures(settings)
    check_training(pictures)
    check_held_out(pictures, settings.alpha)
    check_choosable(pictures, settings)
    check_space({task: len(c) for task, c in pictures.manifest.classes.items()}, settings)
    return pictures


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
    pictures = find_for_training(settings)
    check_name(settings.models_dir, name)
    say("splits: " + ", ".join(f"{split} {n}" for split, n in pictures.sizes().items()))
    classes = {task: len(names) for task, names in pictures.manifest.classes.items()}

    # Torch and timm take seconds to load: only once there is something to train on.
    tracking.prepare()
    from app.vision.candidates import search_for
    from app.vision.fitting import checkpoints_of, fit_heads
    from app.vision.networks import load_network, save_network

    kinds = kinds_asked_for(settings)
    backbone = choose_backbone(settings)
    how: Facts = {}
    if settings.finetune:
        with watch("finetune"):
            backbone, how["finetuned"] = finetuned(settings, pictures, backbone)
    with watch("export"):
        network = export_network(backbone, kinds, pictures, settings)

    with watch("features"):
        first, *others = (network.cache_of(kind, settings.cache_dir) for kind in kinds)
        say(f"features: {backbone.name} by {first.kind}")
        pictures, features = extract(pictures, SPLITS, first)
        check_training(pictures)  # Some may have broken off when decoded.
        check_held_out(pictures, settings.alpha)
        check_choosable(pictures, settings)
        rows = pictures.rows("train")
        training = pictures.take(rows)
        views = [extract_again(training, first, view + 1) for view in range(settings.views)]
        seen = np.concatenate([features[rows], *views])
        rows = pictures.rows("calib", "test")
        held_out = pictures.take(rows)
        by_kind = {first.kind: features[rows]}
        by_kind |= {cache.kind: extract_again(held_out, cache) for cache in others}

    facts: Facts = {"name": name, **_facts(network, pictures, settings), **how}
    asked = settings.model_dump(include=_DECISIVE)
    tracking.begin(name, {**facts, **asked, "runtimes": kinds})
    for epoch, loss in enumerate(how.get("finetuned", {}).get("validation_losses", [])):
        tracking.log({"network/epoch": epoch, "network/valid_loss": loss})

    with watch("fit"), writing("the training log", settings.logs_dir, "--logs"):
        labels = training.manifest.labels
        fitted = seen, {t: np.tile(codes, 1 + settings.views) for t, codes in labels.items()}
        rows = pictures.rows("valid")
        validation = features[rows], pictures.labels(rows)
        search = search_for(settings.recipe, settings.search_s)
        problem = fitted, validation, classes, settings.seed, search
        checkpoints = checkpoints_of(*problem, settings.cache_dir)
        heads, facts["search"] = fit_heads(*problem, settings.logs_dir, checkpoints, tracking)
    with watch("fit"):
        settings = choose_method(facts, settings, heads, pictures, features)
    facts["temperatures"] = heads.temperatures

    with new_bundle(settings.models_dir, name, facts) as folder:
        with watch("export"):
            heads.save(folder / "heads.safetensors")
            np.save(folder / FITTED, pictures.digests[pictures.rows("train", "valid")])
            for encoder in network.folders.values():
                shutil.copytree(encoder, folder, dirs_exist_ok=True)
            if kinds[0].startswith("torch-"):
                save_network(load_network(backbone), folder / WEIGHTS)
        with watch("calibrate"):
            reference = heads.standardise(features[pictures.rows("train")])
            calibrate_into(folder, facts, settings, heads, reference, held_out, by_kind)
        results = evaluate_into(folder, facts, settings, heads, held_out, by_kind, watch)
    checkpoints.remove()
    measured = {
        f"{task}/{key}": value for task, m in results.items() for key, value in asdict(m).items()
    }
    method = {f"method/{part}": chosen for part, chosen in facts["method"].items()}
    tracking.summarise({"bundle": name, **method, **measured})
    print_table(results, settings.alpha)
    place = settings.models_dir / name
    say(f"bundle {place} after {watch.seconds()['total']:.0f} s, report {place / 'report.html'}")
    tracking.keep(place)
    say("next: make serve")
    return place


def _facts(network: Exported, pictures: Pictures, settings: Settings) -> Facts:
    """What is known of a bundle before its heads are fitted."""
    backbone = network.backbone
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "tasks": pictures.manifest.classes,
        "backbone": {
            "name": backbone.name,
            "library": backbone.library,
            "model": backbone.model,
            "weights_sha256": backbone.weights_sha256,
            "mean": backbone.mean,
            "std": backbone.std,
            "recipe": network.recipe,
        },
        "encoders": {form: folder.name for form, folder in network.folders.items()},
        "preprocess": asdict(backbone.preprocess),
        "splits": pictures.sizes(),
        "views": settings.views,
        "seed": settings.seed,
        "data_sha256": pictures.sha256,
        "versions": {
            "sureset": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in _VERSIONS},
        },
    }
