"""Does the promise hold, by what people told? And the button that renews it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.bundle import LATEST
from app.errors import SuresetError
from app.pipeline.parts import enough
from app.web import monitoring
from app.web.served import Choice
from app.web.service import Service
from app.web.tabs.predict import classifier_of

_WHAT_IT_DOES = (
    "Calibrates the bundle of this page on what was told of its answers, in some seconds. That "
    "makes a new bundle, which is the latest from then on. The old one stays, with its feedback."
)


def monitoring_tab(service: Service, newest: gr.State, choice: gr.State, tab: gr.Tab) -> None:
    """The components of the tab and what they do.

    ``newest`` changes when this page answers with another bundle; ``choice`` is what it was asked
    for.
    """
    plain: dict[str, Any] = {"apply_default_css": False}
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    view = gr.HTML(elem_id="monitoring", **plain)
    with gr.Row(elem_id="renew", equal_height=True):
        ask = gr.Button("Recalibrate from feedback", elem_id="recalibrate", scale=0, min_width=230)
        yes = gr.Button(
            "Yes, make a new bundle",
            variant="primary",
            visible=False,
            elem_id="recalibrate-yes",
            scale=0,
            min_width=230,
        )
        no = gr.Button("No", visible=False, elem_id="recalibrate-no", scale=0, min_width=90)
        gr.HTML(f'<p class="words">{_WHAT_IT_DOES}</p>', elem_id="recalibrate-does", **plain)
    came = gr.HTML(elem_id="recalibrated", **plain)

    def look(chosen: Choice) -> str:
        """How it stands."""
        classifier = service.answering(chosen)
        if classifier is None:
            return ""
        try:
            told, courses = service.watch.courses(classifier)
        except SuresetError as error:
            return monitoring.unreadable(str(error))
        needed = enough(len(classifier.classes), classifier.facts["alpha"])
        return monitoring.monitoring(classifier.path.name, told, courses, needed)

    def confirm(asking: bool) -> dict[Any, Any]:
        """Ask before it is done, or do not any more."""
        return {
            ask: gr.Button(visible=not asking),
            yes: gr.Button(visible=asking),
            no: gr.Button(visible=asking),
            came: "",
        }

    def renew(chosen: Choice) -> dict[Any, Any]:
        """Calibrate a new bundle, and say what came of it."""
        classifier = classifier_of(service, chosen)
        try:
            new, coverage = service.watch.recalibrate(classifier)
        except SuresetError as error:
            said = monitoring.refused(str(error))
        else:
            served = service.served.model == LATEST
            said = monitoring.renewed(new.name, classifier.path.name, coverage, served)
        return {**confirm(asking=False), came: said, view: look(chosen)}

    buttons: list[Any] = [ask, yes, no, came]
    tab.select(look, choice, view, **quiet)
    newest.change(look, choice, view, queue=False, **quiet)
    ask.click(lambda: confirm(True), None, buttons, queue=False, **quiet)
    no.click(lambda: confirm(False), None, buttons, queue=False, **quiet)
    yes.click(
        renew,
        choice,
        [*buttons, view],
        show_progress="minimal",
        show_progress_on=came,
        api_visibility="private",
    )
