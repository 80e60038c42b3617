"""Whatever is asked of the API, it answers as its own description says, and never with a 500."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks

from app.feedback import Feedback
from app.web.api import api
from app.web.meters import Meters
from app.web.served import Served
from app.web.service import Service
from tests.unit.web.fake import load_fake, picture, write_fake_bundle

# What is sent as a file: pictures, what is left of pictures, and anything.
whole = st.sampled_from([picture(200, 30, 30), picture(255, 255, 255)])
schemathesis.openapi.format(
    "binary", st.one_of(whole, whole.map(lambda data: data[:60]), st.binary(max_size=200))
)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The API's own description of itself, with a bundle in service."""
    folder = tmp_path_factory.mktemp("fuzz")
    write_fake_bundle(folder, "first")
    app = api(Service(Served(folder, load=load_fake), Meters(), Feedback(folder / "feedback")))
    return schemathesis.openapi.from_asgi("/openapi.json", app)


#: What there is, and how it can be asked: rightly, and wrongly where there is something to say.
ASKED = [
    ("POST", "/v1/predict", GenerationMode.POSITIVE),
    ("POST", "/v1/predict", GenerationMode.NEGATIVE),
    *(("GET", f"/{name}", GenerationMode.POSITIVE) for name in ("healthz", "readyz", "metrics")),
    ("GET", "/v1/model", GenerationMode.POSITIVE),
    ("POST", "/v1/feedback", GenerationMode.POSITIVE),
    ("POST", "/v1/feedback", GenerationMode.NEGATIVE),
    ("GET", "/v1/monitoring", GenerationMode.POSITIVE),
]


@pytest.mark.parametrize(("method", "path", "mode"), ASKED)
def test_the_api_is_as_it_says(
    described: Any, method: str, path: str, mode: GenerationMode
) -> None:
    operation = described[path][method]

    @settings(
        max_examples=60,
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        # A file need be no picture, and a score none that the bundle has.
        case.call_and_validate(excluded_checks=[checks.positive_data_acceptance])

    ask()


def test_nothing_is_left_out(described: Any) -> None:
    asked = {
        (result.ok().method.upper(), result.ok().path) for result in described.get_all_operations()
    }
    assert asked == {(method, path) for method, path, _ in ASKED}
