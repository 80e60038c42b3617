"""The bundle in service, while bundles come, go and are damaged."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.errors import SuresetError
from app.web.served import Served
from tests.unit.web.fake import load_fake, write_fake_bundle


class Loader:
    """``load_fake`` that counts, waits at ``gate`` and finds the bundles in ``damaged`` damaged."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.damaged: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, models_dir: Path, model: str) -> Any:
        name = (models_dir / model).resolve().name
        self.loaded.append(name)
        assert self.gate.wait(10)
        if name in self.damaged:
            raise SuresetError(f"the bundle {name} is damaged: train again.")
        return load_fake(models_dir, model)


@pytest.fixture
def loader() -> Loader:
    return Loader()


def serving(served: Served) -> str | None:
    classifier = served.current()
    return None if classifier is None else classifier.path.name


def test_without_a_bundle_it_says_how_to_make_one(tmp_path: Path, loader: Loader) -> None:
    served = Served(tmp_path, load=loader)
    assert serving(served) is None
    assert served.problem is not None and "make train" in served.problem
    assert loader.loaded == []


def test_the_first_bundle_appears_while_serving(tmp_path: Path, loader: Loader) -> None:
    served = Served(tmp_path, load=loader)
    assert serving(served) is None
    write_fake_bundle(tmp_path, "first")
    assert serving(served) == "first"
    assert served.problem is None


def test_a_bundle_is_loaded_once_however_many_ask(models_dir: Path, loader: Loader) -> None:
    served = Served(models_dir, load=loader)
    loader.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(serving, served) for _ in range(8)]
        loader.gate.set()
        assert {future.result() for future in asked} == {"first"}
    assert serving(served) == "first"
    assert loader.loaded == ["first"]


def test_the_old_bundle_answers_while_the_new_one_loads(models_dir: Path, loader: Loader) -> None:
    served = Served(models_dir, load=loader)
    assert serving(served) == "first"
    write_fake_bundle(models_dir, "second")
    loader.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(serving, served)
        while loader.loaded[-1] != "second":
            pass
        assert serving(served) == "first"
        loader.gate.set()
        assert loading.result(10) == "second"
    assert serving(served) == "second"
    assert loader.loaded == ["first", "second"]


def test_a_damaged_bundle_leaves_the_old_one_in_service(models_dir: Path, loader: Loader) -> None:
    served = Served(models_dir, load=loader)
    assert serving(served) == "first"
    loader.damaged.add("second")
    write_fake_bundle(models_dir, "second")
    for _ in range(3):
        assert serving(served) == "first"
    assert served.problem == "the bundle second is damaged: train again."
    assert loader.loaded == ["first", "second"], "a damaged bundle is tried once"
    write_fake_bundle(models_dir, "third")
    assert serving(served) == "third"
    assert served.problem is None


def test_a_deleted_bundle_stays_in_service(models_dir: Path, loader: Loader) -> None:
    served = Served(models_dir, load=loader)
    assert serving(served) == "first"
    shutil.rmtree(models_dir)
    assert serving(served) == "first"
    assert served.problem is None


def test_one_named_bundle_is_not_exchanged(models_dir: Path, loader: Loader) -> None:
    served = Served(models_dir, "first", load=loader)
    assert serving(served) == "first"
    write_fake_bundle(models_dir, "second")
    assert serving(served) == "first"
    assert loader.loaded == ["first"]
