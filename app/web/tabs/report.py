"""The bundle's report and its facts, and the choice of the bundle that this page answers with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from app.errors import SuresetError
from app.web import about
from app.web.served import IN_SERVICE, Choice
from app.web.service import Service

#: The dropdown's value that follows whatever is in service.
_FOLLOW = ""


def report_tab(service: Service, newest: gr.State, choice: gr.State, tab: gr.Tab) -> None:
    """The components of the tab and what they do.

    ``newest`` changes when this page answers with another bundle; ``choice`` is what it was asked
    to answer with.
    """
    plain: dict[str, Any] = {"apply_default_css": False}
    with gr.Row(elem_id="report", equal_height=False):
        with gr.Column(scale=0, min_width=320):
            bundles = gr.Dropdown(
                label="This page answers with",
                info="Others, and the HTTP API, keep the one in service.",
                elem_id="bundles",
            )
            status = gr.HTML(elem_id="bundle-status", **plain)
            facts = gr.HTML(elem_id="bundle-facts", **plain)
        with gr.Column(scale=1, min_width=320):
            report = gr.HTML(elem_id="bundle-report", **plain)
    shown = gr.State(None)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def offered(chosen: Choice) -> Any:
        """The bundles there are, the newest first."""
        serving = service.served.current()
        first = f"the one in service ({serving.path.name})" if serving else "the one in service"
        names = service.served.names()[::-1]
        return gr.Dropdown(
            [(first, _FOLLOW), *((name, name) for name in names)],
            value=chosen.name if chosen.name in names else _FOLLOW,
        )

    def show(showing: Path | None, chosen: Choice) -> dict[Any, Any]:
        """Bring the tab up to what this page answers with."""
        classifier = service.answering(chosen)
        if classifier is None or classifier.path == showing:
            return {bundles: offered(chosen)}
        return {
            shown: classifier.path,
            bundles: offered(chosen),
            facts: about.facts(classifier),
            report: about.report(classifier.path.name),
        }

    def choose(name: str, before: Choice) -> Iterator[dict[Any, Any]]:
        """Answer with another bundle on this page, as soon as it is loaded."""
        if not name:
            now = service.served.current()
            yield {
                status: "",
                choice: IN_SERVICE,
                newest: (now.path if now else None, service.served.problem, None),
            }
            return
        yield {status: about.loading(name)}
        try:
            classifier = service.served.named(name)
        except SuresetError as error:
            yield {status: about.refused(str(error)), bundles: offered(before)}
            return
        yield {status: "", choice: Choice(name), newest: (classifier.path, None, name)}

    newest.change(show, [shown, choice], [shown, bundles, facts, report], queue=False, **quiet)
    tab.select(offered, choice, bundles, queue=False, **quiet)
    bundles.input(
        choose,
        [bundles, choice],
        [status, choice, newest, bundles],
        concurrency_limit=None,
        trigger_mode="always_last",
        **quiet,
    )
