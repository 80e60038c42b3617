"""The web page: the frame around its tabs, and what tells them which bundle is in service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.utils import get_upload_folder

from app.web import cards
from app.web.batch import Runs
from app.web.service import Service
from app.web.tabs.batch import add_batch_endpoint, batch_tab
from app.web.tabs.predict import add_predict_endpoint, predict_tab

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
        #: What is in service, as ``look`` saw it: whatever depends on it listens to its changes.
        newest = gr.State(None)
        header = gr.HTML(cards.header(None, None), elem_id="header", **plain)
        absent = gr.HTML(visible=False, elem_id="absent", **plain)
        with gr.Tabs(visible=False, elem_id="tabs") as tabs:
            with gr.Tab("One picture", id="picture"):
                predict_tab(service, newest, _KEEP_SECONDS)
            with gr.Tab("Many pictures", id="batch"):
                batch_tab(service, newest, runs)

        def look() -> tuple[Path | None, str | None]:
            """What is in service, and what is wrong with it."""
            classifier = service.served.current()
            return (classifier.path if classifier else None), service.served.problem

        def leave(request: gr.Request) -> None:
            """Nobody can ask for a closed page's answers any more."""
            runs.leave(str(request.session_hash))

        def show() -> dict[Any, Any]:
            """The frame for what is in service; the tabs see to themselves."""
            classifier, problem = service.served.current(), service.served.problem
            if classifier is None:
                return {absent: gr.HTML(cards.no_bundle(problem or ""), visible=True)}
            return {
                header: cards.header(classifier.path.name, classifier.metrics, problem),
                absent: gr.HTML(visible=False),
                tabs: gr.Tabs(visible=True),
            }

        # Looking touches no visible component: a camera in use would not survive it. And it is
        # queued, because only then the browser is told that a state has changed.
        blocks.load(look, None, newest, **quiet)
        gr.Timer(_LOOK_SECONDS).tick(look, None, newest, **quiet)
        newest.change(show, None, [header, absent, tabs], queue=False, **quiet)
        blocks.unload(leave)
        add_predict_endpoint(service)
        add_batch_endpoint(service, runs)
    return blocks
