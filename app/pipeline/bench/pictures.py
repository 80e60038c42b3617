"""From pictures to features: the speed here, beside what bounds it. Ratios within one run."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from rich.table import Table

from app.data.layouts import read_manifest
from app.data.pictures import read_rgb
from app.data.sample import write_sample
from app.data.scan import scan
from app.pipeline.network import choose_backbone
from app.progress import console
from app.settings import Settings
from app.vision.features import FeatureCache
from app.vision.runtimes import OpenVINORuntime

_PICTURES = 480
_ROUNDS = 3


def bench_pictures(settings: Settings) -> None:
    """Feature extraction from JPEG files beside the bare network on tensors in memory."""
    backbone = choose_backbone(settings)
    from app.vision.exporting import exported

    runtime = OpenVINORuntime(exported(backbone, settings.recipe, settings.cache_dir))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sample(folder / "pictures", _PICTURES, settings.seed)
        manifest = read_manifest(folder / "pictures")
        digests = scan(manifest, folder / "cache").digests
        size = backbone.preprocess.size
        tensors = np.random.default_rng(0).integers(0, 256, (_PICTURES, size, size, 3), np.uint8)

        def bare(batch: int) -> Callable[[int], None]:
            def run(_: int) -> None:
                batches = (tensors[i : i + batch] for i in range(0, _PICTURES, batch))
                for _features in runtime.encode(batches):
                    pass

            return run

        def extract(turn: int) -> None:
            cache = FeatureCache(folder / f"cache-{turn}", "bench", runtime, backbone.preprocess)
            cache.features(manifest.path, digests)

        def decode(_: int) -> None:
            for i in range(_PICTURES):
                read_rgb(manifest.path(i), backbone.preprocess)

        rates = _measure(
            {
                **{f"bare network, batch {batch}": bare(batch) for batch in (1, 4, 8, 32)},
                "extraction from JPEG files": extract,
                "decoding alone, one thread": decode,
            }
        )
    bound = max(rates[name] for name in rates if name.startswith("bare"))
    title = f"{backbone.name} by {runtime.kind}, {os.cpu_count()} processors"
    table = Table(title=title)
    table.add_column("what")
    table.add_column("pictures/s", justify="right")
    table.add_column("of the best bare", justify="right")
    for what, rate in rates.items():
        table.add_row(what, f"{rate:.0f}", f"{rate / bound:.2f}")
    console.print(table)


def _measure(runs: dict[str, Callable[[int], None]]) -> dict[str, float]:
    """Pictures a second of each, the median of rounds in which all take their turn."""
    seconds: dict[str, list[float]] = {what: [] for what in runs}
    for turn in range(_ROUNDS + 1):
        for what, run in runs.items():
            started = time.perf_counter()
            run(turn)
            seconds[what].append(time.perf_counter() - started)
    return {what: _PICTURES / median(s[1:]) for what, s in seconds.items()}
