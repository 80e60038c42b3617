"""Under a picture: tell which classes are true."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from app.errors import SuresetError
from app.web import monitoring
from app.web.served import Choice
from app.web.service import Service

#: What is not told is not sent.
_SEND = """
element.addEventListener("submit", (event) => {
  event.preventDefault();
  const told = [...new FormData(event.target)].filter(([, name]) => name);
  trigger("submit", {truth: told});
});
"""


def truth_form() -> gr.HTML:
    """The form, where it is to stand."""
    return gr.HTML(elem_id="tell", js_on_load=_SEND, apply_default_css=False)


def take_truths(
    service: Service,
    form: gr.HTML,
    newest: gr.State,
    choice: gr.State,
    seen: gr.State,
    asked: Sequence[Any],
) -> Callable[[Choice], str]:
    """What the form does, for the picture in ``seen`` and what was ``asked`` of it.

    ``newest`` changes when this page answers with another bundle; ``choice`` is what it was asked
    for.

    Returns:
        What the form is for another picture.
    """
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def fresh(chosen: Choice) -> str:
        classifier = service.answering(chosen)
        return "" if classifier is None else monitoring.truth_form(classifier.classes)

    def tell(
        event: gr.EventData, request: gr.Request, chosen: Choice, seen: Any, *asked: Any
    ) -> str:
        """Keep the truth of what was ``Seen``, and say so."""
        if seen is None:
            classifier = service.answering(chosen)
            classes = {} if classifier is None else classifier.classes
            return monitoring.truth_form(classes, "Choose a picture first.", wrong=True)
        classes = seen.classifier.classes
        who = getattr(request.state, "who", None)
        method = dict(zip(("alpha", "score", "taxonomy"), asked, strict=True))
        try:
            kept, _ = service.watch.keep(
                seen.classifier,
                seen.reading,
                seen.picture.read_bytes(),
                dict(event.truth),
                who,
                method,
            )
        except SuresetError as error:
            return monitoring.truth_form(classes, str(error), wrong=True)
        except OSError:
            return monitoring.truth_form(classes, "Choose the picture again.", wrong=True)
        except ValueError as error:
            return monitoring.truth_form(classes, f"{error}.", wrong=True)
        said = "Thank you, it was kept" + (
            " in place of what was told before." if kept.again else "."
        )
        return monitoring.truth_form(classes, said)

    form.submit(tell, [choice, seen, *asked], form, **quiet)
    newest.change(fresh, choice, form, queue=False, **quiet)
    return fresh
