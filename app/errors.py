"""The one exception a person is meant to read."""


class SuresetError(Exception):
    """A condition the user can act on: its text is one sentence that says what to do.

    The command line prints it without a traceback and exits with status 1; the HTTP API answers it
    as JSON. Anything else that is raised is a defect and keeps its traceback.
    """
