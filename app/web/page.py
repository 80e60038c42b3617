"""The web page: the frame around its tabs, and what tells them which bundle is in service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.utils import get_upload_folder

from app.errors import SuresetError
from app.web import about, cards
from app.web.batch import Runs
from app.web.served import IN_SERVICE, Choice
from app.web.service import Service
from app.web.tabs.batch import add_batch_endpoint, batch_tab
from app.web.tabs.monitoring import monitoring_tab
from app.web.tabs.predict import add_predict_endpoint, predict_tab
from app.web.tabs.report import report_tab

if TYPE_CHECKING:
    from fastapi import FastAPI

#: Uploads are forgotten after an hour; the folder is gone when the server stops.
_SWEEP_SECONDS, _KEEP_SECONDS = 600, 3600
_LOOK_SECONDS = 2.0

#: Fonts of the reader's own machine: nothing is fetched.
_FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"]
_MONO = ["ui-monospace", "SF Mono", "Consolas", "monospace"]


def mount(
    app: FastAPI, service: Service, style: Path, most_bytes: int, root_path: str = ""
) -> FastAPI:
    """Put the page at the root of ``app``, behind every path that is there already."""
    blocks = page(service)
    # Only a launched Blocks checks that a file a client names is one it uploaded.
    blocks.has_launched = True
    return gr.mount_gradio_app(
        app,
        blocks,
        "/",
        css_paths=style,
        theme=gr.themes.Base(primary_hue="teal", neutral_hue="slate", font=_FONT, font_mono=_MONO),
        footer_links=[],
        run_history=False,
        max_file_size=most_bytes,
        root_path=root_path or None,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
    )


def page(service: Service) -> gr.Blocks:
    """The page's components and what they do."""
    runs = Runs(Path(get_upload_folder()) / "batches", _KEEP_SECONDS)
    with gr.Blocks(
        title="Sureset",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(_SWEEP_SECONDS, _KEEP_SECONDS),
    ) as blocks:
        plain: dict[str, Any] = {"apply_default_css": False}
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        #: The bundle this page asked for.
        choice = gr.State(IN_SERVICE)
        #: What the page answers with, what is wrong, and what it chose, as ``look`` saw it:
        #: whatever depends on it listens to its changes.
        newest = gr.State(None)
        header = gr.HTML(cards.header(None, None), elem_id="header", **plain)
        absent = gr.HTML(visible=False, elem_id="absent", **plain)
        with gr.Tabs(visible=False, elem_id="tabs") as tabs:
            with gr.Tab("One picture", id="picture"):
                predict_tab(service, newest, choice, _KEEP_SECONDS)
            with gr.Tab("Many pictures", id="batch"):
                batch_tab(service, newest, choice, runs)
            with gr.Tab("Report", id="report") as report:
                report_tab(service, newest, choice, report)
            with gr.Tab("Monitoring", id="monitoring") as monitoring:
                monitoring_tab(service, newest, choice, monitoring)

        def look(chosen: Choice) -> tuple[Choice, tuple[Path | None, str | None, str | None]]:
            """What the page answers with; a choice that holds no longer is given up."""
            # It is not loaded for a look: pages with other choices would take turns at that.
            path = None
            try:
                if chosen.name is not None:
                    path = service.served.folder(chosen.name)
            except SuresetError as error:
                chosen = Choice(None, f"{error} This page is back to the one in service.")
            if path is None and (classifier := service.served.current()) is not None:
                path = classifier.path
            return chosen, (path, service.served.problem, chosen.name or chosen.lost)

        def show(chosen: Choice) -> dict[Any, Any]:
            """The frame for what the page answers with; the tabs see to themselves."""
            classifier, problem = service.answering(chosen), service.served.problem
            if classifier is None:
                return {absent: gr.HTML(cards.no_bundle(problem or ""), visible=True)}
            serving = service.served.current()
            note = chosen.lost
            if chosen.name is not None and serving is not None:
                problem, note = None, f"chosen for this page; {serving.path.name} is in service."
            top = cards.header(classifier.path.name, about.measured(classifier), problem, note)
            return {header: top, absent: gr.HTML(visible=False), tabs: gr.Tabs(visible=True)}

        def leave(request: gr.Request) -> None:
            """Nobody can ask for a closed page's answers any more."""
            runs.leave(str(request.session_hash))

        # Looking touches no visible component: a camera in use would not survive it. And it is
        # queued, because only then the browser is told that a state has changed.
        blocks.load(look, choice, [choice, newest], **quiet)
        gr.Timer(_LOOK_SECONDS).tick(look, choice, [choice, newest], **quiet)
        newest.change(show, choice, [header, absent, tabs], queue=False, **quiet)
        blocks.unload(leave)
        add_predict_endpoint(service)
        add_batch_endpoint(service, runs)
    return blocks
