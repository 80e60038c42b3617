"""The command line: one thin function a command, its flags drawn from the settings' schema.

Commands import what they need when they run, so that ``--help`` and ``predict`` do not wait for
torch.
"""

from __future__ import annotations

import inspect
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from app.errors import SuresetError
from app.progress import say
from app.settings import METHOD, SAMPLE_SIZE, Settings, flag_name, load_settings
from app.stopping import status_if_told_to

cli = typer.Typer(
    name="sureset",
    help="Pictures in, guaranteed answers out. Without a command: the web page.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data = typer.Typer(
    help="Look at a folder of labelled pictures, and prepare it.", no_args_is_help=True
)
cli.add_typer(data, name="data")
bundle = typer.Typer(help="Look at a trained bundle.", no_args_is_help=True)
cli.add_typer(bundle, name="bundle")

_DATA = ("data_dir", "layout")
_BUNDLE = ("models_dir", "model", "cache_dir")
_WEIGHTS = ("cache_dir", "static_dir", "backbone")
_NETWORK = (*_WEIGHTS, "weights", "recipe", "runtime", "precision")
_METHOD = ("alpha", *METHOD)
_WANDB = ("wandb_dir", "wandb_key_file", "wandb_project", "wandb_entity", "wandb_base_url")
_SERVER = (
    *("models_dir", "model", "static_dir"),
    *("address", "port", "root_path", "trusted_proxies", "access_file", "log"),
    *("feedback_dir", "keep_pictures"),
)


def command(
    *names: str, of: typer.Typer = cli, called: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register ``function(settings, ...)`` as a command with the flags of the named settings.

    It is ``called`` as the function, unless given.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        def run(config: Path | None, **arguments: Any) -> None:
            flags = {name: arguments.pop(name) for name in names}
            function(load_settings(config, **flags), **arguments)

        parameters = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        for name in names:
            field = Settings.model_fields[name]
            option = typer.Option(flag_name(name), help=field.description, show_default=False)
            parameters.append(_keyword(name, Annotated[str | None, option]))
        option = typer.Option("--config", help="YAML file of settings", show_default=False)
        parameters.append(_keyword("config", Annotated[Path | None, option]))
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__doc__ = function.__doc__
        of.command(called or function.__name__)(run)
        return function

    return register


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=None, annotation=annotation)


@command("data_dir", *_WEIGHTS, "weights", "dataset", "sample_size", "seed")
def prefetch(settings: Settings) -> None:
    """Fetch pretrained weights and a data set, or write the sample set when there is no data."""
    from app.pipeline.prefetch import prefetch

    prefetch(settings)


@command("data_dir", "seed")
def sample(
    settings: Settings,
    size: Annotated[int, typer.Option(min=1, help="number of pictures")] = SAMPLE_SIZE,
    tasks: Annotated[
        str,
        typer.Option(
            help="what they are labelled by, with commas between, of colour, type, view (is the "
            "front or the rear seen, or only the side?), obstacle (what stands before the vehicle) "
            "and background (what stands behind it)"
        ),
    ] = "colour,type",
) -> None:
    """Draw vehicles, with their labels, into an empty folder."""
    from app.data.sample import write_sample

    names = list(dict.fromkeys(name.strip() for name in tasks.split(",")))
    if write_sample(settings.data_dir, size, settings.seed, names):
        say(f"{settings.data_dir}: {size} drawn vehicles, labelled by {', '.join(names)}")
    else:
        say(f"{settings.data_dir}: the sample set that was broken off there is whole now")


@command(
    *(
        *_DATA,
        "models_dir",
        "save_as",
        *_NETWORK,
        "finetune",
        "views",
        "search_s",
        "logs_dir",
        *_METHOD,
        "seed",
    ),
    *_WANDB,
)
def train(settings: Settings) -> None:
    """The whole run, from a folder of pictures to a bundle; stopped, it goes on the next time."""
    from app.pipeline.train import take_part, train
    from app.ranks import rank

    try:
        train(settings) if rank() == 0 else take_part(settings)
    except SystemExit as stopped:
        sys.exit(stopped.code or 143)  # Lightning has one of its own for SIGTERM, with no code.


@command(*_DATA, *_BUNDLE, "save_as", "runtime", "precision", *_METHOD, "feedback_dir")
def calibrate(
    settings: Settings,
    from_feedback: Annotated[
        bool, typer.Option("--from-feedback", help="on what people said of its answers")
    ] = False,
) -> None:
    """Calibrate a bundle again, with these or other pictures, into a new bundle."""
    if from_feedback:
        from app.pipeline.recalibrate import recalibrate

        recalibrate(settings)
    else:
        from app.pipeline.calibrate import calibrate

        calibrate(settings)


@command(*_DATA, *_BUNDLE, "alpha", "score", "taxonomy")
def evaluate(settings: Settings) -> None:
    """Measure a bundle on the test split of these or other pictures."""
    from app.pipeline.evaluate import evaluate

    evaluate(settings)


@command(*_DATA, *_BUNDLE, "logs_dir", "repeats", "alphas")
def experiments(settings: Settings) -> None:
    """Compare every head, space, score and taxonomy on a bundle's pictures."""
    from app.pipeline.experiments import experiments

    experiments(settings)


@command("models_dir", "model", "alpha", "score", "taxonomy")
def predict(
    settings: Settings,
    pictures: Annotated[list[Path], typer.Argument(help="picture files", show_default=False)],
) -> None:
    """Answer pictures, one JSON object a line; exit status 1 if one could not be read."""
    from app.pipeline.predict import Classifier

    classifier = Classifier.load(settings.models_dir, settings.model)
    failed = False
    for answer in classifier.predict(pictures, settings):
        failed |= "error" in answer
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    if failed:
        raise typer.Exit(1)


@command(*_SERVER)
def serve(settings: Settings) -> None:
    """Serve the web page and the HTTP API."""
    from app.web.server import serve

    serve(settings)


@command()
def access(
    settings: Settings,
    name: Annotated[str, typer.Argument(help="who it is for", show_default=False)],
) -> None:
    """Draw a key for somebody, and print the line for the file that lets it in."""
    from app.web.access import new_key

    key, line = new_key(name)
    say(f"the key of {name}, which is shown this once: {key}")
    typer.echo(line)


@command(*_NETWORK, "models_dir", "model", "seed")
def bench(
    settings: Settings,
    what: Annotated[
        Literal["pictures", "training", "serve", "data", "conformal"],
        typer.Argument(
            help="pictures: from files to features, beside the bare network; "
            "training: heads on cached features, beside a plain loop over the frozen network; "
            "serve: the HTTP API under load, beside the bare network; "
            "data: labels, files and splits of a million pictures; "
            "conformal: from probabilities to sets, beside other libraries"
        ),
    ] = "pictures",
) -> None:
    """Measure the speed of this machine beside its bounds."""
    if what == "conformal":
        from app.pipeline.bench.conformal import bench_conformal

        bench_conformal(settings.seed)
    elif what == "training":
        from app.pipeline.bench.training import bench_training

        bench_training(settings)
    elif what == "serve":
        from app.pipeline.bench.serving import bench_serving

        bench_serving(settings)
    elif what == "data":
        from app.pipeline.bench.data import bench_data

        bench_data(settings.seed)
    else:
        from app.pipeline.bench.pictures import bench_pictures

        bench_pictures(settings)


@command("cache_dir")
def cache(
    settings: Settings,
    prune: Annotated[
        int | None,
        typer.Option(
            help="remove what was computed and not used for so many days", min=1, metavar="DAYS"
        ),
    ] = None,
) -> None:
    """Say what the cache holds and how large it is; what was not fetched can be made again."""
    from app.pipeline.cache import cache

    cache(settings, prune)


@command(*_DATA, "alpha", "seed", "logs_dir", of=data)
def check(settings: Settings) -> None:
    """Say what the pictures and labels are, and what is wrong; exit status 1 if something is."""
    from app.pipeline.check import check

    if check(settings):
        raise typer.Exit(1)


@command("models_dir", "model", of=bundle, called="check")
def check_bundle(settings: Settings) -> None:
    """Verify a bundle's checksums, and its answers to its examples; exit status 1 if they moved."""
    from app.pipeline.proof import prove

    if not prove(settings):
        raise typer.Exit(1)


@command(*_DATA, *_BUNDLE, "static_dir", "backbone", "port")
def doctor(settings: Settings) -> None:
    """Say what was found here, and what to do about what is missing."""
    from app.pipeline.doctor import doctor

    doctor(settings)


@command(*_DATA, "cache_dir", "seed", of=data)
def split(settings: Settings) -> None:
    """Write the split of every picture into labels.csv, balanced over all tasks' classes."""
    from app.pipeline.split import split

    split(settings)


def main() -> None:
    """Run the command of ``sys.argv``; without one ``--train`` means train, nothing serve."""
    arguments = sys.argv[1:]
    if not arguments or (arguments[0].startswith("-") and arguments[0] != "--help"):
        name = "train" if "--train" in arguments else "serve"
        arguments = [name, *(a for a in arguments if a != "--train")]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        cli(arguments, prog_name="python -m app")
    except Exception as error:
        if (status := status_if_told_to()) is not None:
            sys.exit(status)
        if not isinstance(error, SuresetError):
            raise
        say(f"error: {error}")
        sys.exit(1)
