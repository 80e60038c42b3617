"""Every setting, once: its name, type, default and meaning.

A setting ``alpha`` is the flag ``--alpha``, the variable ``ALPHA`` (of the environment or of
``.env``) and the key ``alpha`` of a YAML file given by ``--config``. A folder such as ``data_dir``
drops its ``_dir`` as a flag, ``--data``, and seconds such as ``search_s`` their ``_s``. The nearest
word wins: flag, environment, ``.env``, YAML, default. An empty variable counts as unset.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from app.errors import SuresetError

#: The folder that may be given a sample set when it is empty; a folder the user names may not.
DEFAULT_DATA_DIR = Path("data")

#: Pictures of a sample set, unless told.
SAMPLE_SIZE = 2400

Finetune = Literal["last", "all"]
Head = Literal["taskwise", "joint"]
Space = Literal["taskwise", "joint"]
Score = Literal["hinge", "margin", "pip", "aps", "raps", "saps"]
Taxonomy = Literal["global", "task", "class", "cluster", "task_cluster"]

#: Published data sets, by the names of their layouts.
Dataset = Literal["sgvehicle", "utkface"]

#: In the place of a method's part: choose it on the validation split.
AUTO = "auto"
#: The settings that together are a method.
METHOD = ("head", "space", "score", "taxonomy")


class Settings(BaseSettings):
    """What the commands can be told. The descriptions are the command line's help."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    data_dir: Path = Field(DEFAULT_DATA_DIR, description="folder of labelled pictures")
    models_dir: Path = Field(Path("models"), description="folder of bundles")
    cache_dir: Path = Field(
        Path("cache"), description="weights, features and checkpoints of training, safe to delete"
    )
    logs_dir: Path = Field(Path("lightning_logs"), description="training logs")
    static_dir: Path = Field(
        Path("static"), description="web assets, and the catalogues of weights and data sets"
    )
    # Compose's name for the folder of the host is that of the same folder in a local run.
    wandb_dir: Path = Field(
        Path("wandb"),
        validation_alias=AliasChoices("wandb_dir", "wandb_dir_host"),
        description="files of Weights & Biases (W&B)",
    )

    layout: Literal["auto", "csv", "thesis", "folders", "sgvehicle", "utkface"] = Field(
        "auto", description="how the folder names its labels; found out unless given"
    )
    dataset: Dataset | None = Field(
        None,
        description="published data set that prefetch brings into an empty data folder, "
        "instead of the sample set",
    )
    sample_size: int | None = Field(
        None,
        ge=0,
        description="pictures of the sample set that prefetch writes into an empty data folder "
        f"(default: {SAMPLE_SIZE} when --data is not given, else none)",
    )
    backbone: str = Field(
        "resnet50",
        description="pretrained network the features come from, by torchvision's or timm's name",
    )
    weights: Path | None = Field(
        None,
        description="local file of the backbone's weights, safetensors or a state dict "
        "(default: the published ones)",
    )
    recipe: Literal["stages", "thesis"] = Field(
        "stages",
        description="features and heads: of every stage of the backbone, with heads that are "
        "searched for; or as the thesis had them, of the last layer, with its heads",
    )
    views: int = Field(
        0, ge=0, le=100, description="random views of each training picture to learn from as well"
    )
    search_s: float = Field(
        60,
        ge=0,
        description="seconds the search for the heads' learning rate, weight decay and width may "
        "take; 0 fits one default",
    )
    runtime: Literal["auto", "openvino", "torch"] = Field(
        "auto", description="what runs the network: auto is torch on a GPU, else openvino"
    )
    precision: Literal["auto", "bf16", "f32", "int8"] = Field(
        "auto", description="what the network computes in: auto is the fastest floating point here"
    )
    finetune: Finetune | None = Field(
        None,
        description="train the backbone on the pictures first: its last stage, or all of it "
        "(default: leave it as it is)",
    )
    model: str = Field("latest", description="bundle: a name under --models, or a path")
    save_as: str | None = Field(None, description="name of the new bundle (default: the time)")

    alpha: float = Field(0.1, gt=0, lt=1, description="accepted error rate")
    head: Literal[Head, "auto"] = Field(
        "taskwise", description="one softmax a task, or one over all combinations; or auto"
    )
    space: Literal[Space, "auto"] = Field(
        "taskwise", description="label space that is calibrated; or auto"
    )
    score: Literal[Score, "auto"] = Field("hinge", description="nonconformity score; or auto")
    taxonomy: Literal[Taxonomy, "auto"] = Field(
        "task", description="which scores share one threshold; or auto"
    )
    seed: int = Field(
        0, ge=0, lt=2**32, description="seed of the sample set, splits, fitting and clustering"
    )
    repeats: int = Field(
        5, ge=2, description="random divisions of the held-out pictures that experiments makes"
    )
    alphas: str = Field(
        "0.05,0.1,0.2", description="error rates that experiments compares at, by commas"
    )

    wandb_key_file: Path | None = Field(
        None, description="file that holds a W&B key; without one, runs stay in --wandb"
    )
    wandb_project: str = Field(
        "sureset", pattern=r"^[^/\\#?%:]{1,128}$", description="W&B project of the runs"
    )
    wandb_entity: str | None = Field(
        None, description="W&B user or team of the runs (default: the key's)"
    )
    wandb_base_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description="address of a W&B server of your own (default: W&B's)",
    )

    address: str = Field("127.0.0.1", description="address the server listens on")
    port: int = Field(7860, ge=0, le=65535, description="port the server listens on")
    root_path: str = Field(
        "", pattern=r"^(/[A-Za-z0-9._~-]+)*$", description="path a proxy shows the server under"
    )
    trusted_proxies: str = Field(
        "127.0.0.1",
        description="addresses or networks of proxies that are believed who asks, by commas; or *",
    )
    access_file: Path | None = Field(
        None,
        description="file of who may ask, lines as `access` prints them (default: all who can)",
    )
    feedback_dir: Path = Field(Path("feedback"), description="what people say the true classes are")
    keep_pictures: bool = Field(
        False,
        description="keep the pictures of feedback too, not only what the network saw in them",
    )
    log: Literal["json", "off"] = Field(
        "json", description="the server's line of JSON for each request, or none"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources; ``config`` reaches the YAML source through the initial values."""
        flags = init_settings()
        config = flags.pop("config", None)
        from_yaml = YamlConfigSettingsSource(settings_cls, yaml_file=config)
        return init_settings, env_settings, dotenv_settings, from_yaml

    def given(self, name: str) -> Any:
        """The value of a setting if somebody set it, None if it is only the default."""
        return getattr(self, name) if name in self.model_fields_set else None


def flag_name(field: str) -> str:
    """The flag of a setting: ``data_dir`` -> ``--data``, ``sample_size`` -> ``--sample-size``."""
    return "--" + field.removesuffix("_dir").removesuffix("_s").replace("_", "-")


def load_settings(config: Path | None = None, **flags: Any) -> Settings:
    """Read all sources; ``flags`` that are None were not given.

    Raises:
        SuresetError: a value is out of its range, or the YAML file is missing or malformed.
    """
    if config is not None:
        _check_config(config)
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings.model_validate({"config": config, **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise SuresetError(
            f"setting {name} ({flag_name(name)}) cannot be {first['input']!r}: {first['msg']}."
        ) from error


def _check_config(config: Path) -> None:
    """A misspelt key would be a setting that silently does not apply."""
    if not config.is_file():
        raise SuresetError(f"there is no configuration file {config}: check --config.")
    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SuresetError(f"{config} is not YAML: mend it, or leave --config out.") from error
    unknown = set(values) - set(Settings.model_fields) if isinstance(values, dict) else {"it"}
    if unknown:
        raise SuresetError(
            f"there is no setting {', '.join(sorted(map(str, unknown)))} as in {config}: "
            f"there are {', '.join(Settings.model_fields)}."
        )
