"""Train a backbone on the pictures themselves, with Lightning, in one process or several.

A linear head for all tasks on the pooled last layer is trained with it and then left behind: what
stays is a weights file, from which features, heads and calibration follow as from any other.

The network trains in evaluation mode. Batch norm keeps the statistics it came with, so a picture's
loss depends on no other picture of its batch, and a batch can be divided among processes.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
import xxhash
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from app.data import pictures
from app.disk import writing
from app.errors import SuresetError
from app.progress import progress, say
from app.ranks import by_torchrun, rank
from app.vision import networks, views
from app.vision.backbones import Backbone
from app.vision.checkpoints import CheckpointFile, Checkpoints
from app.vision.fitting import quiet
from app.vision.networks import Network, Normalise, load_network, save_network
from app.vision.runtimes import best_float
from app.vision.views import Examples, Views, in_sequence, shuffled

Depth = Literal["last", "all"]
Value = TypeVar("Value")

#: Of 2e-4 and 5e-4 the one with the lower validation loss after an epoch of the last stage.
_RATE = 5e-4
_HEAD_RATE = 2e-3
_DECAY = 0.05
_LARGEST_GRADIENT = 1.0
#: Epochs in a row without a better validation loss after which training ends.
_PATIENCE = 3
#: Compiling for CUDA lasts about a minute, which fewer steps would not win back.
_STEPS_WORTH_COMPILING = 10_000

_VERSIONS = ("numpy", "pillow", "pytorch-lightning", "timm", "torch", "torchvision")
#: The rates above, and all that is done with them.
_CODE = (__file__, *(str(module.__file__) for module in (networks, pictures, views)))


@dataclass(frozen=True)
class Problem:
    """What is to be learnt, by what.

    Attributes:
        backbone: the network to begin with.
        depth: ``all`` of it is trained, or the ``last`` stage.
        training, validation: the pictures.
        classes: the number of classes of each task, in the order of the labels' columns.
        seed: draws the order of the pictures and their views.
    """

    backbone: Backbone
    depth: Depth
    training: Examples
    validation: Examples
    classes: Mapping[str, int]
    seed: int


@dataclass(frozen=True)
class Plan:
    """How long, and in what steps.

    Attributes:
        epochs: passes over the pictures, if the validation loss does not rise earlier.
        batch: pictures of a step, those of all processes together.
        precision: f32 or bf16; None for bf16 where the device has it.
        processes: on this machine, where torchrun does not start them; None for one a GPU.
    """

    epochs: int = 10
    batch: int = 32
    precision: Literal["f32", "bf16"] | None = None
    processes: int | None = None


def finetune(problem: Problem, cache_dir: Path, logs_dir: Path, plan: Plan = Plan()) -> Path:
    """Train the backbone to the mean weights of the epoch with the best validation loss.

    It is done at once where the cache has the result. Stopped, it goes on from the last epoch that
    was finished, to the same weights bit for bit on one machine. Under torchrun each process calls
    this and does its share of every batch. Their machines need share no disk: the first process's
    cache is the one that counts.

    Args:
        problem: what is to be learnt.
        cache_dir: for checkpoints and the result.
        logs_dir: where Lightning writes its logs.
        plan: how long, and in what steps.

    Returns:
        The weights file, which only the first process need have. ``facts_of`` tells of it.

    Raises:
        SuresetError: there are more processes than pictures for them, they were given different
            problems, one of them is lost, or the cache cannot be written.
    """
    _check_processes(problem, plan)
    fingerprint = _fingerprint(problem, plan)
    place = cache_dir / "finetuned" / f"{fingerprint}.safetensors"
    checkpoints = Checkpoints(cache_dir, fingerprint)

    with _joined(), checkpoints.alone() if rank() == 0 else nullcontext():
        start = _agreed(lambda: _Start(fingerprint, place.is_file(), checkpoints.read("network")))
        if start.fingerprint != fingerprint:
            raise SuresetError(
                "the processes of this training see different pictures, labels, settings, weights "
                "or programs: give every machine the same."
            )
        if not start.done:
            learner = _Learner(problem, plan)
            course = _train(learner, start.kept, checkpoints.path("network"), logs_dir, plan)
            if rank() == 0:
                learner.classifier.load_state_dict(course.best)
                facts = {"from": problem.backbone.weights_sha256, "depth": problem.depth}
                _save(learner.classifier.network, {**facts, **course.facts()}, place)
    if rank() == 0:
        os.utime(place)  # It is in use.
        checkpoints.remove()
    return place


def facts_of(weights: Path) -> dict[str, Any]:
    """Of what ``finetune`` returned: from which weights, how deep, and what each epoch came to."""
    with safe_open(weights, framework="pt") as file:
        return json.loads(file.metadata()["facts"])


class _Classifier(nn.Module):
    """uint8 (n, size, size, 3), RGB -> the logits of all tasks, one after the other, (n, C)."""

    def __init__(self, backbone: Backbone, outputs: int) -> None:
        super().__init__()
        self.normalise = Normalise(backbone)
        self.network = load_network(backbone)
        size = backbone.preprocess.size
        with torch.no_grad():
            *_, pooled = self.network(torch.zeros(1, 3, size, size))
        self.head = nn.Linear(pooled.shape[1], outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, pictures: Tensor) -> Tensor:
        *_, pooled = self.network(self.normalise(pictures))
        with torch.autocast(pictures.device.type, enabled=False):
            return self.head(pooled.float())


class _Learner(pl.LightningModule):
    """Maximum likelihood of the labels that are known, and a running mean of the weights."""

    def __init__(self, problem: Problem, plan: Plan) -> None:
        super().__init__()
        self._problem = problem
        self._batch = min(plan.batch, len(problem.training))
        self.steps = len(problem.training) // self._batch
        self._epochs = plan.epochs
        backbone = problem.backbone
        classifier = _Classifier(backbone, sum(problem.classes.values()))
        trained = trained_parameters(classifier.network, backbone.preprocess.size, problem.depth)
        for name, parameter in classifier.network.named_parameters():
            parameter.requires_grad_(name in trained)
        self.classifier = classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Over about an epoch, as that of averaged batches (Izmailov et al. 2018) without a window.
        mean = get_ema_multi_avg_fn(1 - 1 / self.steps)
        self.average = AveragedModel(self.classifier, multi_avg_fn=mean).requires_grad_(False)
        self._nll: list[Tensor] = []

    def train(self, mode: bool = True) -> _Learner:
        """Nothing in the network behaves in training as it would not in answering."""
        return super().train(False)

    def train_dataloader(self) -> Views:
        problem, draw = self._problem, (self._problem.seed, self.current_epoch)
        batches = shuffled(problem.training.labels, self._batch, draw, self._share)
        return Views(problem.training, batches, problem.backbone.preprocess, draw)

    def val_dataloader(self) -> Views:
        problem = self._problem
        batches = in_sequence(problem.validation.labels, self._batch, self._share)
        return Views(problem.validation, batches, problem.backbone.preprocess)

    @property
    def _share(self) -> tuple[int, int]:
        return self.trainer.global_rank, self.trainer.world_size

    def training_step(self, batch: tuple[Tensor, Tensor, int], _: int) -> Tensor:
        pictures, labels, known = batch
        nll = _nll(self.classifier(pictures), labels, self._problem.classes)
        # DDP takes the mean over the processes of what has to be the sum.
        loss = nll * self.trainer.world_size / max(known, 1)
        self.log("train_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=1)
        return loss

    def on_train_batch_end(self, *_: object) -> None:
        self.average.update_parameters(self.classifier)

    def validation_step(self, batch: tuple[Tensor, Tensor, int], _: int) -> None:
        pictures, labels, _known = batch
        nll = _nll(self.average(pictures), labels, self._problem.classes)
        self._nll.append(torch.stack([nll.double(), (labels >= 0).sum()]))

    def on_validation_epoch_end(self) -> None:
        shares = cast(Tensor, self.all_gather(torch.stack(self._nll).sum(0)))
        sums = shares.reshape(-1, 2).sum(0)
        self._nll.clear()
        self.log("valid_loss", sums[0] / sums[1])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        network = [p for p in self.classifier.network.parameters() if p.requires_grad]
        groups = [
            {"params": network, "lr": _RATE},
            {"params": self.classifier.head.parameters(), "lr": _HEAD_RATE},
        ]
        optimiser = torch.optim.AdamW(groups, weight_decay=_DECAY)
        warm_up, total = self.steps, self.steps * self._epochs

        def rate(step: int) -> float:
            return min((step + 1) / warm_up, (1 + math.cos(math.pi * step / total)) / 2)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def trained_parameters(network: Network, size: int, depth: Depth) -> set[str]:
    """The names of the parameters to train, whatever the architecture.

    All are those that the pooled layer depends on. Of these, the last stage's are the ones that
    the map of the stage before does not depend on.

    Raises:
        SuresetError: there is no stage before.
    """
    names, parameters = zip(*network.named_parameters(), strict=True)

    def leading_to(output: Tensor) -> set[str]:
        grads = torch.autograd.grad(output.sum(), parameters, allow_unused=True, retain_graph=True)
        return {name for name, grad in zip(names, grads, strict=True) if grad is not None}

    stages, _, pooled = network(torch.zeros(1, 3, size, size))
    everything = leading_to(pooled)
    if depth == "all":
        return everything
    if len(stages) < 2:
        raise SuresetError(
            "of this backbone only one stage is known: train it with --finetune all."
        )
    return everything - leading_to(stages[-2])


def _nll(logits: Tensor, labels: Tensor, classes: Mapping[str, int]) -> Tensor:
    """The negative log-likelihood of the known labels (n, tasks), -1 where unknown, summed."""
    parts = logits.split(list(classes.values()), dim=1)
    losses = [
        F.cross_entropy(part, labels[:, t], ignore_index=-1, reduction="sum")
        for t, part in enumerate(parts)
    ]
    return torch.stack(losses).sum()


class _Course(pl.Callback):
    """What each epoch came to, and the best one's mean weights; both are part of a checkpoint."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.losses: list[float] = []
        self.best: dict[str, Tensor] = {}
        self._advance = advance

    def facts(self) -> dict[str, Any]:
        best = int(np.argmin(self.losses))
        return {"epochs": len(self.losses), "best_epoch": best, "validation_losses": self.losses}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._advance(trainer.global_step)
        trainer.should_stop = self._is_over()

    def on_train_batch_end(self, *_: object) -> None:
        self._advance(1)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        loss = trainer.callback_metrics["valid_loss"].item()
        if not self.best or loss < min(self.losses):
            average = cast(_Learner, module).average.module.state_dict()
            self.best = {name: value.to("cpu", copy=True) for name, value in average.items()}
        self.losses.append(loss)
        trainer.should_stop = self._is_over()

    def _is_over(self) -> bool:
        return bool(self.losses) and len(self.losses) - 1 - np.argmin(self.losses) >= _PATIENCE

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses, self.best = state["losses"], state["best"]


class _OwnEnding(pl.Callback):
    """Keep to this program's way of ending when it is told to.

    Lightning's handler waits for the other processes, whatever this one is in the midst of.
    """

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        signal.signal(signal.SIGTERM, self._handler)

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, _: BaseException
    ) -> None:
        launcher = trainer.strategy.launcher
        if launcher is not None:  # It started the processes of the other GPUs.
            launcher.kill(signal.SIGTERM)


class _Kept(CheckpointFile):
    """The checkpoint that is gone on from is the one that the first process read."""

    def __init__(self, kept: dict[str, Any] | None) -> None:
        self._kept = kept

    def load_checkpoint(self, *_: object, **__: object) -> dict[str, Any]:
        assert self._kept is not None
        return self._kept


def _train(
    learner: _Learner, kept: dict[str, Any] | None, place: Path, logs_dir: Path, plan: Plan
) -> _Course:
    """Train with checkpoints at ``place``, going on from ``kept``."""
    machines, each = _processes(plan)
    steps = learner.steps * plan.epochs
    if kept:
        say(f"fine-tuning goes on from epoch {kept['epoch'] + 1}")
    if torch.cuda.is_available() and shutil.which("cc") and steps >= _STEPS_WORTH_COMPILING:
        learner.classifier.compile()
    several = machines * each > 1
    with progress("fine-tuning", steps, "steps") as advance, quiet():
        course = _Course(advance)
        checkpoint = ModelCheckpoint(
            place.parent, place.stem, save_on_train_epoch_end=True, enable_version_counter=False
        )
        trainer = pl.Trainer(
            max_epochs=plan.epochs,
            accelerator="cuda" if torch.cuda.is_available() else "cpu",
            devices=each,
            num_nodes=machines,
            # Nothing but gradients has to be exchanged.
            strategy=DDPStrategy(broadcast_buffers=False) if several else "auto",
            precision="bf16-mixed" if _precision(plan) == "bf16" else "32-true",
            gradient_clip_val=_LARGEST_GRADIENT,
            deterministic="warn",
            use_distributed_sampler=False,
            reload_dataloaders_every_n_epochs=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            logger=CSVLogger(logs_dir, name="network"),
            log_every_n_steps=10,
            plugins=[_Kept(kept)],
            callbacks=[course, _OwnEnding(), checkpoint],
        )
        try:
            trainer.fit(learner, ckpt_path=place if kept else None, weights_only=True)
        except RuntimeError as error:
            if not several:
                raise
            raise SuresetError(
                f"process {rank()} of {trainer.world_size} could not go on, maybe for another that "
                f"ended ({str(error).splitlines()[0]}): start all of them again, and they go on "
                "where they were."
            ) from error
    return course


def _save(network: Network, facts: Mapping[str, Any], place: Path) -> None:
    """Write the weights whole or not at all."""
    beside = place.with_name(f".{place.name}")
    with writing("the fine-tuned weights", place.parent, "--cache"):
        place.parent.mkdir(parents=True, exist_ok=True)
        save_network(network, beside, json.dumps(facts))
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, place)


class _Start(NamedTuple):
    """What processes must agree on before they train: the problem, and how far it has come."""

    fingerprint: str
    done: bool
    kept: dict[str, Any] | None


@contextmanager
def _joined() -> Iterator[None]:
    """Be in touch with the other processes of torchrun, before Lightning would be.

    It finds them in touch, and those it starts itself get in touch when it does.
    """
    if by_torchrun():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def _agreed(look: Callable[[], Value]) -> Value:
    """What the first process sees, in all of them."""
    if not by_torchrun():  # All are on one machine, and see the same.
        return look()
    seen = [look() if rank() == 0 else None]
    dist.broadcast_object_list(seen)
    return seen[0]  # type: ignore[return-value]


def _processes(plan: Plan) -> tuple[int, int]:
    """The number of machines, and of processes on each."""
    if by_torchrun():
        each = int(os.environ["LOCAL_WORLD_SIZE"])
        return int(os.environ["WORLD_SIZE"]) // each, each
    return 1, plan.processes or max(torch.cuda.device_count(), 1)


def _check_processes(problem: Problem, plan: Plan) -> None:
    machines, each = _processes(plan)
    processes, validation = machines * each, len(problem.validation)
    if processes > min(plan.batch, len(problem.training), validation):
        raise SuresetError(
            f"{processes} processes cannot share batches of {plan.batch} and {validation} pictures "
            "of validation: start fewer, or add pictures."
        )


def _precision(plan: Plan) -> str:
    if plan.precision:
        return plan.precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "f32"
    return best_float()


def _fingerprint(problem: Problem, plan: Plan) -> str:
    """What stands for everything that decides the result."""
    machines, each = _processes(plan)
    backbone = problem.backbone
    facts = {
        "from": backbone.weights_sha256,
        "network": [backbone.name, backbone.mean, backbone.std, asdict(backbone.preprocess)],
        "depth": problem.depth,
        "classes": list(problem.classes.items()),
        "seed": problem.seed,
        "plan": [plan.epochs, plan.batch],
        "on": ["cuda" if torch.cuda.is_available() else "cpu", _precision(plan), machines * each],
        "pictures": [len(problem.training), len(problem.validation)],
        "versions": {name: version(name) for name in _VERSIONS},
    }
    fingerprint = xxhash.xxh3_128(json.dumps(facts).encode())
    for file in _CODE:
        fingerprint.update(Path(file).read_bytes())
    for examples in (problem.training, problem.validation):
        for array in (examples.digests, examples.labels):
            fingerprint.update(np.ascontiguousarray(array).data)
    return fingerprint.hexdigest()
