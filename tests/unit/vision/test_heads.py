"""Heads fitted by Lightning and run by NumPy are the same heads, and worth having."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from app.conformal.spaces import JOINT, joint_labels
from app.conformal.temperature import fit_temperature
from app.vision.candidates import CANDIDATES, THESIS, Candidate, Search, search_for
from app.vision.fitting import checkpoints_of, fit_heads
from app.vision.heads import Heads, joint_is_feasible
from app.vision.softmaxes import Softmaxes, joint_loss, network

CLASSES = {"colour": 4, "type": 3}


def draw(n: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Features in which both attributes are linearly visible, through noise."""
    rng = np.random.default_rng([7, seed])
    labels = {task: rng.integers(0, count, n) for task, count in CLASSES.items()}
    directions = np.random.default_rng(0).normal(size=(7, 20))
    x = directions[labels["colour"]] + directions[4 + labels["type"]]
    return (3 + 2 * (x + rng.normal(size=x.shape) * 1.5)).astype(np.float32), labels


SEARCH = replace(search_for("stages", 1000.0), epochs=25)


def fit(training, validation, seed: int, folder: Path, search: Search = SEARCH) -> Heads:
    return fit_and_tell(training, validation, seed, folder, search)[0]


def fit_and_tell(training, validation, seed: int, folder: Path, search: Search):
    problem = training, validation, CLASSES, seed, search
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


@pytest.mark.parametrize("width", [0, 8])
def test_numpy_is_torch(heads: Heads, width: int) -> None:
    features, _ = draw(20, 5)
    generator = torch.Generator().manual_seed(0)
    torch_s = network(20, torch.randn(12), Candidate(1e-3, 0, width), generator)
    torch.nn.init.normal_(torch_s[-1].weight, generator=generator)
    linear = [layer for layer in torch_s if isinstance(layer, torch.nn.Linear)]
    layers = [(n.weight.detach().numpy().T.copy(), n.bias.detach().numpy()) for n in linear]
    ours = replace(heads, layers={JOINT: {JOINT: layers}})
    expected = torch_s(torch.from_numpy(heads.standardise(features))).detach().numpy()
    np.testing.assert_allclose(ours.logits(features, JOINT)[JOINT], expected, atol=1e-4)


def test_saved_and_loaded(heads: Heads, tmp_path: Path) -> None:
    heads.save(tmp_path / "h.safetensors")
    loaded = Heads.load(tmp_path / "h.safetensors", heads.classes, heads.temperatures)
    features, _ = draw(20, 6)
    for head in ("taskwise", JOINT):
        first = heads.probabilities(features, head, "joint")[JOINT]
        assert (loaded.probabilities(features, head, "joint")[JOINT] == first).all()


def test_the_same_seed_gives_the_same_heads(tmp_path: Path) -> None:
    a, b = (fit(draw(300, 1), draw(100, 2), 3, tmp_path / n) for n in "ab")
    features, _ = draw(20, 6)
    assert (a.logits(features, JOINT)[JOINT] == b.logits(features, JOINT)[JOINT]).all()
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
    logits = torch.randn(3, 12, generator=torch.manual_seed(0))
    p = torch.softmax(logits, 1).reshape(3, 4, 3)
    labels = torch.tensor([[1, 2], [3, -1], [-1, -1]])
    expected = -(p[0, 1, 2].log() + p[1, 3].sum().log())
    assert joint_loss(logits, labels, CLASSES).item() == pytest.approx(expected.item(), rel=1e-5)


def test_before_any_feature_classes_are_as_frequent_as_they_are() -> None:
    labels = torch.tensor([[0, 0]] * 5 + [[1, -1]] * 2 + [[-1, 2]])
    for kind, expected in (
        ("taskwise", [6 / 11, 3 / 11, 1 / 11, 1 / 11]),
        (JOINT, np.outer([6, 3, 1, 1], [6, 1, 2]).ravel() / 99),
    ):
        head = Softmaxes(kind, 5, CLASSES, labels, CANDIDATES, 0)
        for candidate in head.networks[0].children():
            logits = candidate(torch.zeros(1, 5))
            np.testing.assert_allclose(torch.softmax(logits, 1)[0].detach(), expected, rtol=1e-5)


def test_biases_do_not_decay() -> None:
    head = Softmaxes("taskwise", 5, CLASSES, torch.zeros(4, 2, dtype=torch.int64), CANDIDATES, 0)
    for group in head.configure_optimizers().param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}


BAD_AND_GOOD = (Candidate(rate=1e-6, decay=0.0), Candidate(rate=3e-3, decay=0.5))


def test_the_candidate_of_least_validation_loss_is_chosen(tmp_path: Path) -> None:
    problem = draw(300, 1), draw(100, 2)
    heads, told = fit_and_tell(*problem, 0, tmp_path, Search(BAD_AND_GOOD, 1000.0, epochs=12))
    alone = fit(*problem, 0, tmp_path, Search(BAD_AND_GOOD[1:], 0.0, epochs=12))
    features, _ = draw(20, 3)
    for kind, names in (("taskwise", list(CLASSES)), (JOINT, [JOINT])):
        assert list(told[kind]) == names
        for name in names:
            bad, good = (one["valid_loss"] for one in told[kind][name]["tried"])
            assert told[kind][name]["chosen"] == 1 and good < bad
            # Side by side, neither touches the other.
            ours, theirs = (h.logits(features, kind)[name] for h in (heads, alone))
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert not told["cut"]


def test_a_search_out_of_time_goes_on_with_what_leads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = draw(300, 1), draw(100, 2)
    _, told = fit_and_tell(*problem, 0, tmp_path, Search(BAD_AND_GOOD, 1e-9, epochs=12))
    assert told["cut"] and told[JOINT][JOINT]["chosen"] == 1
    assert capsys.readouterr().err.count("cut by its time") == 1


def test_no_search_fits_one_default_and_is_not_cut(tmp_path: Path) -> None:
    search = replace(search_for("stages", 0), epochs=3)
    _, told = fit_and_tell(draw(100, 1), draw(50, 2), 0, tmp_path, search)
    assert len(told["taskwise"]["colour"]["tried"]) == 1 and not told["cut"]
    assert search_for("stages", 1).candidates[0] == search.candidates[0]
    assert search_for("thesis", 60) == search_for("thesis", 0) == THESIS


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
