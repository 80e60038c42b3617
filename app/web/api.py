"""The HTTP API: what ``predict`` prints, asked over the network.

Every answer is JSON. A request that can't be answered gets ``{"error": "one sentence"}`` and a
status that fits; a picture that can't be read is an entry with ``"error"`` among the others.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, File, HTTPException, Query, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__
from app.feedback import CannotKeep, FeedbackError
from app.web.contract import EXAMPLE, UNREADABLE, Answer, Problem, problems
from app.web.feedback_routes import feedback_routes
from app.web.limits import BodyLimit, RequestLimit, come_back
from app.web.meters import Meters
from app.web.proxied import path_of
from app.web.room import Busy, Room
from app.web.service import NotReady, Service

if TYPE_CHECKING:
    from app.pipeline.predict import Classifier

#: What one request may carry.
MOST_BYTES = 32 * 2**20
#: What one file uploaded to the page may hold: a zip of many pictures.
MOST_UPLOAD_BYTES = 2 * 2**30
#: What all of them together may, as long as they are kept.
MOST_UPLOADED_BYTES = 4 * 2**30
MOST_PICTURES = 64
#: What one may carry that names the pictures of a batch, which were uploaded before.
MOST_NAMES = 16 * 2**20
#: What one may carry where no pictures are sent.
MOST_TEXT = 2**20
#: Requests that may send their pictures and wait for answers at once.
MOST_REQUESTS = 256


#: It may draw what it holds, and neither run scripts, nor fetch anything, nor lead elsewhere.
_ONLY_TO_LOOK_AT = {
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-cache",
}


def api(service: Service) -> FastAPI:
    """The application that answers everything but the page."""
    app = FastAPI(
        title="Sureset",
        summary="Pictures in, guaranteed answers out.",
        version=__version__,
        docs_url=None,  # its script would come from outside
        redoc_url=None,
    )
    meters = service.meters
    most = {
        "/v1/": MOST_BYTES,
        "/gradio_api/upload": MOST_UPLOAD_BYTES,
        "/gradio_api/queue/join": MOST_NAMES,
        "/gradio_api/call/batch": MOST_NAMES,
    }
    app.add_middleware(BodyLimit, most=most, otherwise=MOST_TEXT)
    app.add_middleware(RequestLimit, path="/v1/", room=Room(MOST_REQUESTS))
    paths = ("/v1/predict", "/v1/model", "/v1/feedback", "/v1/monitoring")
    app.add_middleware(_Measured, paths=paths, meters=meters)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(NotReady, _not_ready)
    app.add_exception_handler(Busy, _busy)
    app.add_exception_handler(FeedbackError, _no_feedback)
    app.add_exception_handler(Exception, _defect)

    # To look for a newer bundle is a look at the disk, and may load it: nothing for the event loop.
    async def in_service() -> Classifier:
        if (classifier := service.served.at_once()) is not None:
            return classifier
        loaded: Classifier = await run_in_threadpool(service.classifier)
        return loaded

    @app.post(
        "/v1/predict",
        response_model=list[Answer],
        response_model_exclude_unset=True,
        summary="Prediction sets of one or many pictures",
        responses={
            200: {"content": {"application/json": {"example": [EXAMPLE]}}},
            422: {
                "model": list[Answer] | Problem,
                "description": "no picture could be read (the list), or a bad alpha, score or "
                "taxonomy (the problem)",
                "content": {"application/json": {"example": [UNREADABLE]}},
            },
            **problems(400, 401, 403, 408, 413, 429, 503),
        },
    )
    async def predict(
        image: Annotated[
            list[UploadFile],
            File(
                description="one picture, or several",
                json_schema_extra={"minItems": 1},
            ),
        ],
        alpha: Annotated[
            float | None,
            Query(gt=0, lt=1, description="accepted error rate; the bundle's own", examples=[0.05]),
        ] = None,
        score: Annotated[
            str | None, Query(description="nonconformity score; the bundle's own", examples=["aps"])
        ] = None,
        taxonomy: Annotated[
            str | None,
            Query(
                description="which scores share a threshold; the bundle's own", examples=["class"]
            ),
        ] = None,
    ) -> Any:
        """Answers a list, one entry a picture in the order they were sent."""
        if len(image) > MOST_PICTURES:
            raise HTTPException(
                413, f"{len(image)} pictures in one request: send at most {MOST_PICTURES}."
            )
        classifier = await in_service()
        _check("score", score, classifier.scores)
        _check("taxonomy", taxonomy, classifier.taxonomies)
        readings = await service.read_uploads(classifier, [upload.file for upload in image])
        answers: list[dict[str, Any]] = []
        for upload, reading in zip(image, readings, strict=True):
            name = upload.filename or ""
            if isinstance(reading, Exception):
                answers.append({"image": name, "error": str(reading)})
                continue
            try:
                answer = classifier.answer(reading, alpha, score, taxonomy)
            except ValueError as error:
                raise HTTPException(422, f"{error}.") from error
            meters.answered(answer)
            answers.append({"image": name, **answer})
        unread = all("error" in answer for answer in answers)
        return JSONResponse(answers, status_code=422 if unread else 200)

    @app.get(
        "/v1/model",
        summary="What is in service",
        responses=problems(401, 503),
    )
    async def model() -> dict[str, Any]:
        """The bundle's facts, its measured quality, and what `/v1/predict` can be asked for."""
        classifier = await in_service()
        return {
            "name": classifier.path.name,
            "runtime": classifier.runtime,
            "classes": classifier.classes,
            "scores": classifier.scores,
            "taxonomies": classifier.taxonomies,
            "facts": classifier.facts,
            "metrics": classifier.metrics,
        }

    app.include_router(feedback_routes(service, in_service))

    @app.get("/healthz", summary="The process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get(
        "/readyz",
        summary="A bundle is loaded",
        responses=problems(503),
    )
    async def readyz() -> dict[str, str]:
        return {"status": "ready", "model": (await in_service()).path.name}

    @app.get("/metrics", summary="Counts and times, for Prometheus", response_class=Response)
    def metrics() -> Response:
        return Response(generate_latest(meters.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/examples/{model}/{number}", include_in_schema=False)
    async def example(model: str, number: int) -> FileResponse:
        """A picture of the bundle's test split. A number, so that no path can be asked for."""
        await in_service()
        classifier = service.served.loaded(model)
        if classifier is not None and 0 <= number < len(classifier.examples):
            picture = classifier.examples[number]
            if picture.is_file():
                return FileResponse(picture, headers={"Cache-Control": "private, max-age=3600"})
        raise HTTPException(404, "there is no such example.")

    @app.get("/bundles/{name}/report.html", include_in_schema=False)
    def report(name: str) -> FileResponse:
        """What was written about a bundle; it is a page of its own that may do nothing here."""
        page = service.served.report(name)
        if page is None:
            raise HTTPException(404, "there is no such report.")
        return FileResponse(page, media_type="text/html", headers=_ONLY_TO_LOOK_AT)

    @app.api_route(
        "/v1/{rest:path}",
        methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
        include_in_schema=False,
    )
    async def missing(request: Request, rest: str) -> None:
        """What is left under ``/v1``, before the page's catch-all gets to see it."""
        raise HTTPException(
            404, f"there is no {request.method} /v1/{rest}: /openapi.json says what there is."
        )

    return app


def _check(name: str, value: str | None, known: list[str]) -> None:
    if value is not None and value not in known:
        raise HTTPException(422, f"{name} cannot be {value!r}: choose from {', '.join(known)}.")


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    if name == "image" and first["type"] == "missing":
        return JSONResponse(
            {"error": "send at least one picture as the multipart field `image`."}, 422
        )
    return JSONResponse({"error": f"{name}: {first['msg']}."}, 422)


def _not_ready(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 503)


def _busy(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Busy)
    return come_back(error)


def _no_feedback(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 507 if isinstance(error, CannotKeep) else 503)


def _defect(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "this is a defect of Sureset; its log holds the details."}, 500)


class _Measured:
    """Counts and times the requests to ``paths``."""

    def __init__(self, app: ASGIApp, paths: tuple[str, ...], meters: Meters) -> None:
        self.app, self.paths, self.meters = app, paths, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope) if scope["type"] == "http" else ""
        if path not in self.paths:
            await self.app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            self.meters.requests.labels(path, str(status)).inc()
            self.meters.seconds.labels(path).observe(time.perf_counter() - started)
