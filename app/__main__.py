"""``python -m app``: without a command the web UI, with one that command."""

from app.stopping import end_when_told_to

if __name__ == "__main__":
    end_when_told_to()  # From the first moment: what follows takes a while to load.

    from app.cli import main

    main()
