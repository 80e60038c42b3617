"""Catalogues: YAML files in the folder static that tell where things are published."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from app.errors import SuresetError

#: The form of an address in a catalogue.
ADDRESS = r"^https?://\S+$"

Entries = TypeVar("Entries")


def read_catalogue(file: Path, form: TypeAdapter[Entries], of: str, todo: str) -> Entries:
    """Read a catalogue.

    Args:
        file: a YAML file.
        form: what it has to look like.
        of: what it is a catalogue of.
        todo: what to give each of its entries.

    Raises:
        SuresetError: it is missing or malformed.
    """
    try:
        return form.validate_python(yaml.safe_load(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise SuresetError(
            f"there is no {file}: point --static at the folder static of the repository."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SuresetError(f"{file} is not YAML: mend it.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = " ".join(str(part) for part in first["loc"] if part != "[key]") or "it"
        raise SuresetError(
            f"{file} is no catalogue of {of} ({where}: {first['msg']}): {todo}."
        ) from error
