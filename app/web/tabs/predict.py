"""Choose a picture, read the answer, move the promise.

The network runs once a picture. What it made of the picture stays on the server with the session
that asked, so that the slider and the choosers are answered from it at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from app.data.pictures import PictureError
from app.errors import SuresetError
from app.web import cards, heat
from app.web.api import MOST_BYTES
from app.web.room import Busy
from app.web.served import IN_SERVICE, Choice
from app.web.service import Service
from app.web.tabs.feedback import take_truths, truth_form

if TYPE_CHECKING:
    from app.pipeline.predict import Classifier, Reading

#: How the field writes the scores' names.
_CAPITALS = {"pip", "aps", "raps", "saps"}

_PRESS_AN_EXAMPLE = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-example]");
  if (button) trigger("select", {index: Number(button.dataset.example)});
});
"""

#: An example that is removed comes as if it had just been uploaded; what is on the page is right.
_WHAT_IS_SHOWN = """
async (file, ...asked) => {
  await new Promise((shown) => setTimeout(shown, 50));
  return [document.querySelector("#picture img, #picture video") ? file : null, ...asked];
}
"""

_PRESS_A_CLASS = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-look]");
  if (button) trigger("select", {index: button.dataset.look.split(" ").map(Number)});
});
"""


@dataclass(frozen=True)
class Seen:
    """A picture that was read, and by whom: only that bundle can answer from the reading.

    Attributes:
        picture: its file.
        truth: of an example, its true classes by task.
        looked_at: the class whose heat map was asked for, by task; else it is the top one's.
    """

    classifier: Classifier
    reading: Reading
    picture: Path
    truth: Mapping[str, str] = field(default_factory=dict)
    looked_at: Mapping[str, str] = field(default_factory=dict)
    _looks: dict[tuple[str, str], cards.Look] = field(default_factory=dict)

    def answer(self, alpha: float, score: str, taxonomy: str) -> str:
        """The answer as HTML. Runs no network."""
        answer = self.classifier.answer(self.reading, alpha, score, taxonomy)
        looks = {
            task: look
            for task, of_task in answer["tasks"].items()
            if (look := self._look(task, self.looked_at.get(task, of_task["top"]))) is not None
        }
        return cards.answer(answer, alpha, taxonomy, looks, self.truth)

    def look_at(self, task: int, code: int) -> Seen:
        """The same, with the heat map of another class; both are numbers."""
        name, classes = list(self.classifier.classes.items())[task]
        return replace(self, looked_at={**self.looked_at, name: classes[code]})

    def _look(self, task: str, name: str) -> cards.Look | None:
        """The heat map of a class, drawn once; None where the bundle has none."""
        if (task, name) not in self._looks:
            places = self.classifier.heat(self.reading, task, name)
            if places is not None:
                assert self.reading.sight is not None
                address = heat.over(self.reading.sight.picture, places)
                self._looks[task, name] = cards.Look(name, address)
        return self._looks.get((task, name))


def predict_tab(service: Service, newest: gr.State, choice: gr.State, keep_seconds: float) -> None:
    """The components of the tab and what they do.

    ``newest`` changes when this page answers with another bundle, by its ``choice`` or because
    another is in service; what was seen of a picture is kept for ``keep_seconds``.
    """
    plain: dict[str, Any] = {"apply_default_css": False}
    with gr.Row(elem_id="work", equal_height=False):
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
            truth = truth_form()
        with gr.Column(elem_id="answer", scale=1, min_width=320):
            result = gr.HTML(elem_id="result", js_on_load=_PRESS_A_CLASS, **plain)
    asked: list[Any] = [alpha, score, taxonomy]
    seen = gr.State(None, time_to_live=keep_seconds)
    shown = gr.State(None)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    reading: dict[str, Any] = {
        "show_progress": "minimal",
        "show_progress_on": result,
        "api_visibility": "private",
        "concurrency_limit": None,
        "trigger_mode": "always_last",
    }

    def show(showing: Path | None, chosen: Choice, file: dict[str, Any] | None) -> dict[Any, Any]:
        """Bring the tab up to what this page answers with; a picture on it is read again."""
        classifier = service.answering(chosen)
        if classifier is None or showing == classifier.path:
            return {shown: showing}
        method = classifier.facts["method"]
        own = classifier.facts["alpha"], method["score"], method["taxonomy"]
        scores = [(s.upper() if s in _CAPITALS else s, s) for s in classifier.scores]
        taxonomies = [(t.replace("_", " "), t) for t in classifier.taxonomies]
        now_seen, answer = read(file, chosen, *own)
        return {
            shown: classifier.path,
            examples: cards.examples(
                classifier.path.name, list(classifier.facts["examples"].values())
            ),
            alpha: own[0],
            score: gr.Dropdown(scores, value=own[1]),
            taxonomy: gr.Dropdown(taxonomies, value=own[2]),
            seen: now_seen,
            result: answer,
        }

    def read(file: dict[str, Any] | None, chosen: Choice, *asked: Any) -> tuple[Seen | None, str]:
        """Read an uploaded picture; none when it was just removed."""
        classifier = classifier_of(service, chosen)
        if file is None:
            return None, cards.waiting(classifier.classes)
        return look_at(classifier, uploaded(file), *asked)

    def pick(event: gr.EventData, chosen: Choice, *asked: Any) -> tuple[str, Seen | None, str]:
        """Read an example."""
        classifier = classifier_of(service, chosen)
        example = classifier.examples[int(event.index)]
        copy = save_file_to_cache(example, cache_dir=get_upload_folder())
        truth = classifier.facts["examples"][example.name]
        return copy, *look_at(classifier, example, *asked, truth=truth)

    def look_at(
        classifier: Classifier,
        picture: Path,
        *asked: Any,
        truth: Mapping[str, str] | None = None,
    ) -> tuple[Seen | None, str]:
        """Run the network; gives what was seen and the answer to ``asked`` as HTML."""
        try:
            reading = _read(service, classifier, picture)
        except Busy as busy:
            return None, cards.unreadable(str(busy))
        if isinstance(reading, Exception):
            return None, cards.unreadable(str(reading))
        service.meters.answered(classifier.answer(reading, *asked))
        now_seen = Seen(classifier, reading, picture, truth or {})
        return now_seen, now_seen.answer(*asked)

    def answer(seen: Seen | None, *asked: Any) -> Any:
        """Answer the picture again, as asked now."""
        return gr.skip() if seen is None else seen.answer(*asked)

    def press(event: gr.EventData, seen: Seen | None, *asked: Any) -> tuple[Any, Any]:
        """Show what another class's score looked at."""
        if seen is None:
            return gr.skip(), gr.skip()
        task, code = event.index
        now_seen = seen.look_at(int(task), int(code))
        return now_seen, now_seen.answer(*asked)

    newest.change(
        show,
        [shown, choice, picture],
        [shown, examples, *asked, seen, result],
        queue=False,
        preprocess=False,
        **quiet,
    )
    # The file itself goes to the network, as it does through the API: nothing re-encodes it.
    uploading = picture.input(
        read,
        [picture, choice, *asked],
        [seen, result],
        preprocess=False,
        js=_WHAT_IS_SHOWN,
        **reading,
    )
    picking = examples.select(pick, [choice, *asked], [picture, seen, result], **reading)
    fresh = take_truths(service, truth, newest, choice, seen, asked)
    for another in (uploading, picking):
        another.then(fresh, choice, truth, queue=False, **quiet)
    result.select(
        press, [seen, *asked], [seen, result], queue=False, trigger_mode="always_last", **quiet
    )
    for control in asked:
        control.input(
            answer, [seen, *asked], result, queue=False, trigger_mode="always_last", **quiet
        )


def add_predict_endpoint(service: Service) -> None:
    """``/predict`` for programs that speak to the page as ``gradio_client`` does."""

    def predict(
        image: dict,
        alpha: float | None = None,
        score: str | None = None,
        taxonomy: str | None = None,
    ) -> dict:
        """Prediction sets of one picture, as `python -m app predict` prints them."""
        classifier = classifier_of(service)
        try:
            reading = _read(service, classifier, uploaded(image))
            if isinstance(reading, Exception):
                raise SuresetError(str(reading))
            answer = classifier.answer(reading, alpha, score, taxonomy)
        except SuresetError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except ValueError as error:
            raise gr.Error(f"{error}.", print_exception=False) from error
        service.meters.answered(answer)
        return {"image": image.get("orig_name") or "", **answer}

    gr.api(predict, api_name="predict", concurrency_limit=None)


def classifier_of(service: Service, choice: Choice = IN_SERVICE) -> Classifier:
    """The classifier that answers; without one, the page shows why as a message."""
    try:
        return service.classifier(choice)
    except SuresetError as error:
        raise gr.Error(str(error), print_exception=False) from error


def _read(service: Service, classifier: Classifier, picture: Path) -> Reading | PictureError:
    """What the network makes of a picture; of a file that is larger than one may be, nothing.

    Raises:
        Busy: there is no room for it.
    """
    if picture.stat().st_size > MOST_BYTES:
        return PictureError(f"it is larger than {MOST_BYTES // 2**20} MB")
    [reading] = service.read(classifier, [picture])
    return reading


def uploaded(file: dict[str, Any]) -> Path:
    """The path of an uploaded file. A client names it, so it is believed only in that folder."""
    path = Path(file.get("path") or "").resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
        raise gr.Error("Upload the picture first.", print_exception=False)
    return path
