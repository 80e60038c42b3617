"""A served fake bundle, and the application around it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.web.api import api
from app.web.meters import Meters
from app.web.served import Served
from app.web.service import Service
from tests.unit.web.fake import load_fake, write_fake_bundle


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    write_fake_bundle(tmp_path, "first")
    return tmp_path


@pytest.fixture
def served(models_dir: Path) -> Served:
    return Served(models_dir, load=load_fake)


@pytest.fixture
def client(served: Served) -> Iterator[TestClient]:
    with TestClient(api(Service(served, Meters())), raise_server_exceptions=False) as client:
        yield client
