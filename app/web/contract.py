"""What the API says, as its description tells programs, with an example of everything."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class TaskAnswer(BaseModel):
    """One attribute of one picture."""

    set: list[str] = Field(description="the classes that stay possible, in class order")
    top: str = Field(description="the single likeliest class")
    p_values: dict[str, float] = Field(
        description="of each class; it is in the set just when its p-value is above alpha"
    )


class Likely(BaseModel):
    """A combination of classes."""

    classes: dict[str, str] = Field(description="one of each task")
    probability: float


class JointAnswer(BaseModel):
    """All attributes of one picture at once."""

    sets: dict[str, list[str]] = Field(
        description="of each task; all hold the truth at once with probability 1 - alpha"
    )
    size: int = Field(description="how many combinations of classes stay possible")
    top: dict[str, str] = Field(description="the likeliest class of each task")
    likeliest: list[Likely] = Field([], description="the most probable combinations, best first")
    combinations: list[list[str]] | None = Field(
        None, description="those that stay possible, of a bundle calibrated on combinations"
    )


class Answer(BaseModel):
    """One picture: either its answer, or `error`."""

    image: str = Field(description="the file name the picture came with")
    tasks: dict[str, TaskAnswer] | None = None
    joint: JointAnswer | None = None
    outlier_p: float | None = Field(
        None, description="p-value of being like the calibration pictures; small is unlike"
    )
    error: str | None = Field(None, description="why this picture could not be read")


class Problem(BaseModel):
    """Why a request could not be answered."""

    error: str = Field(description="one sentence that says what to do")


EXAMPLE = {
    "image": "car.jpg",
    "tasks": {
        "colour": {
            "set": ["red", "orange"],
            "top": "red",
            "p_values": {"red": 0.61, "orange": 0.14, "blue": 0.003},
        }
    },
    "joint": {
        "sets": {"colour": ["red", "orange"]},
        "size": 2,
        "top": {"colour": "red"},
        "likeliest": [{"classes": {"colour": "red"}, "probability": 0.83}],
    },
    "outlier_p": 0.47,
}
UNREADABLE = {"image": "car.jpg", "error": "it is damaged: the file is cut off"}

_PROBLEMS = {
    400: ("the body is no multipart form", "Invalid multipart data."),
    401: (
        "keys are asked for, and this is none",
        "say who you are: your name and your key, by HTTP's Basic scheme.",
    ),
    403: (
        "a browser asks on behalf of another site",
        "a page of another site may not ask for this.",
    ),
    408: (
        "the body hardly came",
        "the request came too slowly: send it again, in smaller parts.",
    ),
    413: (
        "too much for one request",
        "a request may hold 32 MB: send fewer or smaller pictures.",
    ),
    422: (
        "no picture that can be read, or something the bundle does not know",
        "colour cannot be 'pink': choose from red, green, blue.",
    ),
    429: (
        "too much at once; the header `Retry-After` says when to come back",
        "too much is waiting for the network: ask again in 2 s.",
    ),
    503: (
        "no bundle is in service",
        "there is no bundle in models yet: make one with `make train`.",
    ),
    507: (
        "nothing can be written",
        "feedback cannot be written to feedback (database or disk is full): make room there, let "
        "it be written, or name another folder with --feedback.",
    ),
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The description of each status that says why a request was not answered."""
    return {
        status: {
            "model": Problem,
            "description": _PROBLEMS[status][0],
            "content": {"application/json": {"example": {"error": _PROBLEMS[status][1]}}},
        }
        for status in statuses
    }
