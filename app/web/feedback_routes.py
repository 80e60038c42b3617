"""The HTTP API's part that takes true classes, and says whether the promise holds."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, File, Form, HTTPException, Query, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from app.conformal.spaces import JOINT
from app.web.contract import EXAMPLE, Answer, problems
from app.web.service import Service

if TYPE_CHECKING:
    from app.pipeline.predict import Classifier

#: A truth names a class for each task.
_MOST_CHARACTERS = 2**16

_EXAMPLE = {
    **EXAMPLE,
    "kept": {
        "when": "2026-03-01T09:30:00+00:00",
        "who": "anonymous",
        "model": "20260228-101500",
        "picture_sha256": "5d41402abc4b2a76b9719d911017c592aa0f2b8a1d0e4c77f9d1c3b5e8f7a6d9",
        "picture_kept": False,
        "replaced": False,
        "truth": {"colour": "orange"},
    },
}
_COURSE = {
    "n": 240,
    "covered": 221,
    "coverage": 0.921,
    "interval": [0.862, 0.959],
    "promised": 0.9,
    "least": 0.872,
    "kept": True,
    "alarm": False,
    "log_martingale": -0.7,
}
_STATE = {
    "model": "20260228-101500",
    "alpha": 0.1,
    "answers": 240,
    "tasks": {"colour": _COURSE},
    "joint": None,
}


class KeptTruth(BaseModel):
    """What was written down."""

    when: str
    who: str
    model: str = Field(description="the bundle that answered")
    picture_sha256: str
    picture_kept: bool = Field(description="whether the picture itself was kept too")
    replaced: bool = Field(description="whether an earlier truth of this picture was replaced")
    truth: dict[str, str]


class FeedbackAnswer(Answer):
    """The picture's answer, and what was kept."""

    kept: KeptTruth


class CourseAnswer(BaseModel):
    """How it went so far, for one task or for all at once."""

    n: int = Field(description="pictures whose truth was told")
    covered: int = Field(description="of them, those whose set held it")
    coverage: float | None
    interval: tuple[float, float] = Field(
        description="bounds of the coverage that hold however often they are looked at: of all "
        "tasks and all at once, one fails at any time with probability at most 0.025"
    )
    promised: float | None = Field(
        description="coverage promised, or null where the taxonomy promises none of this alone"
    )
    least: float | None = Field(
        description="what the draw of the calibration pictures may leave of the promise: a "
        "coverage that is no less breaks none"
    )
    kept: bool = Field(description="false once the whole interval lies below the least")
    alarm: bool | None = Field(
        description="whether the pictures have stopped being exchangeable with calibration's: "
        "one alarm of all rings without a reason with probability at most 0.01; null where "
        "nothing is tested"
    )
    log_martingale: float | None = Field(description="evidence of that, a natural logarithm")


class MonitoringAnswer(BaseModel):
    """Does the promise hold?"""

    model: str
    alpha: float = Field(description="the bundle's own, at which it is watched")
    answers: int = Field(description="pictures that were told of")
    tasks: dict[str, CourseAnswer]
    joint: CourseAnswer | None = Field(
        description="all attributes at once, where there are several"
    )


def feedback_routes(service: Service, in_service: Callable[[], Awaitable[Classifier]]) -> APIRouter:
    """The routes; ``in_service`` gives the classifier in service."""
    routes = APIRouter()

    @routes.post(
        "/v1/feedback",
        response_model=FeedbackAnswer,
        response_model_exclude_unset=True,
        summary="The true classes of a picture",
        responses={
            200: {"content": {"application/json": {"example": _EXAMPLE}}},
            **problems(400, 401, 403, 408, 413, 422, 429, 503, 507),
        },
    )
    async def feedback(
        request: Request,
        image: Annotated[UploadFile, File(description="one picture")],
        truth: Annotated[
            str,
            Form(
                max_length=_MOST_CHARACTERS,
                description="JSON: the true class by task; leave out what is unknown",
                examples=['{"colour": "orange"}'],
            ),
        ],
        alpha: Annotated[float | None, Query(gt=0, lt=1, description="as it was asked")] = None,
        score: Annotated[str | None, Query(description="as it was asked")] = None,
        taxonomy: Annotated[str | None, Query(description="as it was asked")] = None,
    ) -> Any:
        """Answers the picture, and keeps its truth. A second truth of a picture replaces the first.

        The picture itself is kept only where whoever runs the server asked for it.
        """
        told = _told(truth)
        classifier = await in_service()
        [reading] = await service.read_uploads(classifier, [image.file])
        if isinstance(reading, Exception):
            raise HTTPException(422, f"{reading}.")
        who = getattr(request.state, "who", None)

        def keep() -> Any:
            image.file.seek(0)
            asked = {"alpha": alpha, "score": score, "taxonomy": taxonomy}
            return service.watch.keep(classifier, reading, image.file.read(), told, who, asked)

        try:
            kept, answer = await run_in_threadpool(keep)
        except ValueError as error:
            raise HTTPException(422, f"{error}.") from error
        service.meters.answered(answer)
        return {
            "image": image.filename or "",
            **answer,
            "kept": {
                "when": kept.told,
                "who": kept.who,
                "model": classifier.path.name,
                "picture_sha256": kept.picture_sha256,
                "picture_kept": kept.picture_kept,
                "replaced": kept.again,
                "truth": told,
            },
        }

    @routes.get(
        "/v1/monitoring",
        response_model=MonitoringAnswer,
        summary="Whether the promise holds, by feedback",
        responses={
            200: {"content": {"application/json": {"example": _STATE}}},
            **problems(401, 503),
        },
    )
    async def monitoring() -> Any:
        """Of the bundle in service, by the pictures whose truth was told."""
        classifier = await in_service()

        def look() -> Any:
            from app.pipeline.monitor import as_json

            count, courses = service.watch.courses(classifier)
            told = as_json(courses)
            joint = told.pop(JOINT, None)
            return {
                "model": classifier.path.name,
                "alpha": classifier.facts["alpha"],
                "answers": count,
                "tasks": told,
                "joint": joint,
            }

        return await run_in_threadpool(look)

    return routes


def _told(text: str) -> dict[str, Any]:
    """The truth that somebody sent."""
    try:
        truth = json.loads(text)
    except (ValueError, RecursionError):
        truth = None
    if not isinstance(truth, dict):
        raise HTTPException(422, 'truth must be a JSON object such as {"colour": "red"}.')
    return truth
