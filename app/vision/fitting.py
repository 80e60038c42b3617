"""Fit the heads on cached features, with Lightning."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pytorch_lightning as pl
import torch
import xxhash
from numpy.typing import NDArray
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Sampler,
    SequentialSampler,
    TensorDataset,
)

from app.conformal.spaces import JOINT, combinations, joint_labels
from app.conformal.temperature import fit_temperature
from app.progress import progress, say
from app.vision.checkpoints import CheckpointFile, Checkpoints
from app.vision.heads import Heads, joint_is_feasible

Ints = NDArray[np.int64]
Features = NDArray[np.float32]

_EPOCHS = 60
_PATIENCE = 6
_BATCH = 64
#: The best validation loss on the sample set among rates 3e-4 and 1e-3, decays 0.05 to 5.
_RATE = 1e-3
_DECAY = 2.0


class Head(pl.LightningModule):
    """A linear softmax classifier; its loss tells what the softmaxes range over."""

    def __init__(self, dimensions: int, classes: Mapping[str, int], kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.classes = dict(classes)
        outputs = combinations(classes) if kind == JOINT else sum(classes.values())
        self.linear = nn.Linear(dimensions, outputs)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Mean negative log-likelihood of the known labels; ``labels`` (n, tasks), -1 unknown."""
        logits = self.linear(features)
        if self.kind == JOINT:
            return _joint_loss(logits, labels, self.classes)
        losses = [
            F.cross_entropy(part, labels[:, t], ignore_index=-1, reduction="sum")
            for t, part in enumerate(logits.split(list(self.classes.values()), dim=1))
        ]
        return torch.stack(losses).sum() / (labels >= 0).sum().clamp(min=1)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        loss = self.loss(*batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self.log("valid_loss", self.loss(*batch), batch_size=len(batch[0]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=_RATE, weight_decay=_DECAY)


def _joint_loss(logits: Tensor, labels: Tensor, classes: Mapping[str, int]) -> Tensor:
    """Likelihood of what is known of each picture: an unknown label is summed over its classes."""
    log_probs = F.log_softmax(logits, dim=1).reshape(len(logits), *classes.values())
    for axis, count in enumerate(classes.values()):
        label = labels[:, axis, None]
        possible = (torch.arange(count, device=labels.device) == label) | (label < 0)
        shape = [len(labels)] + [1] * len(classes)
        shape[axis + 1] = count
        log_probs = log_probs.masked_fill(~possible.reshape(shape), -torch.inf)
    # A picture of which nothing is known has likelihood 1 and adds nothing.
    known = (labels >= 0).any(dim=1).sum().clamp(min=1)
    return -torch.logsumexp(log_probs.flatten(1), dim=1).sum() / known


class _Shuffled(Sampler[Ints]):
    """Batches of pictures, in an order that follows from the seed and the epoch alone.

    So a fitting that goes on sees what it would have seen. Whole batches are drawn at once:
    collating them picture by picture would take longer.
    """

    def __init__(self, pictures: int, seed: int, epoch: int) -> None:
        self._pictures = pictures
        self._seed = seed
        self._epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch, but only after it drew the first batch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-self._pictures // _BATCH)

    def __iter__(self) -> Iterator[Ints]:
        order = np.random.default_rng([self._seed, self._epoch]).permutation(self._pictures)
        return iter(np.split(order, range(_BATCH, self._pictures, _BATCH)))


class _EarlyStopping(EarlyStopping):
    """Stops a fitting that goes on from the checkpoint of the epoch it had stopped at."""

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        trainer.should_stop = self.stopping_reason != EarlyStoppingReason.NOT_STOPPED


class _Best(pl.Callback):
    """The weights of the epoch with the best validation loss.

    They are part of each checkpoint. In a file of their own, as ModelCheckpoint keeps them, they
    could be of another epoch than a run that was killed meanwhile goes on from.
    """

    def __init__(self) -> None:
        self._loss = float("nan")
        self.weights: dict[str, Tensor] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        loss = trainer.callback_metrics["valid_loss"].item()
        if not self.weights or loss < self._loss:
            self._loss = loss
            self.weights = {name: value.clone() for name, value in module.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self._loss, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._loss, self.weights = state["loss"], state["weights"]


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
    cache_dir: Path,
) -> Checkpoints:
    """The checkpoints of one problem, told from others by everything that decides the result."""
    facts = {
        "classes": list(classes.items()),
        "seed": seed,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "versions": {name: version(name) for name in ("numpy", "pytorch-lightning", "torch")},
        "pictures": [len(features) for features, _ in (training, validation)],
    }
    fingerprint = xxhash.xxh3_128(json.dumps(facts).encode())
    fingerprint.update(Path(__file__).read_bytes())  # The rates, and all that is done with them.
    for features, labels in (training, validation):
        for array in (features, *(labels[task] for task in classes)):
            fingerprint.update(np.ascontiguousarray(array).data)
    return Checkpoints(cache_dir, fingerprint.hexdigest())


def fit_heads(
    training: tuple[Features, Mapping[str, Ints]],
    validation: tuple[Features, Mapping[str, Ints]],
    classes: Mapping[str, int],
    seed: int,
    logs_dir: Path,
    checkpoints: Checkpoints,
    onlooker: Onlooker | None = None,
) -> Heads:
    """Fit the taskwise head, and the joint one where it is feasible, with their temperatures.

    A run that was stopped goes on from its checkpoints, to the same heads bit for bit.

    Args:
        training: features (n, d) and labels {task: (n,)}, -1 where unknown.
        validation: likewise; it stops the fitting, and fits the temperatures.
        classes: the number of classes of each task.
        seed: draws the order of the pictures.
        logs_dir: where Lightning writes its logs.
        checkpoints: those of this problem (``checkpoints_of``); they stay until they are removed.
        onlooker: is told each epoch's losses as well, ``{"taskwise/valid_loss": 1.2, …}``.
    """
    features = training[0]
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6

    def dataset(features: Features, labels: Mapping[str, Ints]) -> TensorDataset:
        columns = np.stack([labels[task] for task in classes], axis=1)
        return TensorDataset(torch.from_numpy((features - mean) / scale), torch.from_numpy(columns))

    kinds = ["taskwise", JOINT] if joint_is_feasible(classes) else ["taskwise"]
    data = dataset(*training), dataset(*validation)
    how = *data, classes, seed, logs_dir, checkpoints, onlooker
    with checkpoints.alone():
        fitted = {kind: _fit(kind, *how) for kind in kinds}
    weights = {kind: head.linear.weight.detach().numpy().T.copy() for kind, head in fitted.items()}
    biases = {kind: head.linear.bias.detach().numpy() for kind, head in fitted.items()}
    plain = Heads(mean, scale, weights, biases, dict(classes), temperatures={})
    temperatures = {kind: _temperatures(plain, kind, *validation) for kind in kinds}
    return replace(plain, temperatures=temperatures)


def _fit(
    kind: str,
    training: TensorDataset,
    validation: TensorDataset,
    classes: Mapping[str, int],
    seed: int,
    logs_dir: Path,
    checkpoints: Checkpoints,
    onlooker: Onlooker | None,
) -> Head:
    """The head of the epoch with the best validation loss."""
    head = Head(training.tensors[0].shape[1], classes, kind)
    kept = checkpoints.read(kind)
    epochs = kept["epoch"] + 1 if kept else 0
    if epochs:
        say(f"fitting the {kind} head goes on from epoch {epochs}")
    order = _Shuffled(len(training), seed, epochs)
    sequence = BatchSampler(SequentialSampler(validation), _BATCH, drop_last=False)
    place = checkpoints.path(kind)
    last = ModelCheckpoint(
        place.parent, place.stem, save_on_train_epoch_end=True, enable_version_counter=False
    )
    best = _Best()
    loggers: list[Logger] = [CSVLogger(logs_dir, name=kind)]
    if onlooker is not None:
        loggers.append(_Watched(experiment=cast(Any, onlooker), prefix=kind))

    with (
        progress(f"fitting the {kind} head", _EPOCHS, "epochs") as advance,
        _quiet(),
        _one_thread(),
    ):
        advance(epochs)
        trainer = pl.Trainer(
            max_epochs=_EPOCHS,
            accelerator="auto",
            devices=1,
            deterministic=True,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            logger=loggers,
            log_every_n_steps=10,
            plugins=[CheckpointFile()],
            callbacks=[
                _EarlyStopping("valid_loss", patience=_PATIENCE),
                best,
                _Epochs(advance),
                last,
            ],
        )
        trainer.fit(
            head,
            DataLoader(training, batch_size=None, sampler=order),
            DataLoader(validation, batch_size=None, sampler=sequence),
            ckpt_path=place if kept else None,
            weights_only=True,
        )
    head.load_state_dict(best.weights)
    return head.cpu()


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
    """Steps this small take several times longer when threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _quiet() -> Iterator[None]:
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
