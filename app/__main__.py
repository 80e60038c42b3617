"""``python -m app``: without a command the web UI, with one that command."""

from app.cli import main

if __name__ == "__main__":
    main()
