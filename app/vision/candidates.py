"""What a head may look like and how it may be fitted, and which of these are tried.

The lists are fixed, and the most promising comes first: the choice is the validation split's.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """One way to fit a softmax.

    Attributes:
        rate: AdamW's learning rate.
        decay: AdamW's weight decay, of the weights; biases are left alone, as an intercept is.
        width: units of the hidden layer, 0 for a linear softmax.
        dropout: share of the hidden units that are left out at a training step.
    """

    rate: float
    decay: float
    width: int = 0
    dropout: float = 0.0


@dataclass(frozen=True)
class Search:
    """The candidates, and how long they are fitted side by side.

    Attributes:
        candidates: the first is what is fitted without a search.
        seconds: after these, of each softmax only the candidate that leads goes on.
        epochs, patience: a candidate ends after ``epochs``, or when for ``patience`` of them its
            validation loss has not fallen.
    """

    candidates: tuple[Candidate, ...]
    seconds: float
    epochs: int = 60
    patience: int = 6


CANDIDATES = (
    Candidate(rate=2e-3, decay=2.0, width=256, dropout=0.7),
    Candidate(rate=2e-3, decay=2.0),
    Candidate(rate=4e-3, decay=1.0, width=128, dropout=0.5),
)

#: The head of github.com/tmb2k01/multioutput-conformal: an MLP for each softmax, AdamW with its
#: defaults. (Features are standardised here, and were not there.)
THESIS = Search((Candidate(rate=1e-3, decay=0.01, width=512, dropout=0.5),), 0.0, 30, 5)


def search_for(recipe: str, seconds: float) -> Search:
    """What ``--recipe`` and ``--search`` ask for; ``seconds`` are those of all heads together."""
    if recipe == "thesis":
        return THESIS
    return Search(CANDIDATES if seconds > 0 else CANDIDATES[:1], seconds)
