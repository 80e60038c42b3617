"""Say how far a long step is: a bar on a terminal, plain lines without one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

#: Everything said to a person goes to standard error; standard output is for results.
console = Console(stderr=True, highlight=False, soft_wrap=True)

_SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def silence() -> Iterator[None]:
    """Say nothing of what another process says as well."""
    console.quiet = True
    try:
        yield
    finally:
        console.quiet = False


def printable(text: str) -> str:
    """What a terminal may be given: anything else as Python writes it in a string."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def say(text: str) -> None:
    """Print one line of narration, in which anybody's names may be."""
    console.print(printable(text), markup=False)


@contextmanager
def progress(what: str, total: int, unit: str = "pictures") -> Iterator[Callable[[int], None]]:
    """Yield ``advance(n)``, to be called as ``total`` units of ``what`` get done."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(what, total=total)
            yield lambda n: bar.advance(task, n)
        return

    started = last = time.monotonic()
    done = 0

    def advance(n: int) -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES and 0 < done < total:
            last = now
            left = (now - started) / done * (total - done)
            say(f"{what}: {done}/{total} {unit}, {left:.0f} s left")

    yield advance
    say(f"{what}: {done}/{total} {unit} in {time.monotonic() - started:.1f} s")
