"""Training sets of a few images, for the tests that train."""

from multiprocessing.pool import ThreadPool
from types import SimpleNamespace

import pytest

from linfusion_cli.landscapes import data
from linfusion_cli.landscapes.data import Bucket


@pytest.fixture
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few images, rendered by threads: a process for each bucket would import torch anew."""
    from linfusion_cli.landscapes import train_autoencoder, train_denoiser  # they import diffusers: seconds

    monkeypatch.setattr(
        train_autoencoder, "BUCKETS", (Bucket(128, 128, 8, windows=False), Bucket(512, 512, 2, windows=True))
    )
    monkeypatch.setattr(
        train_denoiser, "BUCKETS", tuple(Bucket(64, 64, 8, windows=index > 2, halves=index > 2) for index in range(6))
    )
    monkeypatch.setattr(data.multiprocessing, "get_context", lambda kind: SimpleNamespace(Pool=ThreadPool))
