"""Which images a batch shows, in which order, and what stands in for a broken one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from linfusion_cli.distill.batches import Order, Reader, prefetched
from linfusion_cli.distill.datasets import open_source
from linfusion_cli.errors import UsageError


def reader(place: Path, **changes: object) -> Reader:
    source = open_source(str(place), 64, 0)
    given = {"batch_size": 4, "size_px": 64, "seed": 0, "empty_captions": 0.0, **changes}
    return Reader(source, Order(source.blocks, 0), **given)  # type: ignore[arg-type]


def test_an_image_cut_short_is_replaced_and_named(folder: Path) -> None:
    path = folder / "deeper" / "080.png"
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    from PIL import Image

    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])  # the header is whole, the image is not
    read = [reader(folder, batch_size=6).read(index) for index in range(2)]
    assert all(len(examples.captions) == 6 and "shade 80" not in examples.captions for examples in read)
    assert all("080.png: OSError" in examples.skipped[0] for examples in read)


def test_images_that_all_break_later_are_an_error(folder: Path) -> None:
    broken = reader(folder)
    for path in folder.rglob("*.png"):
        path.unlink()
    with pytest.raises(UsageError, match="none of the 6 images can be read"):
        broken.read(0)


@pytest.mark.parametrize("blocks", [(7,), (3, 1, 5)])
def test_every_image_is_shown_once_per_epoch(blocks: tuple[int, ...]) -> None:
    order, count = Order(blocks, 5), sum(blocks)
    epochs = [[order(epoch * count + place) for place in range(count)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert [Order(blocks, 5)(position) for position in range(count)] == epochs[0]


def test_reading_ahead_changes_nothing(folder: Path) -> None:
    plain = reader(folder)
    ahead = list(prefetched(plain.read, range(2, 9), threads=3))
    for index, examples in zip(range(2, 9), ahead, strict=True):
        alone = reader(folder).read(index)
        assert torch.equal(alone.images, examples.images)
        assert alone.captions == examples.captions


def test_squares_and_ids(folder: Path) -> None:
    examples = reader(folder, size_px=72).read(0)
    assert examples.images.shape == (4, 3, 72, 72)
    assert examples.ids[0, :2].tolist() == [72, 80]
    assert examples.ids[0, 4:].tolist() == [72, 72]
    shade = int(examples.captions[0].split()[1])
    assert torch.allclose(examples.images[0], torch.tensor(shade / 127.5 - 1), atol=1e-6)


def test_captions_are_left_empty_as_often_as_asked(folder: Path) -> None:
    captions = [caption for index in range(50) for caption in reader(folder, empty_captions=0.25).read(index).captions]
    assert 0.15 < captions.count("") / len(captions) < 0.35
