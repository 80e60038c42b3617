"""The web page: choose a picture, read the answer, move the promise.

The network runs once a picture. What it made of the picture stays on the server with the session
that asked, so that the slider and the choosers are answered from it at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from app.web import cards
from app.web.meters import Meters
from app.web.served import Served

if TYPE_CHECKING:
    from fastapi import FastAPI

    from app.pipeline.predict import Classifier, Reading

#: How the field writes the scores' names.
_CAPITALS = {"pip", "aps", "raps", "saps"}

#: Uploads are forgotten after an hour; the folder is gone when the server stops.
_SWEEP_SECONDS, _KEEP_SECONDS = 600, 3600
_LOOK_SECONDS = 2.0

#: Fonts of the reader's own machine: nothing is fetched.
_FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"]
_MONO = ["ui-monospace", "SF Mono", "Consolas", "monospace"]
_PRESS_AN_EXAMPLE = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-example]");
  if (button) trigger("select", {index: Number(button.dataset.example)});
});
"""


@dataclass(frozen=True)
class Seen:
    """A picture that was read, and by whom: only that bundle can answer from the reading."""

    classifier: Classifier
    reading: Reading

    def answer(self, alpha: float, score: str, taxonomy: str) -> str:
        """The answer as HTML. Runs no network."""
        answer = self.classifier.answer(self.reading, alpha, score, taxonomy)
        return cards.answer(answer, alpha, taxonomy)


@dataclass(frozen=True)
class Reader:
    """Reads pictures for the page with whatever bundle is in service."""

    served: Served
    meters: Meters

    def classifier(self) -> Classifier:
        """The one in service; without one, the page shows why as a message."""
        classifier = self.served.current()
        if classifier is None:
            raise gr.Error(self.served.problem or "", print_exception=False)
        return classifier

    def read(self, picture: Path, *asked: Any) -> tuple[Seen | None, str]:
        """Run the network; gives what was seen and the answer to ``asked`` as HTML."""
        classifier = self.classifier()
        [reading] = self.meters.read(classifier, [picture])
        if isinstance(reading, Exception):
            return None, cards.unreadable(str(reading))
        self.meters.answered(classifier.answer(reading, *asked))
        seen = Seen(classifier, reading)
        return seen, seen.answer(*asked)

    def predict(
        self,
        image: dict,
        alpha: float | None = None,
        score: str | None = None,
        taxonomy: str | None = None,
    ) -> dict:
        """Prediction sets of one picture, as `python -m app predict` prints them."""
        classifier = self.classifier()
        [reading] = self.meters.read(classifier, [_uploaded(image)])
        if isinstance(reading, Exception):
            raise gr.Error(str(reading), print_exception=False)
        try:
            answer = classifier.answer(reading, alpha, score, taxonomy)
        except ValueError as error:
            raise gr.Error(f"{error}.", print_exception=False) from error
        self.meters.answered(answer)
        return {"image": image.get("orig_name") or "", **answer}


def mount(app: FastAPI, served: Served, meters: Meters, style: Path, most_bytes: int) -> FastAPI:
    """Put the page at the root of ``app``, behind every path that is there already."""
    blocks = page(Reader(served, meters))
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
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
    )


def page(reader: Reader) -> gr.Blocks:
    """The page's components and what they do."""
    with gr.Blocks(
        title="Sureset",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(_SWEEP_SECONDS, _KEEP_SECONDS),
    ) as blocks:
        plain: dict[str, Any] = {"apply_default_css": False}
        header = gr.HTML(cards.header(None, None), elem_id="header", **plain)
        absent = gr.HTML(visible=False, elem_id="absent", **plain)
        with gr.Row(visible=False, elem_id="work", equal_height=False) as work:
            with gr.Column(elem_id="ask", scale=0, min_width=320):
                picture = gr.Image(
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard", "webcam"],
                    show_label=False,
                    buttons=[],
                    placeholder="Drop a picture here, or click to choose one",
                    height=224,
                    elem_id="picture",
                )
                examples = gr.HTML(elem_id="examples", js_on_load=_PRESS_AN_EXAMPLE, **plain)
                alpha = gr.Slider(
                    0.01,
                    0.5,
                    step=0.01,
                    label="Accepted error rate (alpha)",
                    info="Smaller: fewer misses, larger sets.",
                    buttons=[],
                    elem_id="alpha",
                )
                with gr.Row(elem_id="method"):
                    score = gr.Dropdown(label="Score", min_width=100, elem_id="score")
                    taxonomy = gr.Dropdown(label="Taxonomy", min_width=100, elem_id="taxonomy")
            with gr.Column(elem_id="answer", scale=1, min_width=320):
                result = gr.HTML(elem_id="result", **plain)
        asked: list[Any] = [alpha, score, taxonomy]
        seen = gr.State(None, time_to_live=_KEEP_SECONDS)
        newest, shown = gr.State(None), gr.State(None)

        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        reading: dict[str, Any] = {
            "show_progress": "minimal",
            "show_progress_on": result,
            "api_visibility": "private",
            "concurrency_limit": None,
            "trigger_mode": "always_last",
        }

        def look() -> tuple[Path | None, str | None]:
            """What is in service; the page changes when this does."""
            classifier = reader.served.current()
            return (classifier.path if classifier else None), reader.served.problem

        def show(showing: Path | None, file: dict[str, Any] | None) -> dict[Any, Any]:
            """Bring the page up to what is in service; a picture on it is read again."""
            classifier, problem = reader.served.current(), reader.served.problem
            if classifier is None:
                return {absent: gr.HTML(cards.no_bundle(problem or ""), visible=True)}
            top = cards.header(classifier.path.name, classifier.metrics, problem)
            if showing == classifier.path:
                return {header: top}
            method = classifier.facts["method"]
            own = classifier.facts["alpha"], method["score"], method["taxonomy"]
            scores = [(s.upper() if s in _CAPITALS else s, s) for s in classifier.scores]
            taxonomies = [(t.replace("_", " "), t) for t in classifier.taxonomies]
            now_seen, answer = read(file, *own)
            return {
                shown: classifier.path,
                header: top,
                absent: gr.HTML(visible=False),
                work: gr.Row(visible=True),
                examples: cards.examples(
                    classifier.path.name, [example.name for example in classifier.examples]
                ),
                alpha: own[0],
                score: gr.Dropdown(scores, value=own[1]),
                taxonomy: gr.Dropdown(taxonomies, value=own[2]),
                seen: now_seen,
                result: answer,
            }

        def read(file: dict[str, Any] | None, *asked: Any) -> tuple[Seen | None, str]:
            """Read an uploaded picture; none when it was just removed."""
            if file is None:
                return None, cards.waiting(reader.classifier().classes)
            return reader.read(_uploaded(file), *asked)

        def pick(event: gr.EventData, *asked: Any) -> tuple[str, Seen | None, str]:
            """Read an example."""
            example = reader.classifier().examples[int(event.index)]
            copy = save_file_to_cache(example, cache_dir=get_upload_folder())
            return copy, *reader.read(example, *asked)

        def answer(seen: Seen | None, *asked: Any) -> Any:
            """Answer the picture again, as asked now."""
            return gr.skip() if seen is None else seen.answer(*asked)

        # Looking touches no visible component: a camera in use would not survive it. And it is
        # queued, because only then the browser is told that a state has changed.
        blocks.load(look, None, newest, **quiet)
        gr.Timer(_LOOK_SECONDS).tick(look, None, newest, **quiet)
        newest.change(
            show,
            [shown, picture],
            [shown, header, absent, work, examples, *asked, seen, result],
            queue=False,
            preprocess=False,
            **quiet,
        )
        # The file itself goes to the network, as it does through the API: nothing re-encodes it.
        picture.input(read, [picture, *asked], [seen, result], preprocess=False, **reading)
        examples.select(pick, asked, [picture, seen, result], **reading)
        for control in asked:
            control.input(
                answer, [seen, *asked], result, queue=False, trigger_mode="always_last", **quiet
            )
        gr.api(reader.predict, api_name="predict", concurrency_limit=None)
    return blocks


def _uploaded(file: dict[str, Any]) -> Path:
    """The path of an uploaded file. A client names it, so it is believed only in that folder."""
    path = Path(file.get("path") or "").resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
        raise gr.Error("Upload the picture first.", print_exception=False)
    return path
