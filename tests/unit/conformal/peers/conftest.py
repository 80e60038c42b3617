"""The peers, each skipped with a reason where it is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

from app.pipeline.bench.libraries import let_torchcp_be_imported


def imported(package: str) -> ModuleType:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed (make peers installs it)")
    return import_module(package)


@pytest.fixture(scope="module")
def torchcp() -> Any:
    let_torchcp_be_imported()
    return imported("torchcp").classification


@pytest.fixture(scope="module")
def mapie() -> Any:
    imported("mapie")
    return import_module("mapie.classification")


@pytest.fixture(scope="module")
def crepes() -> Any:
    imported("crepes")
    import_module("crepes.extras")
    return import_module("crepes")


@pytest.fixture
def double() -> Iterator[None]:
    """Let what torch makes be float64 unless told otherwise."""
    import torch

    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
