"""The softmaxes of a head, in torch: every candidate for each of them, fitted side by side.

Rare classes. The loss is the plain likelihood of the labels, unweighted. It is a proper score: what
minimises it is P(class | picture), which probabilities, sets and the joint space are built on. A
weighted loss, or logits adjusted by the classes' frequencies (Menon et al., 2021), aim at another
quantity, the probability had all classes been equally frequent, and so are less often right on
pictures as they come. That each rare class is covered is what the taxonomies of calibration see to.
But the regularisation must not hide how frequent a class is: the biases begin at the logarithms of
the frequencies and are not decayed. Over combinations these are the products of the tasks', so
that one seldom seen together still has a fair start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.conformal.spaces import JOINT
from app.vision.candidates import Candidate


class Softmaxes(pl.LightningModule):
    """For each softmax of a head, a network of each candidate. They share nothing but batches.

    Attributes:
        networks: of each softmax (in the order of ``names``), those of the candidates.
        active: likewise, which of them are still being fitted.
        losses: likewise, their mean validation losses at the last epoch.
    """

    def __init__(
        self,
        kind: str,
        dimensions: int,
        classes: Mapping[str, int],
        labels: Tensor,
        candidates: tuple[Candidate, ...],
        seed: int,
    ) -> None:
        """``labels`` (n, tasks), -1 unknown, are those of training: how frequent classes are."""
        super().__init__()
        self.classes = dict(classes)
        self.names = [JOINT] if kind == JOINT else list(classes)
        self._candidates = candidates
        self._seed = seed
        priors = _log_frequencies(labels, classes)
        if kind == JOINT:
            priors = [_log_products(priors)]
        generator = torch.Generator().manual_seed(seed)
        self.networks = nn.ModuleList(
            nn.ModuleList(network(dimensions, prior, c, generator) for c in candidates)
            for prior in priors
        )
        self.active = [[True] * len(candidates) for _ in self.names]
        self.losses = torch.zeros(len(self.names), len(candidates))
        self._sums = self._known = self.losses

    def forward(self, features: Tensor, labels: Tensor) -> dict[tuple[int, int], Tensor]:
        """Of each active (softmax, candidate), the sum of its losses over what is known."""
        sums = {}
        for s, row in enumerate(self.active):
            for c in (c for c, active in enumerate(row) if active):
                logits = self.networks[s][c](features)  # type: ignore[index]
                sums[s, c] = (
                    joint_loss(logits, labels, self.classes)
                    if self.names[s] == JOINT
                    else F.cross_entropy(logits, labels[:, s], ignore_index=-1, reduction="sum")
                )
        return sums

    def known(self, labels: Tensor) -> Tensor:
        """The number of pictures each softmax learns from."""
        known = labels >= 0
        return known.any(dim=1).sum()[None] if self.names == [JOINT] else known.sum(dim=0)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        # What is dropped follows from the seed and the step alone, also after a stop: Lightning
        # leaves the hook of an epoch's start out when it goes on from a checkpoint.
        torch.manual_seed(hash((self._seed, self.global_step)) % 2**63)
        known = self.known(batch[1]).clamp(min=1)
        losses = [total / known[s] for (s, _), total in self(*batch).items()]
        loss = torch.stack(losses).sum()
        mean = loss.detach() / len(losses)
        self.log("train_loss", mean, on_step=False, on_epoch=True, batch_size=len(batch[0]))
        return loss

    def on_validation_epoch_start(self) -> None:
        self._sums = torch.zeros(self.losses.shape, device=self.device)
        self._known = torch.zeros(len(self.names), 1, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        for place, total in self(*batch).items():
            self._sums[place] += total
        self._known += self.known(batch[1])[:, None]

    def on_validation_epoch_end(self) -> None:
        ended = ~torch.tensor(self.active)
        losses = (self._sums / self._known.clamp(min=1)).cpu()
        self.losses = losses.masked_fill(ended, torch.inf)
        best = self.losses.amin(dim=1)
        running = best[best.isfinite()]
        if len(running):
            self.log("valid_loss", running.mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = []
        for networks in self.networks:
            for one, candidate in zip(networks, self._candidates, strict=True):
                matrices = [p for p in one.parameters() if p.ndim > 1]
                biases = [p for p in one.parameters() if p.ndim == 1]
                groups += [
                    {"params": matrices, "lr": candidate.rate, "weight_decay": candidate.decay},
                    {"params": biases, "lr": candidate.rate, "weight_decay": 0.0},
                ]
        return torch.optim.AdamW(groups, fused=True)


def network(
    dimensions: int, prior: Tensor, candidate: Candidate, generator: torch.Generator
) -> nn.Sequential:
    """A softmax's logits from features (n, d); without any feature they are ``prior``.

    The hidden layer begins as torch's own linear layers do, the output's weights at zero.
    """
    inputs = dimensions
    layers: list[nn.Module] = []
    if candidate.width:
        hidden = nn.Linear(dimensions, candidate.width)
        bound = 1 / math.sqrt(dimensions)
        for parameter in hidden.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        layers = [hidden, nn.ReLU(), nn.Dropout(candidate.dropout)]
        inputs = candidate.width
    output = nn.Linear(inputs, len(prior))
    nn.init.zeros_(output.weight)
    with torch.no_grad():
        output.bias.copy_(prior)
    return nn.Sequential(*layers, output)


def joint_loss(logits: Tensor, labels: Tensor, classes: Mapping[str, int]) -> Tensor:
    """Negative log-likelihood of what is known: an unknown label is summed over its classes."""
    log_probs = F.log_softmax(logits, dim=1).reshape(len(logits), *classes.values())
    for axis, count in enumerate(classes.values()):
        label = labels[:, axis, None]
        possible = (torch.arange(count, device=labels.device) == label) | (label < 0)
        shape = [len(labels)] + [1] * len(classes)
        shape[axis + 1] = count
        log_probs = log_probs.masked_fill(~possible.reshape(shape), -torch.inf)
    # A picture of which nothing is known has likelihood 1 and adds nothing.
    return -torch.logsumexp(log_probs.flatten(1), dim=1).sum()


def _log_frequencies(labels: Tensor, classes: Mapping[str, int]) -> list[Tensor]:
    """Of each task, the logarithms of its classes' shares, each class counted once more."""
    counts = [
        torch.bincount(column[column >= 0], minlength=count) + 1.0
        for column, count in zip(labels.T, classes.values(), strict=True)
    ]
    return [torch.log(count / count.sum()) for count in counts]


def _log_products(logs: list[Tensor]) -> Tensor:
    total = logs[0]
    for log in logs[1:]:
        total = (total[:, None] + log).flatten()
    return total
