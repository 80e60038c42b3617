"""A million pictures: what is done with all of them before the first is decoded."""

from __future__ import annotations

import csv
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from rich.table import Table

from app.data.layouts import read_manifest
from app.data.manifest import LABELS_FILE
from app.data.pictures import Preprocess
from app.data.scan import scan
from app.data.splits import assign
from app.data.stratify import stratify
from app.pipeline.bench.memory import forget_peak, memory
from app.progress import console, progress, say
from app.rowstore import RowStore
from app.vision.features import FeatureCache
from app.vision.runtimes import Features, Pictures

_PICTURES = 1_000_000
_NEW = 100
_A_FOLDER = 10_000
#: Until the files count as unlikely to change unnoticed.
_SETTLING_S = 4


class _NoRuntime:
    """Features are planned here, and none is computed."""

    kind = "none"
    dimensions, batch = 4, 1

    def encode(self, batches: Iterable[Pictures]) -> Iterator[Features]:
        raise NotImplementedError


def bench_data(seed: int, pictures: int = _PICTURES) -> None:
    """Write tiny pictures and their labels, and time each step up to the plan of extraction."""
    rng = np.random.default_rng(seed)
    measured: dict[str, tuple[float, int | None]] = {}

    @contextmanager
    def measuring(step: str) -> Iterator[None]:
        reset = forget_peak()
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        measured[step] = seconds, None if reset is None else memory("VmHWM")

    with tempfile.TemporaryDirectory() as name:
        root, cache_dir = Path(name, "pictures"), Path(name, "cache")
        say(f"writing {pictures:,} tiny pictures into {name} and removing them: minutes")
        _write(root, pictures, rng)
        time.sleep(_SETTLING_S)
        with measuring(f"read {LABELS_FILE}, and find every file"):
            manifest = read_manifest(root)
        with measuring("look into the files, the first time"):
            scan(manifest, cache_dir)
        with measuring("look again, nothing changed"):
            digests = scan(manifest, cache_dir).digests
        with measuring("split by content"):
            assign(digests, manifest.group, manifest.split, seed, manifest.images)
        with measuring("split, stratified over three tasks"):
            stratify(manifest.labels, digests, manifest.group, manifest.split, seed)
        preprocess = Preprocess(resize=1, size=1, interpolation="nearest")
        cache = FeatureCache(cache_dir, "bench", _NoRuntime(), preprocess)
        store = RowStore(cache.folder, 4 * cache.dimensions)
        with store.lock():
            store.append(
                digests[_NEW:], np.zeros((len(digests) - _NEW, 4 * cache.dimensions), "u1")
            )
        with measuring(f"plan the features, {_NEW} of them new"):
            planned = len(cache.missing(digests))
    table = Table(title=f"{pictures:,} pictures, {os.cpu_count()} processors")
    table.add_column("step")
    table.add_column("s", justify="right")
    table.add_column("peak of the process, GB", justify="right")
    for step, (seconds, peak) in measured.items():
        table.add_row(step, f"{seconds:.1f}", "?" if peak is None else f"{peak / 1e9:.2f}")
    console.print(table)
    say(f"{planned} features would be computed")


def _write(root: Path, pictures: int, rng: np.random.Generator) -> None:
    """Pictures of one pixel, of other bytes each, in three tasks and groups of about three."""
    png = BytesIO()
    Image.new("RGB", (1, 1)).save(png, "PNG")
    colours, kinds, makers = rng.integers(0, [[12], [11], [300]], (3, pictures))
    groups = rng.integers(0, pictures // 3, pictures)
    root.mkdir()
    with open(root / LABELS_FILE, "w", newline="") as file, progress("write", pictures) as advance:
        table = csv.writer(file)
        table.writerow(("image", "colour", "type", "maker", "group"))
        for i in range(pictures):
            image = f"{i // _A_FOLDER:04d}/{i:07d}.png"
            if i % _A_FOLDER == 0:
                (root / image).parent.mkdir()
                advance(min(_A_FOLDER, pictures - i))
            # What follows a picture's end makes it another file.
            (root / image).write_bytes(png.getvalue() + i.to_bytes(8, "big"))
            table.writerow((image, *(f"c{t[i]}" for t in (colours, kinds, makers)), groups[i]))
