"""What the page and the API share: the bundle in service, and the way of a picture through it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from app.data.pictures import PictureError
from app.errors import SuresetError
from app.feedback import Feedback
from app.web.feedback import Watch
from app.web.meters import Meters
from app.web.room import Room
from app.web.served import IN_SERVICE, Choice, Served

if TYPE_CHECKING:
    from app.pipeline.predict import Classifier, Reading

#: Pictures that may wait or be worked on at once. More would wait for so long that it is better to
#: be told to come back.
MOST_AT_ONCE = 256


class NotReady(SuresetError):
    """No bundle is in service; the text says why."""


class Service:
    """Answers pictures with the bundle in service."""

    def __init__(self, served: Served, meters: Meters, feedback: Feedback | None = None) -> None:
        """``feedback`` is in the folder of its name, unless given."""
        self.served = served
        self.meters = meters
        self.watch = Watch(feedback or Feedback(Path("feedback")), served)
        meters.registry.register(self.watch)
        self.room = Room(MOST_AT_ONCE)
        meters.waiting.set_function(lambda: self.room.taken)
        # More would only take the processors from each other, and from the network.
        self._decoding = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decoding")

    def answering(self, choice: Choice) -> Classifier | None:
        """The one a page chose; without a choice that holds, the one in service, if there is one.

        The page finds out by itself that its choice holds no longer, and says so.
        """
        if choice.name is not None:
            with suppress(SuresetError):
                return self.served.named(choice.name)
        return self.served.current()

    def classifier(self, choice: Choice = IN_SERVICE) -> Classifier:
        """The one a page chose, or else the one in service.

        Raises:
            NotReady: there is none.
            SuresetError: the chosen one is there no longer, or damaged.
        """
        if choice.name is not None:
            return self.served.named(choice.name)
        classifier = self.served.current()
        if classifier is None:
            raise NotReady(self.served.problem or "")
        return classifier

    def read(
        self, classifier: Classifier, pictures: Sequence[Path | bytes]
    ) -> list[Reading | PictureError]:
        """Run the network, counted and timed; one that cannot be read gives its error instead.

        Raises:
            Busy: there is no room for so many.
        """
        started = time.perf_counter()
        with self.room.places(len(pictures)):
            readings = classifier.read(pictures)
        self.meters.read(readings, time.perf_counter() - started)
        return readings

    async def read_uploads(
        self, classifier: Classifier, uploads: Sequence[BinaryIO]
    ) -> list[Reading | PictureError]:
        """``read`` of open files, without a thread that waits."""
        loop = asyncio.get_running_loop()

        async def read(upload: BinaryIO) -> Reading | PictureError:
            submitted = await loop.run_in_executor(
                self._decoding, lambda: classifier.submit(upload.read())
            )
            if isinstance(submitted, PictureError):
                return submitted
            return await asyncio.wrap_future(submitted)

        started = time.perf_counter()
        with self.room.places(len(uploads)):
            readings = await asyncio.gather(*map(read, uploads))
        self.meters.read(readings, time.perf_counter() - started)
        return readings
