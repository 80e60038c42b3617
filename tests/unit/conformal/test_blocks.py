"""Every row is worked on once, and an error in any block is heard."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.conformal import blocks
from app.conformal.blocks import Work, by_blocks


@given(rows=st.integers(0, 50), columns=st.integers(0, 40), size=st.integers(1, 100))
def test_every_row_once(rows: int, columns: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_BLOCK", size)
        seen = np.zeros(rows, int)

        def worker(most: int) -> Work:
            def work(part: slice) -> None:
                assert 0 < part.stop - part.start <= most
                seen[part] += 1

            return work

        by_blocks(worker, rows, columns)
    assert (seen == 1).all()


@pytest.mark.parametrize("processors", [1, 4])
def test_an_error_in_one_block_is_raised(processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", 1)
    monkeypatch.setattr(blocks, "_processors", lambda: processors)

    def work(part: slice) -> None:
        if part.start == 7:
            raise ValueError("seven")

    with pytest.raises(ValueError, match="seven"):
        by_blocks(lambda _: work, 10, 1)
