"""Load what a bundle runs on: its network as it was calibrated, and its heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.bundle import Facts
from app.data.pictures import Preprocess
from app.errors import SuresetError
from app.progress import say
from app.settings import Settings
from app.vision.heads import Heads
from app.vision.runtimes import CannotRun, SharedRuntime, kinds_for, network_of, open_runtime

#: In a bundle that was calibrated for torch too, the network's weights.
WEIGHTS = "network.safetensors"
#: What of a bundle is its network. Not all are in each.
NETWORK_FILES = (
    *("encoder.xml", "encoder.bin", "encoder.onnx", "encoder-int8.xml", "encoder-int8.bin"),
    WEIGHTS,
)


def kinds_asked_for(settings: Settings) -> list[str]:
    """``kinds_for`` what the settings ask for.

    Raises:
        SuresetError: this machine cannot run it.
    """
    try:
        return kinds_for(settings.runtime, settings.precision)
    except CannotRun as error:
        raise SuresetError(
            f"--runtime {settings.runtime} --precision {settings.precision} cannot be had: {error}."
        ) from error


def serving_runtime(bundle: Path, facts: Facts) -> SharedRuntime:
    """The first of the runtimes the bundle was calibrated for that this machine can run.

    Raises:
        SuresetError: it can run none of them.
    """
    reasons = []
    for kind in facts["calibrations"]:
        try:
            runtime = bundled_runtime(kind, bundle, facts)
        except CannotRun as error:
            reasons.append(f"{kind} ({error})")
        else:
            if reasons:
                say(f"{bundle.name} runs as {kind} here, not as {', '.join(reasons)}")
            return runtime
    raise SuresetError(
        f"the bundle {bundle.name} was calibrated for {', '.join(reasons)}: its guarantee would "
        "not hold here, so calibrate it for this machine with "
        f"`python -m app calibrate --model {bundle.name}`."
    )


def bundled_runtime(kind: str, bundle: Path, facts: Facts) -> SharedRuntime:
    """The bundle's network in a runtime of this kind.

    Raises:
        CannotRun: this machine cannot run it, or the bundle holds nothing for it.
    """
    if network_of(kind) not in facts["encoders"]:
        raise CannotRun("the bundle holds no quantised network, train it with --precision int8")
    return open_runtime(kind, bundle, lambda: _encoder(bundle, facts))


def _encoder(bundle: Path, facts: Facts) -> Any:
    if not (bundle / WEIGHTS).is_file():
        raise CannotRun("the bundle holds no weights for torch, train it with --runtime torch")
    from app.vision.backbones import Backbone
    from app.vision.encoder import Encoder

    of = facts["backbone"]
    backbone = Backbone(
        of["name"],
        of["library"],
        of["model"],
        bundle / WEIGHTS,
        Preprocess(**facts["preprocess"]),
        tuple(of["mean"]),
        tuple(of["std"]),
    )
    return Encoder(backbone, of["recipe"])


def load_heads(bundle: Path, facts: Facts) -> Heads:
    """The bundle's trained heads."""
    classes = {task: len(names) for task, names in facts["tasks"].items()}
    return Heads.load(bundle / "heads.safetensors", classes, facts["temperatures"])
