"""Heat maps: the gradient is right, and the heat is where the evidence is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.conformal.spaces import JOINT
from app.vision.backbones import EMBEDDED, as_backbone, find_weights
from app.vision.encoder import Encoder
from app.vision.explanations import gradient, heat
from app.vision.heads import Heads, Layer

CLASSES = {"colour": 4, "type": 3}
EVERY_CLASS = [(task, code) for task, count in CLASSES.items() for code in range(count)]


def drawn(inputs: int, width: int, seed: int = 0, size: float = 1.0) -> Heads:
    """Heads of random weights, linear where ``width`` is 0; ``size`` is that of their logits."""
    rng = np.random.default_rng(seed)

    def layer(n: int, m: int, scale: float) -> Layer:
        weight = rng.normal(size=(n, m)) * scale / np.sqrt(n)
        return weight.astype(np.float32), rng.normal(size=m).astype(np.float32)

    def layers(outputs: int) -> list[Layer]:
        if not width:
            return [layer(inputs, outputs, size)]
        return [layer(inputs, width, 2), layer(width, outputs, size)]

    return Heads(
        rng.normal(size=inputs).astype(np.float32),
        rng.uniform(0.5, 2, inputs).astype(np.float32),
        {
            "taskwise": {task: layers(count) for task, count in CLASSES.items()},
            JOINT: {JOINT: layers(12)},
        },
        CLASSES,
        {"taskwise": {"colour": 0.7, "type": 1.8}, JOINT: {JOINT: 1.3}},
    )


def log_share(
    heads: Heads, features: torch.Tensor, head: str, task: str, code: int
) -> torch.Tensor:
    """The logarithm of a class's probability of features (d,), in torch and float64."""
    name = JOINT if head == JOINT else task
    x = (features.double() - torch.tensor(heads.mean)) / torch.tensor(heads.scale)
    for number, (weight, bias) in enumerate(heads.layers[head][name]):
        x = torch.relu(x) if number else x
        x = x @ torch.tensor(weight).double() + torch.tensor(bias)
    log_p = torch.log_softmax(x / heads.temperatures[head][name], 0)
    if head != JOINT:
        return log_p[code]
    axis = list(CLASSES).index(task)
    return log_p.reshape(*CLASSES.values()).select(axis, code).logsumexp(0)


@pytest.mark.parametrize("head", ["taskwise", JOINT])
@pytest.mark.parametrize("width", [0, 16])
@pytest.mark.parametrize("size", [1.0, 300.0])
def test_the_gradient_is_autograds_for_a_saturated_network_too(
    head: str, width: int, size: float
) -> None:
    heads = drawn(20, width, size=size)
    features = np.random.default_rng(1).normal(size=20).astype(np.float32)
    for task, code in EVERY_CLASS:
        leaf = torch.tensor(features).double().requires_grad_()
        log_share(heads, leaf, head, task, code).backward()
        assert leaf.grad is not None
        ours = gradient(heads, features, head, task, code)
        # Autograd takes a sure class's probability from 1, and so is off by the roundings of 1.
        np.testing.assert_allclose(ours, leaf.grad, rtol=1e-4, atol=1e-9 * size)


def test_a_map_that_left_half_precision_is_still_a_map() -> None:
    last = np.full((1, 2, 2), 1, np.float16)
    last[0, 0, 0] = np.inf
    found = heat(drawn(1, 0), np.ones(1, np.float32), last, "taskwise", "colour", 0)
    other = heat(drawn(1, 0), np.ones(1, np.float32), last, "taskwise", "colour", 1)
    assert np.isfinite(found).all() and np.isfinite(other).all()


@pytest.mark.parametrize("head", ["taskwise", JOINT])
@pytest.mark.parametrize("width", [0, 16])
def test_the_gradient_is_that_of_the_probabilities_that_are_served(head: str, width: int) -> None:
    """By finite differences of what ``Heads.probabilities`` gives."""
    heads = drawn(20, width)
    features = np.random.default_rng(2).normal(size=20).astype(np.float32)
    step = 1e-5 * np.eye(20)

    def log_p(x: np.ndarray, task: str, code: int) -> np.ndarray:
        return np.log(heads.probabilities(x, head, "taskwise")[task][:, code])

    for task, code in EVERY_CLASS:
        up, down = (log_p(features + turn * step, task, code) for turn in (1, -1))
        ours = gradient(heads, features, head, task, code)
        np.testing.assert_allclose(ours, (up - down) / 2e-5, rtol=1e-3, atol=1e-6)


def test_a_class_that_is_as_good_as_certain_keeps_its_heat() -> None:
    """In float64 its probability is 1, and 1 - 1 would leave nothing."""
    weight = np.array([[60, -60, -60, -60]], np.float32)
    heads = Heads(
        np.zeros(1, np.float32),
        np.ones(1, np.float32),
        {"taskwise": {"colour": [(weight, np.zeros(4, np.float32))]}},
        CLASSES,
        {"taskwise": {"colour": 1.0}},
    )
    features, last = np.ones(1, np.float32), np.array([[[4, 0], [0, 0]]], np.float32)
    assert heads.probabilities(features[None], "taskwise", "taskwise")["colour"][0, 0] == 1
    found = heat(heads, features, last, "taskwise", "colour", 0)
    assert found[0, 0] > 0 and found.sum() == found[0, 0]


def of_one_place(places: Mapping[int, tuple[int, int]]) -> np.ndarray:
    """A map (channels, 5, 6), each channel of which is bright in one place."""
    last = np.zeros((len(places), 5, 6), np.float32)
    for channel, place in places.items():
        last[channel][place] = 3
    return last


PLACES = st.tuples(st.integers(0, 4), st.integers(0, 5))


@given(st.lists(PLACES, min_size=4, max_size=4, unique=True), st.integers(0, 3))
def test_heat_sits_where_the_evidence_is(places: list[tuple[int, int]], code: int) -> None:
    """Each class has a channel of its own, which sees it in a place of its own."""
    last = of_one_place(dict(enumerate(places)))
    early = np.ones(2, np.float32)  # Features that have no place.
    features = np.concatenate([early, last.mean((1, 2))])
    weight = np.concatenate([np.ones((2, 4)), np.eye(4)]).astype(np.float32)
    heads = Heads(
        np.zeros(6, np.float32),
        np.ones(6, np.float32),
        {"taskwise": {"colour": [(weight, np.zeros(4, np.float32))]}},
        CLASSES,
        {"taskwise": {"colour": 1.0}},
    )
    found = heat(heads, features, last, "taskwise", "colour", code)
    assert found[places[code]] == found.max() > 0
    assert (found > 0).sum() == 1, "what speaks for other classes is not shown"


def test_heat_is_grad_cam_through_the_whole_network() -> None:
    """As torch's autograd finds it, through the embedded network to its last map."""
    weights = find_weights(EMBEDDED, Path(), Path())
    assert weights is not None
    encoder = Encoder(as_backbone(EMBEDDED, weights))
    encoder.network.net.conv_stem.weight.requires_grad_()  # Or nothing is traced.
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(256, (1, 224, 224, 3), generator=generator, dtype=torch.uint8)
    stages, last, pooled = encoder.network(encoder.normalise(picture))
    last.retain_grad()
    features = encoder._features(stages, pooled)
    seen = features.detach().numpy()[0], last.detach().numpy()[0]
    heads = drawn(encoder.dimensions, 8)
    for head in ("taskwise", JOINT):
        hot = 0
        for task, code in EVERY_CLASS:
            last.grad = None
            log_share(heads, features[0], head, task, code).backward(retain_graph=True)
            assert last.grad is not None
            alphas = last.grad[0].mean((1, 2), keepdim=True)
            signed = (alphas * last.detach()[0]).sum(0)
            found = heat(heads, *seen, head, task, code)
            near = 1e-4 * float(signed.abs().max())
            np.testing.assert_allclose(found, torch.relu(signed).numpy(), rtol=1e-3, atol=near)
            hot += found.max() > 0
        assert hot > 0
