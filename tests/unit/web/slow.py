"""The command ``serve`` with a fake bundle whose pictures take their time.

    python -m tests.unit.web.slow SECONDS serve --models …

says ``reading`` on standard error whenever a picture begins to be read. With SECONDS below 0 it
takes none, and says nothing.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from app import cli
from app.web import server
from app.web.served import Served
from tests.unit.web.fake import FakeClassifier


class SlowClassifier(FakeClassifier):
    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__(path)
        self.seconds = seconds

    def submit(self, picture: Path | bytes) -> Any:
        read = super().submit(picture)
        if self.seconds < 0:
            return read
        # In one piece: print writes the end of the line on its own, and other threads in between.
        os.write(sys.stderr.fileno(), b"reading\n")
        result: Future[Any] = Future()
        timer = threading.Timer(self.seconds, lambda: result.set_result(read.result()))
        timer.daemon = True
        timer.start()
        return result


def _load(models_dir: Path, model: str, seconds: float) -> Any:
    return SlowClassifier((models_dir / model).resolve(), seconds)


if __name__ == "__main__":
    load = partial(_load, seconds=float(sys.argv.pop(1)))
    server.Served = partial(Served, load=load)  # type: ignore[misc,assignment]
    cli.main()
