"""Which of several processes of one training this is.

torchrun starts some on each machine, Lightning one for each GPU of this machine. Both number them.
"""

from __future__ import annotations

import os


def rank() -> int:
    """This process's number: the first, 0, narrates, writes, and goes on alone in the end."""
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


def by_torchrun() -> bool:
    """Whether torchrun started this process, and maybe others on other machines."""
    return "TORCHELASTIC_RUN_ID" in os.environ
