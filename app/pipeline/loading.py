"""Load what a bundle runs on: its network in its precision, and its heads."""

from __future__ import annotations

from pathlib import Path

from app.bundle import Facts
from app.errors import SuresetError
from app.vision.heads import Heads
from app.vision.runtimes import OpenVINORuntime


def serving_runtime(bundle: Path, facts: Facts) -> OpenVINORuntime:
    """The runtime and precision that the bundle was calibrated with.

    Raises:
        SuresetError: this machine does not have the precision.
    """
    precision = facts["runtime"]["precision"]
    try:
        return OpenVINORuntime(bundle, precision)
    except ValueError as error:
        raise SuresetError(
            f"the bundle {bundle.name} was calibrated in {precision} and {error}: its guarantee "
            "would not hold, so calibrate it for this machine with `make calibrate`."
        ) from error


def load_heads(bundle: Path, facts: Facts) -> Heads:
    """The bundle's trained heads."""
    classes = {task: len(names) for task, names in facts["tasks"].items()}
    return Heads.load(bundle / "heads.safetensors", classes, facts["temperatures"])
