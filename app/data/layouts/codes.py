"""Class names as text -> codes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Codes = NDArray[np.int64]


def _in_order(names: Iterable[str]) -> list[str]:
    """Class names sorted: as numbers if they all are, else as text."""
    ordered = sorted(names)
    try:
        numbers = {name: float(name) for name in ordered}
    except ValueError:
        return ordered
    return sorted(ordered, key=lambda n: (math.isnan(numbers[n]), numbers[n]))


def encode(values: pd.Series) -> tuple[list[str], Codes]:
    """Text -> class names in order, and codes (n,), -1 where the text is empty."""
    codes, found = pd.factorize(values)
    classes = _in_order(name for name in found if name)
    code = {name: i for i, name in enumerate(classes)}
    code_of_found = np.array([code.get(name, -1) for name in found], np.int64)
    return classes, code_of_found[codes]
