"""What was found on this machine, and what to do about what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version

from rich.filesize import decimal

from app import __version__
from app.bundle import bundle_names, open_bundle
from app.data.layouts import read_manifest
from app.errors import SuresetError
from app.pipeline.cache import entries
from app.settings import Settings
from app.vision.backbones import EMBEDDED, find_weights
from app.vision.runtimes import best_float


def doctor(settings: Settings) -> None:
    """Print one line a finding; those that ask for something begin with an arrow."""
    for finding in (
        *_machine(),
        *_folders(settings),
        *_cache(settings),
        *_weights(settings),
        *_data(settings),
        *_bundles(settings),
        *_port(settings),
    ):
        print(finding)


def _machine() -> Iterator[str]:
    yield f"Sureset {__version__}, Python {platform.python_version()}, {os.cpu_count()} processors"
    yield f"OpenVINO {version('openvino')} computes in {best_float()} here"
    if shutil.which("nvidia-smi") is None:
        yield "no NVIDIA GPU: nvidia-smi is not there; everything runs on the CPU"
        return
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    if answer.returncode == 0:
        yield f"GPU: {answer.stdout.strip()}"
    else:
        yield f"-> nvidia-smi fails, mend the driver: {answer.stdout.strip()}"


def _folders(settings: Settings) -> Iterator[str]:
    folders = (settings.models_dir, settings.cache_dir, settings.logs_dir, settings.wandb_dir)
    for folder in folders:
        if folder.exists() and not os.access(folder, os.W_OK):
            yield f"-> {folder} cannot be written: give it to this user, or name another"


def _cache(settings: Settings) -> Iterator[str]:
    size_of: Counter[str] = Counter()
    for entry in entries(settings.cache_dir):
        size_of[entry.kind] += entry.size
    parts = ", ".join(f"{kind} {decimal(size)}" for kind, size in size_of.most_common())
    holds = f"{decimal(size_of.total())} ({parts})" if size_of else "nothing"
    yield f"cache: {holds} in {settings.cache_dir}; `python -m app cache` lists it"


def _weights(settings: Settings) -> Iterator[str]:
    try:
        found = find_weights(settings.backbone, settings.cache_dir, settings.static_dir)
    except SuresetError as error:
        yield f"-> weights: {error}"
        return
    if found:
        yield f"weights of {settings.backbone}: found"
    else:
        yield (
            f"-> weights of {settings.backbone}: not in {settings.cache_dir}, so training uses the "
            f"embedded {EMBEDDED}; `python -m app prefetch` fetches them"
        )


def _data(settings: Settings) -> Iterator[str]:
    try:
        manifest = read_manifest(settings.data_dir, settings.layout)
    except SuresetError as error:
        yield f"-> data: {error}"
        return
    yield f"data in {manifest}"


def _bundles(settings: Settings) -> Iterator[str]:
    names = bundle_names(settings.models_dir)
    for name in names:
        try:
            open_bundle(settings.models_dir / name)
            yield f"bundle {settings.models_dir / name}: whole"
        except SuresetError as error:
            yield f"-> {error}"
    if not names:
        yield f"-> no bundle in {settings.models_dir}: make one with `make train`"


def _port(settings: Settings) -> Iterator[str]:
    try:
        socket.create_connection((settings.address, settings.port), timeout=2).close()
        yield f"-> port {settings.port} is in use: serve on another with --port"
    except socket.gaierror:
        yield f"-> this machine has no address {settings.address}: serve on another with --address"
    except OSError:
        yield f"port {settings.port}: free"
