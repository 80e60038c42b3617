"""Track a training run with Weights & Biases: on its server with a key, in a folder without.

W&B looks on. Its key is checked before any work; whatever else goes wrong with it, in the network,
the server or its own process, is said in one line and leaves the training as it is.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from secrets import token_hex
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

from app.disk import writing
from app.errors import SuresetError
from app.progress import say
from app.settings import Settings

if TYPE_CHECKING:
    from wandb import Run

#: Seconds the server may take to open a run, and again to take the last of it: fewer than a run has
#: that is told to stop before it is ended for good, whatever W&B still waits for (app.stopping).
_PATIENCE = 5.0

#: A line to the server that brings fewer bytes a second than this is not waited for.
_SLOWEST = 100_000

#: A key as W&B makes them, maybe behind a self-hosted server's prefix, or a JSON web token.
_KEY = re.compile(r"\w{40,}|[^\s-]*-[\w-]{40,}|[\w-]{10,}(\.[\w-]{10,}){2}", re.ASCII)

#: Nothing is captured but what is logged: no output, code, packages, machine, banners.
_ONLY_WHAT_IS_LOGGED: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "label_disable": True,
    "quiet": True,
    "sagemaker_disable": True,
    "save_code": False,
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


def read_key(file: Path | None) -> str | None:
    """The API key in a file; None without a file, or when nothing is in it.

    Raises:
        SuresetError: the file is missing, may not be read, or holds something else.
    """
    if file is None:
        return None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SuresetError(
            f"the W&B key cannot be read from {file} ({error.strerror}): "
            "mend --wandb-key-file, or leave it out to keep the run on this machine."
        ) from error
    except UnicodeDecodeError:
        key = "binary"
    if key and not _KEY.fullmatch(key):
        # What it does hold may be a key all the same, and is not shown.
        raise SuresetError(f"{file} holds no W&B key: put the key into it, and nothing else.")
    return key or None


class Tracking:
    """A run on W&B: after ``prepare``, ``begin`` opens it, the end of ``with`` ends it."""

    def __init__(self, settings: Settings) -> None:
        """Read the key, before any work is done.

        Raises:
            SuresetError: it cannot be had from its file.
        """
        self._settings = settings
        self._folder = settings.wandb_dir.absolute()
        self._key = read_key(settings.wandb_key_file)
        self._run: Run | None = None
        self._begun = self._given_up = False

    def prepare(self) -> None:
        """Make W&B's folder, and load W&B.

        It goes before torch: its classes search all loaded modules as they are made.

        Raises:
            SuresetError: the folder cannot be written.
        """
        with writing("the files of W&B", self._settings.wandb_dir, "--wandb"):
            self._folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self._folder).close()
        import wandb.sdk.launch  # noqa: F401  The part of it that wandb.init loads.

    def begin(self, name: str, config: Mapping[str, Any]) -> None:
        """Open a run of this name; ``config`` is what decides its results."""
        # An empty variable counts as unset; W&B, which reads them too, would not have it so.
        for unset in [v for v in os.environ if v.startswith("WANDB_") and not os.environ[v]]:
            del os.environ[unset]
        os.environ |= {
            "WANDB_ERROR_REPORTING": "false",  # It would go to W&B's makers, whatever the server.
            "WANDB_SILENT": "true",
            # Not in the home folder, which a container cannot write.
            "WANDB_CACHE_DIR": str(self._folder / "cache"),
            "WANDB_CONFIG_DIR": str(self._folder / "config"),
            "WANDB_DATA_DIR": str(self._folder / "data"),
        }
        self._begun = True
        self._looking_on(self._open, name, config)

    def log(self, values: Mapping[str, Any]) -> None:
        """Add one point in time."""
        if self._run is not None:
            self._looking_on(self._run.log, dict(values))

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set what the run came to."""
        if self._run is not None:
            self._looking_on(self._run.summary.update, dict(values))

    def keep(self, bundle: Path) -> None:
        """Add a whole bundle's report and plots and, where there is a server, the bundle itself.

        Without one the bundle is not added: W&B would read all of it for a second copy or a link
        that breaks when it is moved.
        """
        if self._run is not None:
            self._looking_on(self._show, bundle / "report.html")
        if self._run is not None and not self._run.offline:
            self._looking_on(self._send, bundle)

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._begun:
            self._looking_on(self._close, _status(error))

    def _open(self, name: str, config: Mapping[str, Any]) -> None:
        import wandb

        number = token_hex(6)

        def opened(mode: Literal["online", "offline"], **access: Any) -> Run:
            settings = wandb.Settings(
                **_ONLY_WHAT_IS_LOGGED,
                **access,
                root_dir=str(self._folder),
                use_dot_wandb=False,
                project=self._settings.wandb_project,
                entity=self._settings.wandb_entity,
                run_id=number,
                run_name=name,
                init_timeout=_PATIENCE,
                finish_timeout=_PATIENCE,
                finish_timeout_raises=True,
            )
            return wandb.init(mode=mode, config=dict(config), settings=settings)

        why = "no key"
        if self._key:
            base_url = self._settings.wandb_base_url
            server = {"base_url": base_url} if base_url else {}
            try:
                self._run = opened("online", api_key=self._key, **server)
                say(f"W&B: {self._run.url}")
            except (wandb.Error, ValueError) as error:
                why = self._without_key(str(error).splitlines()[0])
                wandb.teardown()  # It would not open a run of the same number again.
                for failed in self._folder.glob(f"wandb/run-*-{number}"):
                    shutil.rmtree(failed)
        if self._run is None:
            self._run = opened("offline")
            say(f"W&B: kept here ({why}), {self._upload()} uploads it")
        for fitted in ("network", "taskwise", "joint"):
            self._run.define_metric(f"{fitted}/*", step_metric=f"{fitted}/epoch")

    def _show(self, report: Path) -> None:
        import wandb

        from app.report.page import plots_of

        assert self._run is not None
        plots = {
            # W&B makes names of files of it, and a task may be called anything.
            "plots/" + re.sub(r"\W+", " ", shows).strip(): wandb.Html(
                svg, inject=False, data_is_not_path=True
            )
            for shows, svg in plots_of(report).items()
        }
        self._run.log({"report": wandb.Html(str(report), inject=False), **plots})

    def _send(self, bundle: Path) -> None:
        """Upload a bundle, and wait for it."""
        import wandb

        assert self._run is not None
        size = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
        name = re.sub(r"[^\w.-]+", "-", bundle.name, flags=re.ASCII)[:120]
        facts = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        artifact = wandb.Artifact(name, type="model", metadata=facts)
        say(f"W&B: sending the bundle ({size / 1e6:.0f} MB), Ctrl-C leaves it out")
        try:
            with tempfile.TemporaryDirectory() as elsewhere:
                # The server is told where files lie, which is nobody's business.
                place = Path(elsewhere, "bundle")
                place.symlink_to(bundle.resolve())
                # Nobody writes into a bundle: it is sent from where it lies, without a copy.
                artifact.add_dir(str(place), skip_cache=True, policy="immutable")
                self._run.log_artifact(artifact)
                artifact.wait(timeout=round(_PATIENCE + size / _SLOWEST))
        except (wandb.Error, ValueError) as error:
            why = self._without_key(" ".join(str(error).split()))
            say(f"W&B: the bundle did not arrive ({why}); it is in {bundle}")
        except (KeyboardInterrupt, SystemExit):
            say(f"W&B: the bundle is left out; it is in {bundle}")
            raise

    def _close(self, status: int) -> None:
        """End the run, and the process of W&B's that it was handed to."""
        import wandb

        try:
            if self._run is not None:
                self._run.finish(status)
        except BaseException as error:  # Also where a stop cuts it short.
            say(f"W&B: not all numbers arrived in time, {self._upload()} uploads the rest of them")
            if not isinstance(error, TimeoutError):
                raise
        finally:
            wandb.teardown(status)

    def _upload(self) -> str:
        """The command that uploads what of the run is on this machine only."""
        assert self._run is not None
        folder = Path(self._run.settings.sync_dir).relative_to(self._folder)
        url = self._settings.wandb_base_url
        server = f"WANDB_BASE_URL={url} " if url else ""
        return f"`{server}wandb sync {quote(str(self._settings.wandb_dir / folder))}`"

    def _without_key(self, text: str) -> str:
        """A text without the key, and without the form in which it is sent."""
        if self._key:
            sent = base64.b64encode(f"api:{self._key}".encode()).decode()
            text = text.replace(self._key, "the key").replace(sent, "the key")
        return text

    def _looking_on(self, step: Callable[..., object], *arguments: Any) -> None:
        """Take a step with W&B, and go on without it where that fails."""
        try:
            step(*arguments)
        except Exception as error:
            if not self._given_up:
                why = self._without_key(" ".join([type(error).__name__, *str(error).split()]))
                say(f"W&B: given up ({why}), the training goes on")
            self._run, self._given_up = None, True


def _status(error: BaseException | None) -> int:
    """The exit status of a run that ends in this error."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    return 0 if error is None else 1
