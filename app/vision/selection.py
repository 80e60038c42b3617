"""Which candidate of each softmax is kept, and of which epoch: that of least validation loss."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from app.vision.candidates import Search
from app.vision.softmaxes import Softmaxes


class Selection(pl.Callback):
    """Early stopping of each candidate, with the weights of its best epoch.

    All of it is part of each checkpoint. In a file of their own, as ModelCheckpoint keeps them, the
    best weights could be of another epoch than a run that was killed meanwhile goes on from.

    Attributes:
        best: of each softmax and candidate, the least validation loss so far.
        cut: whether the time was over before all candidates had ended.
    """

    def __init__(self, softmaxes: Softmaxes, search: Search) -> None:
        shape = softmaxes.losses.shape
        self.best = torch.full(shape, torch.inf)
        self.cut = False
        self._search = search
        self._spent = 0.0
        self._since = torch.zeros(shape, dtype=torch.int64)
        self._active = torch.ones(shape, dtype=torch.bool)
        self._weights: dict[str, dict[str, Tensor]] = {}
        self._softmaxes = softmaxes

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._started = time.monotonic() - self._spent
        self._tell(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        losses = self._softmaxes.losses
        better = self._active & (losses < self.best)
        self.best = torch.where(better, losses, self.best)
        self._since = torch.where(better, 0, self._since + 1)
        for s, c in better.nonzero().tolist():
            state = self._softmaxes.networks[s][c].state_dict()
            self._weights[f"{s}.{c}"] = {name: value.clone() for name, value in state.items()}
        self._active &= self._since < self._search.patience
        self._spent = time.monotonic() - self._started
        if losses.shape[1] > 1 and self._spent > self._search.seconds and not self.cut:
            leads = torch.zeros_like(self._active)
            leads[torch.arange(len(leads)), self.best.argmin(dim=1)] = True
            self.cut = bool((self._active & ~leads).any())
            self._active &= leads
        self._tell(trainer)

    def _tell(self, trainer: pl.Trainer) -> None:
        self._softmaxes.active = self._active.tolist()
        trainer.should_stop = not bool(self._active.any())

    def chosen(self, softmax: int) -> int:
        """The candidate of a softmax whose best epoch is the best; the first of equals."""
        return int(self.best[softmax].argmin())

    def weights(self, softmax: int) -> dict[str, Tensor]:
        """What the chosen candidate weighed at its best epoch."""
        return self._weights[f"{softmax}.{self.chosen(softmax)}"]

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "cut": self.cut,
            "spent": self._spent,
            "since": self._since,
            "active": self._active,
            "weights": self._weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.cut, self._spent = state["best"], state["cut"], state["spent"]
        self._since, self._active = state["since"], state["active"]
        self._weights = state["weights"]
