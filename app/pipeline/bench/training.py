"""Training heads on features that are computed once, beside a plain loop over a frozen network.

The plain loop is what one writes first: Lightning over a data loader that decodes each picture in
each epoch and runs the frozen network on it, with a linear softmax a task on the last layer.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from app.data.manifest import SPLITS
from app.data.pictures import Preprocess, read_rgb
from app.data.sample import write_sample
from app.pipeline.loading import kinds_asked_for
from app.pipeline.network import Exported, choose_backbone, export_network
from app.pipeline.pictures import Pictures, extract, find_pictures
from app.progress import console
from app.settings import Settings
from app.vision.candidates import search_for
from app.vision.encoder import Encoder
from app.vision.fitting import checkpoints_of, fit_heads, quiet

_PICTURES = 480
_BATCH = 32
#: Of the plain loop only so many epochs are run, which differ in nothing from those that follow.
_EPOCHS = 2


def bench_training(settings: Settings) -> None:
    """Print the seconds of both, on drawn pictures, as many epochs for each."""
    backbone = choose_backbone(settings)
    kind = kinds_asked_for(settings)[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sample(folder / "data", _PICTURES, settings.seed)
        own = settings.model_copy(
            update={"data_dir": folder / "data", "cache_dir": folder, "logs_dir": folder / "logs"}
        )
        pictures = find_pictures(own)
        network = export_network(backbone, [kind], pictures, own)
        features, fit, epochs = _ours(own, pictures, network, kind)
        plain = _plain(pictures, network)
    n = len(pictures.rows("train"))
    table = Table(title=f"{n} training pictures, {backbone.name}; ours by {kind}")
    table.add_column("what")
    table.add_column("seconds", justify="right")
    ours = features + fit
    table.add_row(f"ours: features of all {_PICTURES} pictures, once", f"{features:.1f}")
    table.add_row(f"ours: both heads searched and fitted, {epochs} epochs", f"{fit:.1f}")
    table.add_row("plain loop: one epoch over the frozen network", f"{plain:.1f}")
    table.add_row(f"plain loop: {epochs} such epochs, reckoned", f"{epochs * plain:.0f}")
    table.add_row("plain loop over ours", f"{epochs * plain / ours:.0f} times")
    console.print(table)


def _ours(
    settings: Settings, pictures: Pictures, network: Exported, kind: str
) -> tuple[float, float, int]:
    """Seconds of the features and of the fitting, and the epochs the longer head was fitted."""
    cache = network.cache_of(kind, settings.cache_dir)
    started = time.perf_counter()
    pictures, features = extract(pictures, SPLITS, cache)
    extracted = time.perf_counter()
    training, validation = (
        (features[rows], pictures.labels(rows))
        for rows in (pictures.rows("train"), pictures.rows("valid"))
    )
    classes = {task: len(names) for task, names in pictures.manifest.classes.items()}
    search = search_for(settings.recipe, settings.search_s)
    problem = training, validation, classes, settings.seed, search
    fit_heads(*problem, settings.logs_dir, checkpoints_of(*problem, settings.cache_dir))
    fitted = time.perf_counter()
    logs = settings.logs_dir.glob("*/version_*/metrics.csv")
    epochs = 1 + max(int(pd.read_csv(log).epoch.max()) for log in logs)
    return extracted - started, fitted - extracted, epochs


class _Decoded(Dataset[Any]):
    """Pictures that are decoded whenever they are asked for, and their labels."""

    def __init__(self, pictures: Pictures, preprocess: Preprocess) -> None:
        self._pictures = pictures
        self._preprocess = preprocess
        self._labels = np.stack([*pictures.manifest.labels.values()], axis=1)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        picture = read_rgb(self._pictures.manifest.path(i), self._preprocess)
        return torch.from_numpy(picture.copy()), torch.from_numpy(self._labels[i])


class _PlainLoop(pl.LightningModule):
    """A linear softmax a task on a frozen network."""

    def __init__(self, encoder: Encoder, classes: list[int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(nn.Linear(encoder.dimensions, count) for count in classes)
        self.ends: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        pictures, labels = batch
        with torch.no_grad():
            features = self.encoder(pictures)
        losses = [F.cross_entropy(h(features), labels[:, t]) for t, h in enumerate(self.heads)]
        return torch.stack(losses).sum()

    def on_train_epoch_start(self) -> None:
        self.encoder.eval()
        self.ends.append(time.perf_counter())

    def on_train_end(self) -> None:
        self.ends.append(time.perf_counter())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.heads.parameters())


def _plain(pictures: Pictures, network: Exported) -> float:
    """Seconds of an epoch, the fastest."""
    training = pictures.take(pictures.rows("train"))
    classes = [len(names) for names in training.manifest.classes.values()]
    loop = _PlainLoop(Encoder(network.backbone, "thesis"), classes)
    loader = DataLoader(
        _Decoded(training, network.backbone.preprocess), _BATCH, shuffle=True, num_workers=1
    )
    with quiet():
        trainer = pl.Trainer(
            max_epochs=_EPOCHS,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(loop, loader)
    return float(np.diff(loop.ends).min())
