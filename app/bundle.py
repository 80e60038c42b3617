"""A bundle: the folder that holds one trained, calibrated, exported model. Whole, or absent.

It is written beside its place and renamed into it. ``bundle.json`` holds the sha256 of every other
file and of its own facts, so a changed byte or fact is noticed when it is opened; and one of all
that pictures, settings and seed decide, which the same training on the same machine gives again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from app.checksums import sha256_of
from app.disk import writing
from app.errors import SuresetError

SCHEMA = 3
LATEST = "latest"

Facts = dict[str, Any]

#: What the same command makes anew each time: names, clocks, and the page and table that show them.
_INCIDENTAL = {"name", "created", "calibrated_from", "metrics.json", "report.html"}


def check_name(models_dir: Path, name: str) -> None:
    """See to it, before any work is done, that a bundle of this name can be written.

    Raises:
        SuresetError: there is such a bundle, it is no name, or the folder cannot be written.
    """
    if Path(name).name != name or name.startswith(".") or name == LATEST or len(name) > 100:
        raise SuresetError(f"a bundle cannot be called {name!r}: give --save-as a plain name.")
    with writing("bundles", models_dir, "--models"):
        models_dir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=models_dir).close()
    if (models_dir / name).exists():
        raise SuresetError(f"there is a bundle {models_dir / name}: name another with --save-as.")


def name_of_next(facts: Facts) -> str:
    """What a bundle is called that is calibrated from this one now."""
    return f"{facts['name'].split('+')[0]}+{datetime.now():%Y%m%d-%H%M%S}"


@contextmanager
def new_bundle(models_dir: Path, name: str, facts: Facts) -> Iterator[Path]:
    """Yield an empty folder to fill; afterwards it is the bundle ``name``, and the latest.

    If the body raises, nothing is left behind; what a kill left of any bundle is removed by the
    next one. ``facts`` may be completed in the body.

    Raises:
        SuresetError: there is such a bundle, or the folder cannot be written (a full disk).
    """
    check_name(models_dir, name)
    with writing(f"the bundle {name}", models_dir, "--models"):
        _sweep(models_dir)
        with _beside(models_dir / name) as folder:
            check_name(models_dir, name)  # Another run may have made it meanwhile.
            yield folder
            _seal(folder, facts)
            os.rename(folder, models_dir / name)
            _point_latest_at(models_dir / name)


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """A folder for this run alone; it is gone afterwards, unless renamed. A kill frees its lock."""
    folder = place.with_name(f".{place.name}.part")
    lock = Path(f"{folder}.lock")
    with FileLock(lock):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir()
            folder.chmod(0o755)  # Whoever serves may be another user than who trained.
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink()


def _sweep(models_dir: Path) -> None:
    """Remove what killed runs left, and nothing that is another user's or being written."""
    for lock in models_dir.glob(".*.part.lock"):
        with suppress(Timeout, PermissionError), FileLock(lock, timeout=0):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink()


def _seal(folder: Path, facts: Facts) -> None:
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
    whole = {"schema": SCHEMA, **facts, "files": hashes}
    decided = {key: value for key, value in whole.items() if key not in _INCIDENTAL}
    decided["files"] = {file: h for file, h in hashes.items() if file not in _INCIDENTAL}
    whole["content_sha256"] = _digest(decided)
    whole["sha256"] = _digest(whole)
    with open(folder / "bundle.json", "w", encoding="utf-8") as written:
        json.dump(whole, written, indent=1, ensure_ascii=False)
        written.flush()
        os.fsync(written.fileno())
    (folder / "bundle.json").chmod(0o644)


def _digest(facts: Facts) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _point_latest_at(place: Path) -> None:
    link = place.parent / f".{LATEST}-{place.name}"
    link.unlink(missing_ok=True)
    link.symlink_to(place.name)
    os.replace(link, place.parent / LATEST)


def find_bundle(models_dir: Path, model: str = LATEST) -> Path:
    """The folder of a bundle, by its name under ``models_dir`` or by its path.

    Raises:
        SuresetError: there is none.
    """
    for place in (models_dir / model, Path(model)):
        if (place / "bundle.json").is_file():
            return place.resolve()
    if model == LATEST:
        raise SuresetError(f"there is no bundle in {models_dir} yet: make one with `make train`.")
    there = sorted(
        p.parent.name for p in models_dir.glob("*/bundle.json") if p.parent.name[0] != "."
    )
    raise SuresetError(
        f"there is no bundle {model} in {models_dir}: "
        + (f"--model can be {', '.join(there)}." if there else "make one with `make train`.")
    )


def bundle_names(models_dir: Path) -> list[str]:
    """The names of all bundles in a folder, oldest first as far as names tell."""
    folders = (path.parent for path in models_dir.glob("[!.]*/bundle.json"))
    return sorted(folder.name for folder in folders if not folder.is_symlink())


def open_bundle(path: Path) -> Facts:
    """The facts of a bundle, after checking that every file is as it was written.

    Raises:
        SuresetError: a file is missing or changed, or the schema is another one.
    """
    again = "train again, or copy the bundle again from where it is whole."
    try:
        facts: Facts = json.loads((path / "bundle.json").read_text(encoding="utf-8"))
        written = facts.pop("sha256")
        if facts["schema"] != SCHEMA:
            raise SuresetError(
                f"the bundle {path} has schema {facts['schema']}, this Sureset reads {SCHEMA}: "
                "train again, or use the version that wrote it."
            )
    except (ValueError, KeyError, AttributeError, TypeError, OSError) as error:
        raise SuresetError(f"the bundle {path} has no readable bundle.json: {again}") from error
    if _digest(facts) != written:
        raise SuresetError(f"the bundle {path} is damaged, bundle.json was changed: {again}")
    for name, expected in facts["files"].items():
        if not (path / name).is_file():
            raise SuresetError(f"the bundle {path} is damaged, {name} is missing: {again}")
        if sha256_of(path / name) != expected:
            raise SuresetError(f"the bundle {path} is damaged, {name} was changed: {again}")
    return facts
