"""Being told to stop: what cleans up runs, as after an error, but not for ever."""

from __future__ import annotations

import os
import signal
import sys
import threading

#: Docker kills ten seconds after it told to stop.
_CLEANING_S = 9.0


#: The status to end with, once this process was told to stop.
_status: int | None = None


def status_if_told_to() -> int | None:
    """What to end with whatever went wrong, for that came of being told to stop; else None.

    Libraries make other errors of the exception: zipfile does, in the midst of writing an archive.
    """
    return _status


def end_when_told_to() -> None:
    """From now on SIGTERM and Ctrl-C end this process within ten seconds, with their status."""
    # Not as a KeyboardInterrupt, of which Lightning makes the status 1.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def _stop(number: int, _: object) -> None:
    """Leave by an exception, so that nothing stays half-written.

    It comes out of whatever line was running, maybe of one in a library that then keeps a lock for
    which the cleaning up waits in vain.
    """
    global _status
    _status = 128 + number
    end = threading.Timer(_CLEANING_S, _end, [_status])
    end.daemon = True
    end.start()
    sys.exit(_status)


def _end(status: int) -> None:
    # Neither print nor say, which may be what waits.
    os.write(2, f"stopped: what did not end within {_CLEANING_S:g} s was left\n".encode())
    os._exit(status)
