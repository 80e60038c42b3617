"""Takes the true classes that people give, watches the promise by them, and renews it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.bundle import check_name, name_of_next
from app.conformal.spaces import JOINT
from app.errors import SuresetError
from app.feedback import Feedback, FeedbackError, Kept, Word, check_truth
from app.web.served import Served

if TYPE_CHECKING:
    from app.pipeline.monitor import Course, Monitor
    from app.pipeline.predict import Classifier, Reading

#: Somebody who asked without a key.
ANONYMOUS = "anonymous"

#: To calibrate anew takes seconds; what takes so long is stuck.
_LONGEST_S = 600


def in_a_process(arguments: Sequence[str]) -> None:
    """Run a command of Sureset's in a process of its own, and wait for it.

    What it needs of libraries and memory is gone with it, and it takes no time from answers.

    Raises:
        SuresetError: what it ended with.
    """
    command = [sys.executable, "-m", "app", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_S)
    except subprocess.TimeoutExpired as error:
        raise SuresetError("it took too long and was broken off: try again.") from error
    if done.returncode:
        last = (done.stderr.rstrip().splitlines() or [""])[-1]
        raise SuresetError(
            last.removeprefix("error: ")
            if last.startswith("error: ")
            else f"calibrating ended with status {done.returncode}: {last}"
        )


@dataclass
class _Seen:
    """A monitor and what it has taken in: ``count`` rows, of which ``last`` is the id of the last.

    Its ``stamp`` is the bundle's content, the kind of runtime, and how often truths were replaced.
    """

    stamp: tuple[str, str, int]
    monitor: Monitor
    count: int = 0
    last: int = 0


class Watch(Collector):
    """The feedback on what is in service, and what it says of the promise."""

    def __init__(
        self,
        feedback: Feedback,
        served: Served,
        run: Callable[[Sequence[str]], None] = in_a_process,
    ) -> None:
        """``run`` is what runs a command of Sureset's."""
        self.feedback = feedback
        self._served = served
        self._run = run
        self._watching = threading.Lock()
        self._renewing = threading.Lock()
        self._seen: _Seen | None = None

    def keep(
        self,
        classifier: Classifier,
        reading: Reading,
        picture: bytes,
        truth: Mapping[str, Any],
        who: str | None,
        asked: Mapping[str, Any],
    ) -> tuple[Kept, dict[str, Any]]:
        """Keep a truth; gives what was kept, and the answer the person was looking at.

        Args:
            asked: the alpha, score and taxonomy of that answer, None as the bundle's own.

        Raises:
            FeedbackError: it cannot be kept.
            ValueError: a task, a class, or something asked for is unknown.
        """
        check_truth(truth, classifier.classes)
        answer = classifier.answer(reading, **asked)
        own = {"alpha": classifier.facts["alpha"], **classifier.facts["method"]}
        kept = self.feedback.keep(
            Word(
                who=who or ANONYMOUS,
                bundle=classifier.path.name,
                content=classifier.facts["content_sha256"],
                runtime=classifier.runtime,
                picture=picture,
                features=reading.features,
                asked={name: own[name] if of is None else of for name, of in asked.items()},
                answered={task: of["set"] for task, of in answer["tasks"].items()},
                truth=truth,
            )
        )
        return kept, answer

    def courses(self, classifier: Classifier) -> tuple[int, dict[str, Course]]:
        """How many pictures were told of, and how it went for each task and all at once.

        Raises:
            FeedbackError: the feedback cannot be read.
        """
        from app.pipeline.monitor import Monitor

        content = classifier.facts["content_sha256"]
        with self._watching:
            revisions = self.feedback.revisions(content)
            stamp = content, classifier.runtime, revisions
            # Where a truth was replaced, what followed from it is worked out again.
            if self._seen is None or self._seen.stamp != stamp:
                self._seen = _Seen(stamp, Monitor(classifier))
            seen = self._seen
            told = self.feedback.told(content, classifier.runtime, classifier.classes, seen.last)
            if len(told):
                fair = told.without(classifier.fitted)
                seen.monitor.update(fair.features, fair.labels)
                seen.last, seen.count = int(told.ids[-1]), seen.count + len(told)
            return seen.count, seen.monitor.courses()

    def recalibrate(self, classifier: Classifier) -> tuple[Path, dict[str, float]]:
        """Calibrate the bundle on its feedback.

        Returns:
            The new bundle, which is the latest from now on, and its coverage by task and, under
            ``joint``, of all at once, on feedback that tested it.

        Raises:
            SuresetError: there is too little feedback, no bundle can be written, or it is being
                done already.
        """
        if not self._renewing.acquire(blocking=False):
            raise SuresetError("a new bundle is being calibrated already: wait for that one.")
        try:
            facts, models_dir = classifier.facts, self._served.models_dir
            name = name_of_next(facts)
            check_name(models_dir, name)
            own = {"alpha": facts["alpha"], **facts["method"]}
            self._run(
                [
                    *("calibrate", "--from-feedback", "--model", str(classifier.path)),
                    *("--models", str(models_dir), "--save-as", name),
                    *("--feedback", str(self.feedback.folder)),
                    *(word for key, of in own.items() for word in (f"--{key}", str(of))),
                ]
            )
            metrics = json.loads((models_dir / name / "metrics.json").read_text(encoding="utf-8"))
            measured = {task: of["coverage"] for task, of in metrics["tasks"].items()}
            if len(measured) > 1:
                measured[JOINT] = metrics["joint"]["coverage"]
            return models_dir / name, measured
        finally:
            self._renewing.release()

    def collect(self) -> Iterable[Metric]:
        """What Prometheus is told of the bundle in service, as it is now."""
        readable = GaugeMetricFamily(
            "sureset_feedback_readable", "Whether the feedback can be read: 1 or 0"
        )
        answers = GaugeMetricFamily(
            "sureset_feedback_answers", "Pictures whose truth was told, of the bundle in service"
        )
        coverage = GaugeMetricFamily(
            "sureset_feedback_coverage", "Share of them whose set held the truth", labels=["task"]
        )
        upper = GaugeMetricFamily(
            "sureset_feedback_coverage_upper",
            "Upper end of the bound of coverage that holds at any time",
            labels=["task"],
        )
        alarm = GaugeMetricFamily(
            "sureset_feedback_alarm",
            "Whether the pictures have stopped being like those of calibration: 1 or 0",
            labels=["task"],
        )
        classifier = self._served.current()
        if classifier is not None:
            try:
                count, courses = self.courses(classifier)
            except FeedbackError:
                readable.add_metric([], 0)
            else:
                readable.add_metric([], 1)
                answers.add_metric([], count)
                for name, course in courses.items():
                    if len(course.covered):
                        coverage.add_metric([name], float(np.mean(course.covered)))
                    upper.add_metric([name], course.interval()[1])
                    if course.alarm is not None:
                        alarm.add_metric([name], course.alarm)
        return readable, answers, coverage, upper, alarm
