"""One schema, four spellings, the nearest wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from app.conformal import SCORES, TAXONOMIES
from app.errors import SuresetError
from app.settings import Score, Settings, Taxonomy, flag_name, load_settings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no setting in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("WANDB_DIR_HOST", raising=False)
    return tmp_path


def test_the_nearest_word_wins(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "c.yaml").write_text("alpha: 0.4\n")
    assert load_settings().alpha == 0.1
    assert load_settings(Path("c.yaml")).alpha == 0.4
    (elsewhere / ".env").write_text("ALPHA=0.3\nIMAGE_TAG=other:1\n")
    assert load_settings(Path("c.yaml")).alpha == 0.3
    monkeypatch.setenv("ALPHA", "0.2")
    assert load_settings(Path("c.yaml")).alpha == 0.2
    assert load_settings(Path("c.yaml"), alpha="0.25").alpha == 0.25


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKBONE", "")
    assert load_settings().backbone == "resnet50"
    assert load_settings().given("backbone") is None


def test_given_tells_a_choice_from_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORE", "hinge")
    assert load_settings().given("score") == "hinge"
    assert load_settings().given("taxonomy") is None
    assert load_settings(taxonomy="task").given("taxonomy") == "task"


def test_the_folder_of_wandb_goes_by_composes_name_too(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings().wandb_dir == Path("wandb")
    (elsewhere / "c.yaml").write_text("wandb_dir: of-yaml\n")
    assert load_settings(Path("c.yaml")).wandb_dir == Path("of-yaml")
    (elsewhere / ".env").write_text("WANDB_DIR_HOST=of-env-file\n")
    assert load_settings(Path("c.yaml")).wandb_dir == Path("of-env-file")
    monkeypatch.setenv("WANDB_DIR_HOST", "of-environment")
    assert load_settings().wandb_dir == Path("of-environment")
    assert load_settings(wandb_dir="of-flag").wandb_dir == Path("of-flag")
    assert load_settings(wandb_dir="of-flag").given("wandb_dir") == Path("of-flag")


def test_where_runs_of_wandb_go(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().wandb_project == "sureset"
    assert load_settings().wandb_key_file is None
    monkeypatch.setenv("WANDB_KEY_FILE", "/run/secrets/wandb")
    monkeypatch.setenv("WANDB_ENTITY", "")
    assert load_settings().wandb_key_file == Path("/run/secrets/wandb")
    assert load_settings().wandb_entity is None


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"alpha": "0"}, "alpha .--alpha. cannot be '0'"),
        ({"alpha": "much"}, "--alpha"),
        ({"score": "softmax"}, "--score.*'hinge'"),
        ({"port": "70000"}, "--port"),
        ({"wandb_base_url": "wandb.example.org"}, "--wandb-base-url"),
        ({"wandb_project": "me/mine"}, "--wandb-project"),
    ],
)
def test_bad_values_are_one_sentence(flags: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SuresetError, match=sentence):
        load_settings(None, **flags)


def test_bad_files_are_one_sentence(elsewhere: Path) -> None:
    with pytest.raises(SuresetError, match=r"no configuration file none\.yaml"):
        load_settings(Path("none.yaml"))
    (elsewhere / "c.yaml").write_text("alpah: 0.4\n")
    with pytest.raises(SuresetError, match=r"alpah.*c\.yaml"):
        load_settings(Path("c.yaml"))
    (elsewhere / "c.yaml").write_text("alpha: [")
    with pytest.raises(SuresetError, match=r"c\.yaml is not YAML"):
        load_settings(Path("c.yaml"))


def test_flags_are_the_settings_names() -> None:
    assert flag_name("data_dir") == "--data"
    assert flag_name("sample_size") == "--sample-size"


def test_choices_are_those_of_the_conformal_room() -> None:
    assert set(get_args(Score)) == set(SCORES)
    assert set(get_args(Taxonomy)) == set(TAXONOMIES)
