"""A heat map over the square that the network saw, as a small picture for the page.

Where the heat is, the picture has the heat's colour; elsewhere it is grey and dim. Brightness says
the same as colour does, so it can be read without telling colours.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Twice what it has on the page, for screens that have twice the dots.
_SIDE = 148
#: How bright the picture is where there is no heat, and how much of it is hidden where it is most.
_DIM, _HIDING = 0.5, 0.75

#: Inferno (Smith and van der Walt 2015), whose lightness rises evenly: red, green and blue at
#: 0, 0.25, 0.5, 0.75 and 1.
_INFERNO = np.array(
    [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], np.float64
)


def over(picture: NDArray[np.uint8], heat: NDArray[np.float64]) -> str | None:
    """A ``data:`` address of the picture (s, s, 3) under its heat (h, w); None without any heat."""
    most = heat.max()
    if not most > 0:
        return None
    square = Image.fromarray(picture).convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    grey = _DIM * np.asarray(square, np.float64)[..., None]
    places = Image.fromarray((heat / most).astype(np.float32))
    # Each place is a part of the picture, so they are smoothed and not stretched.
    spread = places.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    share = np.asarray(spread, np.float64).clip(0, 1)
    stops = np.linspace(0, 1, len(_INFERNO))
    colour = np.stack([np.interp(share, stops, channel) for channel in _INFERNO.T], axis=-1)
    hidden = _HIDING * np.sqrt(share)[..., None]
    drawn = Image.fromarray((grey * (1 - hidden) + colour * hidden).astype(np.uint8))
    buffer = io.BytesIO()
    drawn.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
