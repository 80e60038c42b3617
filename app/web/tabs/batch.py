"""Many pictures or a zip: answered while the bar moves, then sorted, filtered and downloaded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.errors import SuresetError
from app.web import table
from app.web.archive import Pictures, Upload
from app.web.batch import Asked, Progress, Run, Runs, Wish
from app.web.served import Choice
from app.web.service import Service
from app.web.tabs.predict import classifier_of, uploaded

if TYPE_CHECKING:
    from app.pipeline.predict import Classifier

_SECONDS_BETWEEN_LOOKS = 0.5

_ORDERS = [
    ("Uncertain first", "uncertain"),
    ("Unlike first", "unlike"),
    ("By name", "name"),
    ("As they came", "given"),
]
_ONLY = [
    ("All pictures", "all"),
    ("Sure", "sure"),
    ("Not sure", "unsure"),
    ("I don’t know", "unknown"),
    ("Unlike the calibration pictures", "unlike"),
    ("Not read", "error"),
]
_ANY_CLASS = ("Any class", -1)

#: The table is drawn anew at every press, and what was pressed is to keep the keyboard.
_PRESS = """
let pressed = null;
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (!button) return;
  pressed = button.dataset.do;
  trigger("select", {index: pressed});
});
new MutationObserver(() => {
  if (!pressed) return;
  const again = element.querySelector(`button[data-do="${pressed}"]:enabled`)
    || element.querySelector(".wide");
  pressed = null;
  if (again) again.focus({preventScroll: true});
}).observe(element, {childList: true, subtree: true});
"""

#: What is written into it is read out.
_READ_OUT = 'element.setAttribute("role", "status");'


def batch_tab(service: Service, newest: gr.State, choice: gr.State, runs: Runs) -> None:
    """The components of the tab and what they do.

    ``newest`` changes when this page answers with another bundle, by its ``choice`` or because
    another is in service.
    """
    plain: dict[str, Any] = {"apply_default_css": False}
    with gr.Row(elem_id="batch-ask", equal_height=True):
        files = gr.File(
            file_count="multiple",
            file_types=["image", ".zip"],
            label="Pictures, or a zip of them",
            height=132,
            buttons=[],
            elem_id="batch-files",
            scale=2,
            min_width=300,
        )
        with gr.Column(scale=1, min_width=260):
            alpha = gr.Slider(
                0.01,
                0.5,
                step=0.01,
                label="Accepted error rate (alpha)",
                info="Smaller: fewer misses, larger sets.",
                buttons=[],
                elem_id="batch-alpha",
            )
            with gr.Row(elem_id="batch-buttons"):
                go = gr.Button("Answer them all", variant="primary", elem_id="batch-go")
                stop = gr.Button("Stop", visible=False, elem_id="batch-stop")
    bar = gr.HTML(table.waiting(), elem_id="batch-bar", **plain)
    read_out = gr.HTML(elem_id="batch-read-out", js_on_load=_READ_OUT, **plain)
    with gr.Column(visible=False, elem_id="batch-result") as result:
        with gr.Row(elem_id="batch-wish"):
            order = gr.Dropdown(_ORDERS, value="uncertain", label="Order", min_width=130)
            only = gr.Dropdown(_ONLY, value="all", label="Show", min_width=130)
            holding = gr.Dropdown(
                [_ANY_CLASS], value=-1, label="Set holds", min_width=130, elem_id="batch-holding"
            )
            text = gr.Textbox(
                label="Name contains", max_lines=1, min_width=130, elem_id="batch-text"
            )
            as_csv = gr.DownloadButton("CSV", size="md", min_width=80, elem_id="batch-csv")
            as_jsonl = gr.DownloadButton("JSONL", size="md", min_width=80, elem_id="batch-jsonl")
        answers = gr.HTML(elem_id="batch-answers", js_on_load=_PRESS, **plain)
    #: The run whose answers are on the page, and the page of its table.
    shown, page = gr.State(None), gr.State(0)
    offered = gr.State(None)
    wish: list[Any] = [order, only, holding, text]

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def offer(now: Path | None, chosen: Choice) -> dict[Any, Any]:
        """Offer what the bundle was trained for."""
        classifier = service.answering(chosen)
        if classifier is None or now == classifier.path:
            return {offered: now}
        return {offered: classifier.path, alpha: classifier.facts["alpha"]}

    def run(
        chosen: list[dict[str, Any]] | None,
        alpha: float,
        choice: Choice,
        before: Run | None,
        request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:
        """Answer what was uploaded; the last run's answers make room."""
        if before is not None:
            runs.remove(before)
        yield {
            result: gr.Column(visible=False),
            go: gr.Button(interactive=False),
            shown: None,
            bar: "",
            read_out: "",
        }
        ready = {go: gr.Button(interactive=True), stop: gr.Button(visible=False)}
        try:
            now = start(classifier_of(service, choice), runs, chosen, request)
        except SuresetError as error:
            yield {**ready, bar: table.problem(str(error))}
            return
        try:
            yield {
                shown: now,
                stop: gr.Button(visible=True),
                bar: table.progress(Progress(0, now.total, 0.0)),
                read_out: f"0 of {now.total} pictures",
            }
            said, looked = 0, 0.0
            for at in now.answer(service, Asked(alpha)):
                if time.monotonic() - looked < _SECONDS_BETWEEN_LOOKS:
                    continue
                looked = time.monotonic()
                update = {bar: table.progress(at)}
                if (quarter := 4 * at.done // at.total) > said:
                    said = quarter
                    update[read_out] = f"{at.done} of {at.total} pictures"
                yield update
        finally:
            if now.running:  # Nobody looks any more: it would hold a place for an hour.
                runs.remove(now)
        yield {
            **ready,
            bar: table.summary(now),
            read_out: table.spoken(now),
            result: gr.Column(visible=now.done > 0),
            order: "uncertain",
            only: "all",
            holding: gr.Dropdown([_ANY_CLASS, *_classes(now)], value=-1),
            text: "",
            as_csv: str(now.csv),
            as_jsonl: str(now.jsonl),
            page: 0,
            answers: draw(now, 0, Wish()),
        }

    def draw(run: Run, page: int, wish: Wish) -> str:
        found = run.select(wish)
        try:
            rows = run.rows(found[page * table.PAGE : (page + 1) * table.PAGE])
        except SuresetError as error:
            return table.problem(str(error))
        return table.table(run, rows, wish.order, page, len(found))

    def wished(run: Run, order: str, only: str, holding: int, text: str) -> Wish:
        of_class = _pairs(run)[holding] if holding >= 0 else None
        return Wish(order, None if only == "all" else only, of_class, text.strip())

    def filtered(run: Run | None, *asked: Any) -> tuple[Any, ...]:
        """The table from its first page on, as wished for now."""
        return gr.skip() if run is None else (0, draw(run, 0, wished(run, *asked)))

    def pressed(event: gr.EventData, run: Run | None, page: int, *asked: Any) -> tuple[Any, ...]:
        """Another page of the table, or another order of it."""
        if run is None:
            return gr.skip()
        now = wished(run, *asked)
        if event.index in ("previous", "next"):
            last = max(0, (len(run.select(now)) - 1) // table.PAGE)
            page = min(max(0, page + (1 if event.index == "next" else -1)), last)
            return gr.skip(), page, draw(run, page, now)
        name = str(event.index).removeprefix("order-")
        if name not in dict(_ORDERS).values():
            return gr.skip()
        return name, 0, draw(run, 0, Wish(name, now.only, now.holding, now.text))

    newest.change(offer, [offered, choice], [offered, alpha], queue=False, **quiet)
    go.click(
        run,
        [files, alpha, choice, shown],
        [shown, page, go, stop, bar, read_out, result, *wish, as_csv, as_jsonl, answers],
        preprocess=False,
        concurrency_limit=None,
        trigger_mode="once",
        **quiet,
    )
    stop.click(lambda run: run and run.stop(), shown, None, queue=False, **quiet)
    # One listener, so that of quick changes the last one is answered last.
    gr.on(
        # A textbox's first input comes with what was in it before.
        [*(control.input for control in (order, only, holding)), text.change],
        filtered,
        [shown, *wish],
        [page, answers],
        queue=False,
        trigger_mode="always_last",
        **quiet,
    )
    answers.select(pressed, [shown, page, *wish], [order, page, answers], queue=False, **quiet)


def add_batch_endpoint(service: Service, runs: Runs) -> None:
    """``/batch`` for programs that speak to the page as ``gradio_client`` does."""

    def batch(
        files: list,
        request: gr.Request,
        alpha: float | None = None,
        score: str | None = None,
        taxonomy: str | None = None,
    ) -> tuple[dict, dict]:
        """Answers to many pictures, or zips of them, as a JSONL and a CSV file."""
        try:
            now = start(classifier_of(service), runs, files, request)
            for _ in now.answer(service, Asked(alpha, score, taxonomy)):
                pass
            if now.problem is not None:
                raise SuresetError(now.problem)
        except SuresetError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except ValueError as error:
            raise gr.Error(f"{error}.", print_exception=False) from error
        jsonl, as_csv = (
            {"path": str(path), "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}
            for path in (now.jsonl, now.csv)
        )
        return jsonl, as_csv

    gr.api(batch, api_name="batch", concurrency_limit=None)


def start(
    classifier: Classifier, runs: Runs, files: list[dict[str, Any]] | None, request: gr.Request
) -> Run:
    """Begin a run over uploaded files, to be forgotten with the session that sent them.

    Raises:
        SuresetError: there are no pictures or too many, or too many runs.
    """
    if not files:
        raise SuresetError("choose pictures first, or a zip of them.")
    uploads = []
    for file in files:
        path = uploaded(file)
        uploads.append(Upload(path, str(file.get("orig_name") or path.name)))
    return runs.start(str(request.session_hash), classifier, Pictures(uploads))


def _pairs(run: Run) -> list[tuple[str, str]]:
    """Each task with each of its classes."""
    return [(task, name) for task, names in run.classes.items() for name in names]


def _classes(run: Run) -> list[tuple[str, int]]:
    return [(f"{task}: {name}", number) for number, (task, name) in enumerate(_pairs(run))]
