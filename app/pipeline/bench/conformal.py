"""The conformal core's time and memory beside those of other libraries, for the same sets."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.table import Table

from app.errors import SuresetError
from app.pipeline.bench.child import INPUTS, PROCESSORS
from app.pipeline.bench.libraries import LIBRARIES
from app.progress import console, progress, say

_SCORES = ("hinge", "aps", "raps")
_ALPHA = 0.1
_ROUNDS = 3
_ROOT = Path(__file__).parents[3]
_OURS = "sureset"


@dataclass(frozen=True)
class Size:
    """Pictures to calibrate on and to answer, and their classes."""

    calibration: int = 10_000
    test: int = 50_000
    classes: int = 1_000


@dataclass(frozen=True)
class Run:
    """What ``child`` measured: seconds, bytes over the inputs or None, and of the sets."""

    seconds: float
    peak: int | None
    coverage: float
    size: float


def bench_conformal(seed: int, size: Size | None = None) -> None:
    """Time calibration and prediction sets of every library that is installed; print a table."""
    size = size or Size()
    machine = _machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_problem(folder, size, np.random.default_rng(seed))
        runs = _measure(folder)
    console.print(_table(runs, size))
    say(f"The best of {_ROUNDS} processes, the libraries in turn.")
    say(machine)
    for library in LIBRARIES.values():
        if library.installed and library.share < 1:
            say(
                f"{library.name} answers picture by picture: it was given {library.share:.0%} of "
                "the test pictures, and its seconds are multiplied to all of them."
            )
    missing = [library.name for library in LIBRARIES.values() if not library.installed]
    if missing:
        say(
            f"Not installed here: {', '.join(missing)}. 'make peers' puts them into .venv, and "
            "'make bench ARGS=conformal RUNNER=local' runs there."
        )


def _write_problem(folder: Path, size: Size, rng: np.random.Generator) -> None:
    """Write what a plausible network says of exchangeable pictures, float32 probabilities.

    Classes are points of a feature space, ten to a family of similar ones; a picture lies at its
    class's point plus noise, more of it in some pictures than in others. The network is the linear
    head that would be right if all pictures were equally noisy. With 1,000 classes it is right in
    72 % of the pictures and 76 % sure of itself.
    """
    families = rng.standard_normal((-(-size.classes // 10), 1, 32))
    points = families + 0.5 * rng.standard_normal((len(families), 10, 32))
    points = points.reshape(-1, 32)[: size.classes].astype(np.float32)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, size.classes, n)
        strength = rng.uniform(0.2, 2.0, (n, 1)).astype(np.float32)
        features = points[labels] + strength * rng.standard_normal((n, 32), dtype=np.float32)
        logits = (features @ points.T - (points**2).sum(axis=1) / 2) / np.float32(1.2**2)
        probs = np.exp(logits - logits.max(axis=1, keepdims=True))
        return probs / probs.sum(axis=1, keepdims=True), labels

    arrays = (*draw(size.calibration), *draw(size.test))
    for name, array in zip(INPUTS, arrays, strict=True):
        np.save(folder / f"{name}.npy", array)


def _measure(folder: Path) -> dict[tuple[str, str], Run]:
    """Of every (score, library): the least seconds and the largest peak; the sets stay the same.

    The libraries take turns, so that none gets only the quiet minutes of the machine.
    """
    pairs = [
        (score, key)
        for score in _SCORES
        for key, library in LIBRARIES.items()
        if library.installed and score in library.scores
    ]
    measured: dict[tuple[str, str], list[Run]] = {pair: [] for pair in pairs}
    with progress("Measuring", _ROUNDS * len(pairs), "runs") as advance:
        for _ in range(_ROUNDS):
            for score, key in pairs:
                measured[score, key].append(_run(folder, key, score))
                advance(1)
    result = {}
    for (score, key), runs in measured.items():
        peaks = [run.peak for run in runs if run.peak is not None]
        result[score, key] = Run(
            seconds=min(run.seconds for run in runs) / LIBRARIES[key].share,
            peak=max(peaks, default=None),
            coverage=runs[0].coverage,
            size=runs[0].size,
        )
    return result


def _run(folder: Path, key: str, score: str) -> Run:
    """Measure once, in a fresh process that computes with ``PROCESSORS`` threads."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {
        **os.environ,
        **dict.fromkeys(threads, str(PROCESSORS)),
        "PYTHONPATH": path,
    }
    command = [sys.executable, "-m", "app.pipeline.bench.child"]
    done = subprocess.run(
        [*command, str(folder), key, score, str(_ALPHA)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip().rpartition("\n")[2] or f"status {done.returncode}"
        raise SuresetError(
            f"{LIBRARIES[key].name} could not be measured with {score} ({said}): "
            "mend its installation with make peers, or uninstall it."
        )
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def _table(runs: Mapping[tuple[str, str], Run], size: Size) -> Table:
    title = (
        f"Calibration on {size.calibration:,} pictures and the sets of {size.test:,}, "
        f"{size.classes:,} classes, alpha {_ALPHA}"
    )
    table = Table(title=title)
    table.add_column("score")
    table.add_column("library", no_wrap=True)
    for column in ("seconds", "x ours", "peak MB over inputs", "coverage", "mean size"):
        table.add_column(column, justify="right")
    for score in _SCORES:
        table.add_section()
        for (own_score, key), run in runs.items():
            if own_score == score:
                library = LIBRARIES[key]
                table.add_row(
                    score,
                    f"{library.name} {library.version}",
                    f"{run.seconds:.2f}",
                    f"{run.seconds / runs[score, _OURS].seconds:.2f}",
                    "not measured" if run.peak is None else f"{run.peak / 1e6:.0f}",
                    f"{run.coverage:.4f}",
                    f"{run.size:.2f}",
                )
    return table


def _machine() -> str:
    """What the figures depend on; they say little where the machine was busy before the start."""
    used = min(PROCESSORS, os.cpu_count() or PROCESSORS)
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "torch"))
    return (
        f"{used} of {os.cpu_count()} processors ({platform.machine()}), load average "
        f"{os.getloadavg()[0]:.1f} before, Python {platform.python_version()}, {packages}"
    )
