"""Fit the heads on cached features, with Lightning, and search for how they are best fitted."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pytorch_lightning as pl
import torch
import xxhash
from numpy.typing import NDArray
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Sampler,
    SequentialSampler,
    TensorDataset,
)

from app.conformal.spaces import JOINT, joint_labels
from app.conformal.temperature import fit_temperature
from app.progress import progress, say
from app.vision import selection, softmaxes
from app.vision.candidates import Search
from app.vision.checkpoints import CheckpointFile, Checkpoints
from app.vision.heads import Heads, Layer, joint_is_feasible
from app.vision.selection import Selection
from app.vision.softmaxes import Softmaxes

Ints = NDArray[np.int64]
Features = NDArray[np.float32]

#: Steps an epoch, as long as a batch is neither smaller nor larger than these.
_STEPS, _LEAST, _MOST = 6, 32, 256
#: Validation pictures at a time: only their memory counts.
_VALIDATION_BATCH = 1024


class _Shuffled(Sampler[Ints]):
    """Batches of pictures, in an order that follows from the seed and the epoch alone.

    So a fitting that goes on sees what it would have seen. Whole batches are drawn at once:
    collating them picture by picture would take longer.
    """

    def __init__(self, pictures: int, seed: int, epoch: int) -> None:
        self._pictures = pictures
        self._batch = min(max(pictures // _STEPS, _LEAST), _MOST)
        self._seed = seed
        self._epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch, but only after it drew the first batch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-self._pictures // self._batch)

    def __iter__(self) -> Iterator[Ints]:
        order = np.random.default_rng([self._seed, self._epoch]).permutation(self._pictures)
        return iter(np.split(order, range(self._batch, self._pictures, self._batch)))


class _Watched(WandbLogger):
    """W&B's view of one head: its losses as ``taskwise/valid_loss``."""

    LOGGER_JOIN_CHAR = "/"


class Onlooker(Protocol):
    """Whoever is told of the losses."""

    def log(self, values: Mapping[str, Any]) -> None: ...


class _Epochs(pl.Callback):
    """Tell the progress bar of each epoch."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._advance(1)


def checkpoints_of(
    training: tuple[Features, Mapping[str, Ints]],
    validation: tuple[Features, Mapping[str, Ints]],
    classes: Mapping[str, int],
    seed: int,
    search: Search,
    cache_dir: Path,
) -> Checkpoints:
    """The checkpoints of one problem, told from others by everything that decides the result."""
    facts = {
        "classes": list(classes.items()),
        "seed": seed,
        "search": asdict(search),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "versions": {name: version(name) for name in ("numpy", "pytorch-lightning", "torch")},
        "pictures": [len(features) for features, _ in (training, validation)],
    }
    fingerprint = xxhash.xxh3_128(json.dumps(facts).encode())
    for module in (__file__, softmaxes.__file__, selection.__file__):  # All that is done.
        fingerprint.update(Path(module).read_bytes())
    for features, labels in (training, validation):
        for array in (features, *(labels[task] for task in classes)):
            fingerprint.update(np.ascontiguousarray(array).data)
    return Checkpoints(cache_dir, fingerprint.hexdigest())


def fit_heads(
    training: tuple[Features, Mapping[str, Ints]],
    validation: tuple[Features, Mapping[str, Ints]],
    classes: Mapping[str, int],
    seed: int,
    search: Search,
    logs_dir: Path,
    checkpoints: Checkpoints,
    onlooker: Onlooker | None = None,
) -> tuple[Heads, dict[str, Any]]:
    """Fit the taskwise head, and the joint one where it is feasible, with their temperatures.

    A run that was stopped goes on from its checkpoints, to the same heads bit for bit (unless the
    search ran out of time: how far it comes by then is the machine's affair).

    Args:
        training: features (n, d) and labels {task: (n,)}, -1 where unknown.
        validation: likewise; it stops the fitting, chooses the candidates, and fits the
            temperatures.
        classes: the number of classes of each task.
        seed: draws the order of the pictures, the first hidden weights and what drops out.
        search: the candidates, and how long they may take, all heads together.
        logs_dir: where Lightning writes its logs.
        checkpoints: those of this problem (``checkpoints_of``); they stay until they are removed.
        onlooker: is told each epoch's losses as well, ``{"taskwise/valid_loss": 1.2, …}``.

    Returns:
        The heads, and what was tried for them: of each head, of each of its softmaxes, ``tried``
        (the candidates, with the least ``valid_loss`` of each) and which of them is ``chosen``;
        and whether the search was ``cut`` by its time.
    """
    features = training[0]
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6

    def dataset(features: Features, labels: Mapping[str, Ints]) -> TensorDataset:
        columns = np.stack([labels[task] for task in classes], axis=1)
        return TensorDataset(torch.from_numpy((features - mean) / scale), torch.from_numpy(columns))

    kinds = ["taskwise", JOINT] if joint_is_feasible(classes) else ["taskwise"]
    search = replace(search, seconds=search.seconds / len(kinds))
    data = dataset(*training), dataset(*validation)
    layers: dict[str, dict[str, list[Layer]]] = {}
    tried: dict[str, Any] = {}
    cut = False
    with checkpoints.alone():
        for kind in kinds:
            candidates = Softmaxes(
                kind, features.shape[1], classes, data[0].tensors[1], search.candidates, seed
            )
            chosen = _fit(kind, candidates, *data, seed, search, logs_dir, checkpoints, onlooker)
            layers[kind] = {
                name: _layers(chosen.weights(s)) for s, name in enumerate(candidates.names)
            }
            tried[kind] = {
                name: _tried(search, chosen, s) for s, name in enumerate(candidates.names)
            }
            cut |= chosen.cut
    if cut:
        say("the search for the heads was cut by its time: give it more with --search")
    plain = Heads(mean, scale, layers, dict(classes), temperatures={})
    temperatures = {kind: _temperatures(plain, kind, *validation) for kind in kinds}
    return replace(plain, temperatures=temperatures), {**tried, "cut": cut}


def _layers(weights: Mapping[str, Tensor]) -> list[Layer]:
    """A network's layers as NumPy multiplies by them, from torch's (outputs, inputs)."""
    arrays = [value.cpu().numpy() for value in weights.values()]
    return [(w.T.copy(), b) for w, b in zip(arrays[::2], arrays[1::2], strict=True)]


def _tried(search: Search, selected: Selection, softmax: int) -> dict[str, Any]:
    losses = selected.best[softmax].tolist()
    tried = [
        {**asdict(candidate), "valid_loss": loss if isfinite(loss) else None}
        for candidate, loss in zip(search.candidates, losses, strict=True)
    ]
    return {"tried": tried, "chosen": selected.chosen(softmax)}


def _fit(
    kind: str,
    candidates: Softmaxes,
    training: TensorDataset,
    validation: TensorDataset,
    seed: int,
    search: Search,
    logs_dir: Path,
    checkpoints: Checkpoints,
    onlooker: Onlooker | None,
) -> Selection:
    """Fit the candidates of a head side by side."""
    kept = checkpoints.read(kind)
    epochs = kept["epoch"] + 1 if kept else 0
    if epochs:
        say(f"fitting the {kind} head goes on from epoch {epochs}")
    order = _Shuffled(len(training), seed, epochs)
    sequence = BatchSampler(SequentialSampler(validation), _VALIDATION_BATCH, drop_last=False)
    place = checkpoints.path(kind)
    last = ModelCheckpoint(
        place.parent, place.stem, save_on_train_epoch_end=True, enable_version_counter=False
    )
    selected = Selection(candidates, search)
    loggers: list[Logger] = [CSVLogger(logs_dir, name=kind)]
    if onlooker is not None:
        loggers.append(_Watched(experiment=cast(Any, onlooker), prefix=kind))

    with (
        progress(f"fitting the {kind} head", search.epochs, "epochs") as advance,
        torch.random.fork_rng(),
        quiet(),
        _one_thread(),
    ):
        advance(epochs)
        trainer = pl.Trainer(
            max_epochs=search.epochs,
            accelerator="auto",
            devices=1,
            deterministic=True,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            logger=loggers,
            log_every_n_steps=10,
            plugins=[CheckpointFile()],
            callbacks=[selected, _Epochs(advance), last],
        )
        trainer.fit(
            candidates,
            DataLoader(training, batch_size=None, sampler=order),
            DataLoader(validation, batch_size=None, sampler=sequence),
            ckpt_path=place if kept else None,
            weights_only=True,
        )
    return selected


def _temperatures(
    heads: Heads, kind: str, features: Features, labels: Mapping[str, Ints]
) -> dict[str, float]:
    truths = {JOINT: joint_labels(labels, heads.classes)} if kind == JOINT else labels
    return {
        name: fit_temperature(logits[truths[name] >= 0], truths[name][truths[name] >= 0])
        for name, logits in heads.logits(features, kind).items()
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """Steps this small gain little from threads, and on busy cores these wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's hints (more workers, a tip of the day) are not for the person who trains."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
