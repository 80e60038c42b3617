"""Heads fitted by Lightning and run by NumPy are the same heads, and worth having."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from app.conformal.spaces import JOINT, joint_labels
from app.conformal.temperature import fit_temperature
from app.vision.fitting import Head, checkpoints_of, fit_heads
from app.vision.heads import Heads, joint_is_feasible

CLASSES = {"colour": 4, "type": 3}


def draw(n: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Features in which both attributes are linearly visible, through noise."""
    rng = np.random.default_rng([7, seed])
    labels = {task: rng.integers(0, count, n) for task, count in CLASSES.items()}
    directions = np.random.default_rng(0).normal(size=(7, 20))
    x = directions[labels["colour"]] + directions[4 + labels["type"]]
    return (3 + 2 * (x + rng.normal(size=x.shape) * 1.5)).astype(np.float32), labels


def fit(training, validation, seed: int, folder: Path) -> Heads:
    problem = training, validation, CLASSES, seed
    return fit_heads(*problem, folder / "logs", checkpoints_of(*problem, folder / "cache"))


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Heads:
    return fit(draw(800, 1), draw(200, 2), 0, tmp_path_factory.mktemp("heads"))


@pytest.mark.parametrize("kind", ["taskwise", "joint"])
def test_accuracy_is_that_of_logistic_regression(heads: Heads, kind: str) -> None:
    features, labels = draw(4000, 3)
    probs = heads.probabilities(features, kind, "taskwise")
    x, y = draw(800, 1)
    for task in CLASSES:
        rival = LogisticRegression(max_iter=1000).fit(heads.standardise(x), y[task])
        ours = (probs[task].argmax(axis=1) == labels[task]).mean()
        assert ours > rival.score(heads.standardise(features), labels[task]) - 0.02


@pytest.mark.parametrize("head", ["taskwise", "joint"])
@pytest.mark.parametrize("space", ["taskwise", "joint"])
def test_every_space_has_probabilities(heads: Heads, head: str, space: str) -> None:
    features, _ = draw(50, 4)
    probs = heads.probabilities(features, head, space)
    shapes = {name: p.shape for name, p in probs.items()}
    assert shapes == ({JOINT: (50, 12)} if space == JOINT else {"colour": (50, 4), "type": (50, 3)})
    for p in probs.values():
        assert p.dtype == np.float64
        np.testing.assert_allclose(p.sum(axis=1), 1)


def test_numpy_is_torch(heads: Heads) -> None:
    features, _ = draw(20, 5)
    head = Head(20, CLASSES, JOINT)
    head.linear.weight.data = torch.from_numpy(heads.weights[JOINT].T.copy())
    head.linear.bias.data = torch.from_numpy(heads.biases[JOINT])
    expected = head.linear(torch.from_numpy(heads.standardise(features))).detach().numpy()
    np.testing.assert_allclose(heads.logits(features, JOINT)[JOINT], expected, atol=1e-4)


def test_saved_and_loaded(heads: Heads, tmp_path: Path) -> None:
    heads.save(tmp_path / "h.safetensors")
    loaded = Heads.load(tmp_path / "h.safetensors", heads.classes, heads.temperatures)
    features, _ = draw(20, 6)
    for head in ("taskwise", JOINT):
        first = heads.probabilities(features, head, "joint")[JOINT]
        assert (loaded.probabilities(features, head, "joint")[JOINT] == first).all()


def test_the_same_seed_gives_the_same_heads(tmp_path: Path) -> None:
    a, b = (fit(draw(300, 1), draw(100, 2), 3, tmp_path / n) for n in "ab")
    assert (a.weights[JOINT] == b.weights[JOINT]).all()
    assert a.temperatures == b.temperatures


def test_unknown_labels_teach_what_is_known(tmp_path: Path) -> None:
    features, labels = draw(800, 1)
    labels["type"][::2] = -1
    labels["colour"][1::2] = -1
    heads = fit((features, labels), draw(300, 2), 0, tmp_path)
    new, truth = draw(2000, 3)
    for kind in ("taskwise", JOINT):
        probs = heads.probabilities(new, kind, "taskwise")
        for task, chance in (("colour", 1 / 4), ("type", 1 / 3)):
            assert (probs[task].argmax(axis=1) == truth[task]).mean() > chance + 0.25


def test_joint_loss_sums_over_the_unknown() -> None:
    head = Head(2, CLASSES, JOINT)
    head.linear.weight.data = torch.randn(12, 2, generator=torch.manual_seed(0))
    x = torch.randn(3, 2)
    p = torch.softmax(head.linear(x), 1).reshape(3, 4, 3)
    labels = torch.tensor([[1, 2], [3, -1], [-1, -1]])
    expected = -(p[0, 1, 2].log() + p[1, 3].sum().log()) / 2
    assert head.loss(x, labels).item() == pytest.approx(expected.item(), rel=1e-5)


def test_no_joint_head_for_too_many_combinations() -> None:
    assert joint_is_feasible({"a": 40, "b": 50})
    assert not joint_is_feasible({"a": 41, "b": 50})


@pytest.mark.parametrize("kind", ["taskwise", "joint"])
def test_temperatures_are_those_of_the_validation_pictures(heads: Heads, kind: str) -> None:
    for seed, same in ((2, True), (3, False)):  # the ones given as validation, and others
        features, labels = draw(200, seed)
        truths = {JOINT: joint_labels(labels, CLASSES)} if kind == JOINT else labels
        for name, logits in heads.logits(features, kind).items():
            fitted = fit_temperature(logits, truths[name])
            assert (fitted == heads.temperatures[kind][name]) == same
