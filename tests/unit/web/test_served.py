"""The bundle in service, while bundles come, go and are damaged."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.errors import SuresetError
from app.web.meters import Meters
from app.web.served import Choice, Served
from app.web.service import Service
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


def test_another_bundle_is_loaded_once_and_by_name_only(models_dir: Path, loader: Loader) -> None:
    write_fake_bundle(models_dir, "second")
    served = Served(models_dir, load=loader)
    assert serving(served) == "second"
    assert served.names() == ["first", "second"]
    assert served.named("second") is served.current(), "the one in service is at hand"
    assert served.loaded("first") is None
    first = served.named("first")
    assert first.path.name == "first" and served.named("first") is first is served.loaded("first")
    assert loader.loaded == ["second", "first"]
    assert serving(served) == "second", "others keep the one in service"
    for name in ("latest", "../second", "", ".", "first/", "first/../second", str(first.path)):
        with pytest.raises(SuresetError, match=r"no bundle .* any more"):
            served.named(name)
        assert served.report(name) is None


def test_few_others_are_kept_and_the_one_used_last_longest(
    models_dir: Path, loader: Loader
) -> None:
    served = Served(models_dir, "first", load=loader)
    for name in ("a", "b", "c"):
        write_fake_bundle(models_dir, name)
    for name in ("a", "b", "a", "c"):
        served.named(name)
    assert [served.loaded(name) is not None for name in ("a", "b", "c")] == [True, False, True]
    assert loader.loaded == ["a", "b", "c"]


def test_a_replaced_bundle_is_loaded_again(models_dir: Path, loader: Loader) -> None:
    write_fake_bundle(models_dir, "second")
    served = Served(models_dir, load=loader)
    served.named("first")
    shutil.rmtree(models_dir / "first")
    with pytest.raises(SuresetError, match="there is no bundle first any more"):
        served.named("first")
    assert served.loaded("first") is None
    write_fake_bundle(models_dir, "first")
    assert served.named("first") is served.named("first")
    assert loader.loaded.count("first") == 2


def test_a_damaged_bundle_is_refused_in_its_sentence(models_dir: Path, loader: Loader) -> None:
    write_fake_bundle(models_dir, "second")
    served = Served(models_dir, load=loader)
    loader.damaged.add("first")
    with pytest.raises(SuresetError, match="the bundle first is damaged"):
        served.named("first")
    assert serving(served) == "second" and served.problem is None
    write_fake_bundle(models_dir, "third")
    loader.damaged.add("third")
    assert serving(served) == "second"
    with pytest.raises(SuresetError, match="the bundle third is damaged"):
        served.named("third")


def test_many_who_choose_the_same_bundle_wait_for_one_load(
    models_dir: Path, loader: Loader
) -> None:
    write_fake_bundle(models_dir, "second")
    served = Served(models_dir, load=loader)
    assert serving(served) == "second"
    loader.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(served.named, "first") for _ in range(4)]
        while loader.loaded[-1] != "first":
            pass
        assert served.named("second") is served.current(), "nobody else waits"
        loader.gate.set()
        assert len({id(future.result(10)) for future in asked}) == 1
    assert loader.loaded == ["second", "first"]


def test_a_service_answers_a_page_by_its_choice(models_dir: Path, loader: Loader) -> None:
    write_fake_bundle(models_dir, "second")
    service = Service(Served(models_dir, load=loader), Meters())
    assert service.classifier().path.name == "second"
    assert service.classifier(Choice("first")).path.name == "first"
    shutil.rmtree(models_dir / "first")
    with pytest.raises(SuresetError, match="any more"):
        service.classifier(Choice("first"))
    fallen = service.answering(Choice("first"))
    assert fallen is not None and fallen.path.name == "second"
