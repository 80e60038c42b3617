"""What needs the network or a writable data folder is done here, before training."""

from __future__ import annotations

from app.data.download import DownloadError
from app.data.filling import is_vacant
from app.data.sample import write_sample
from app.pipeline.datasets import fetch_dataset
from app.progress import say
from app.settings import DEFAULT_DATA_DIR, SAMPLE_SIZE, Settings
from app.vision.backbones import EMBEDDED, fetch_weights


def prefetch(settings: Settings) -> None:
    """Fetch the backbone's weights, and a data set or else the sample set into an empty folder.

    Raises:
        SuresetError: the weights of a backbone that was asked for by name cannot be had, or the
            data set; the data folder holds something else; or a catalogue is at fault.
    """
    try:
        if settings.weights is None:
            fetch_weights(settings.backbone, settings.cache_dir, settings.static_dir)
    except DownloadError as error:
        if settings.given("backbone"):
            raise
        say(f"{error} Training will use the embedded {EMBEDDED} instead.")

    if settings.dataset is not None:
        fetch_dataset(settings.dataset, settings.data_dir, settings.cache_dir, settings.static_dir)
        return
    size = settings.sample_size
    if size is None:
        size = SAMPLE_SIZE if settings.data_dir == DEFAULT_DATA_DIR else 0
    if size and is_vacant(settings.data_dir):
        say(f"{settings.data_dir} is empty: writing a sample set of {size} drawn vehicles into it")
        write_sample(settings.data_dir, size, settings.seed)
