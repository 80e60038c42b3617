"""Write down which split every picture is in, balanced over the tasks' classes."""

from __future__ import annotations

import numpy as np
from rich.markup import escape
from rich.table import Table

from app.data.labelling import check_writable, write_splits
from app.data.layouts import read_manifest
from app.data.manifest import LABELS_FILE, SPLITS, Manifest
from app.data.splits import SHARES, Names
from app.data.stratify import stratify
from app.pipeline.pictures import find_readable
from app.progress import console, say
from app.settings import Settings


def split(settings: Settings) -> None:
    """Fill the column ``split`` of the folder's ``labels.csv``; splits that are there stay.

    Raises:
        SuresetError: the folder cannot be read or written, or the given splits contradict each
            other; it says what to do, and nothing was changed.
    """
    manifest = read_manifest(settings.data_dir, settings.layout)
    n = len(manifest)
    given = np.full(n, "", "<U5") if manifest.split is None else manifest.split
    free = int((given == "").sum())
    found = given
    if free:
        check_writable(manifest)
        found = _find_splits(manifest, given, settings)
    filled = int(((given == "") & (found != "")).sum())
    if filled:
        write_splits(manifest, found)

    _print_table(manifest, found)
    file = manifest.root / LABELS_FILE
    if not filled:
        say(f"nothing to write: {n - free} of {n} pictures were in a split already")
    elif manifest.layout == "csv":
        say(f"{file}: {filled} pictures were put in a split, {n - free} stay in theirs")
    else:
        say(
            f"{file}: written, {filled} pictures were put in a split; from now on it labels the "
            f"pictures, and not the layout {manifest.layout}"
        )
    say("next: make train")


def _find_splits(manifest: Manifest, given: Names, settings: Settings) -> Names:
    """The split of every picture that can be read, and what is ``given`` to the others, (n,)."""
    pictures = find_readable(manifest, settings.cache_dir)
    known = pictures.manifest
    splits = stratify(
        known.labels, pictures.digests, known.group, known.split, settings.seed, known.images
    )
    split_of = dict(zip(known.images, splits.tolist(), strict=True))
    split = [split_of.get(image, old) for image, old in zip(manifest.images, given, strict=True)]
    return np.array(split, "<U5")


def _print_table(manifest: Manifest, found: Names) -> None:
    """How many pictures are in each split: all, and of each task the class furthest from that."""
    table = Table(title="pictures, and the class of each task that is furthest from its share")
    table.add_column("")
    table.add_column("all", justify="right")
    for name, share in zip(SPLITS, SHARES, strict=True):
        table.add_column(f"{name} {share:.0%}", justify="right", no_wrap=True)
    number = np.select([found == name for name in SPLITS], range(len(SPLITS)), -1)
    counts = np.bincount(number[number >= 0], minlength=len(SPLITS))
    table.add_row("all", *_cells(counts))
    for task, classes in manifest.classes.items():
        codes = manifest.labels[task]
        known = (codes >= 0) & (number >= 0)
        cell = codes[known] * len(SPLITS) + number[known]
        counts = np.bincount(cell, minlength=len(classes) * len(SPLITS)).reshape(len(classes), -1)
        off = np.abs(counts - counts.sum(1, keepdims=True) * SHARES).max(1)
        furthest = int(off.argmax())
        table.add_row(escape(f"{task}: {classes[furthest]}"), *_cells(counts[furthest]))
    console.print(table)


def _cells(counts: np.ndarray) -> list[str]:
    total = int(counts.sum())
    return [str(total), *(f"{n} ({n / max(total, 1):.1%})" for n in counts.tolist())]
