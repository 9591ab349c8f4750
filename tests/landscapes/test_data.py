"""A bucket's images depend on its seed alone: not on the process, and not on how many are rendered."""

from multiprocessing.pool import ThreadPool
from types import SimpleNamespace

import pytest
import torch

from linfusion_cli.landscapes import data
from linfusion_cli.landscapes.data import Bucket, Effort, Images, gather, render_bucket

CPU = torch.device("cpu")


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads instead of processes, each of which would import torch anew."""
    monkeypatch.setattr(data.multiprocessing, "get_context", lambda kind: SimpleNamespace(Pool=ThreadPool))


@pytest.mark.slow
def test_another_process_renders_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.os, "cpu_count", lambda: 1)
    bucket = Bucket(16, 24, 6, windows=True)
    first, second = gather(render_bucket(bucket, 3, CPU)), data._render_batch((bucket, 3, 0))
    assert torch.equal(first.images, second.images)
    assert first.captions == second.captions
    assert first.images.shape == (6, 3, 16, 24)


@pytest.mark.usefixtures("threads")
def test_a_bucket_has_its_count_in_batches_of_different_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "BATCH", 4)
    parts = list(render_bucket(Bucket(8, 8, 10, windows=False), 0, CPU))
    assert [len(part.images) for part in parts] == [4, 4, 2]
    assert [len(part.captions) for part in parts] == [4, 4, 2]
    whole = gather(iter(parts))
    assert whole.images.dtype == torch.uint8
    assert len({image.numpy().tobytes() for image in whole.images}) == 10


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("windows", [False, True])
def test_a_seed_gives_its_images_and_another_seed_others(windows: bool) -> None:
    bucket = Bucket(8, 12, 3, windows=windows)
    first, again, other = (gather(render_bucket(bucket, seed, CPU)) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert first.captions == again.captions
    assert first.windows is windows
    assert not torch.equal(first.images, other.images)


def test_gathered_batches_keep_their_order() -> None:
    parts = [
        Images(
            torch.full((1, 3, 2, 2), level, dtype=torch.uint8),
            torch.full((1, 3, 1, 1), level, dtype=torch.uint8),
            torch.full((1, 3), float(level)),
            (str(level),),
            windows=True,
        )
        for level in (5, 3)
    ]
    whole = gather(iter(parts))
    assert whole.images[:, 0, 0, 0].tolist() == [5, 3]
    assert whole.halves is not None
    assert whole.halves.flatten(1)[:, 0].tolist() == [5, 3]
    assert whole.discs[:, 0].tolist() == [5.0, 3.0]
    assert whole.captions == ("5", "3")
    assert whole.windows


def test_more_effort_is_more_images_and_another_run() -> None:
    assert Bucket(8, 16, 3, windows=True).times(4) == Bucket(8, 16, 12, windows=True)
    accelerator = SimpleNamespace()
    assert Effort(accelerator).identity() != Effort(accelerator, scenes=2).identity()  # type: ignore[arg-type]
