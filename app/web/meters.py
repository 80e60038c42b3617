"""What the server counts about itself, in the form Prometheus reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from app.web.cards import UNUSUAL

if TYPE_CHECKING:
    from app.data.pictures import PictureError
    from app.pipeline.predict import Reading

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_CLASSES = (0, 1, 2, 3, 4, 5, 7, 10, 15, 20, 50, 100)


class Meters:
    """One registry a server, so that two servers in one process keep their counts apart."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sureset_requests", "HTTP API requests", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "sureset_request_seconds",
            "Time from a request's first byte to its answer's last",
            ["path"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.pictures = Counter(
            "sureset_pictures",
            "Pictures put through the network, by API and page",
            ["result"],
            registry=self.registry,
        )
        self.reading_seconds = Histogram(
            "sureset_reading_seconds",
            "Time one request's pictures took to be decoded, wait for the network and go through",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.set_size = Histogram(
            "sureset_set_size",
            "Classes in an answered prediction set",
            ["task"],
            buckets=_CLASSES,
            registry=self.registry,
        )
        self.outliers = Counter(
            "sureset_outliers",
            f"Pictures whose p-value of being like the calibration pictures is at most {UNUSUAL}",
            registry=self.registry,
        )
        self.waiting = Gauge(
            "sureset_waiting_pictures",
            "Pictures that wait for the network or are in it",
            registry=self.registry,
        )
        for result in ("read", "unreadable"):
            self.pictures.labels(result)
        ProcessCollector(registry=self.registry)

    def read(self, readings: Sequence[Reading | PictureError], seconds: float) -> None:
        """Count what came of some pictures, which took so long together."""
        self.reading_seconds.observe(seconds)
        unreadable = sum(isinstance(reading, Exception) for reading in readings)
        self.pictures.labels("read").inc(len(readings) - unreadable)
        self.pictures.labels("unreadable").inc(unreadable)

    def answered(self, answer: dict[str, Any]) -> None:
        """Count a picture's first answer (a moved slider is no new picture)."""
        self.outliers.inc(answer["outlier_p"] <= UNUSUAL)
        for task, of_task in answer["tasks"].items():
            self.set_size.labels(task).observe(len(of_task["set"]))
