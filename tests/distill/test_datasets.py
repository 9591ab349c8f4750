"""Where images come from: every container gives the same ones, and what can't be used is counted and named."""

from pathlib import Path

import numpy as np
import pytest
import torch

from linfusion_cli.distill.batches import Order, Reader, prefetched
from linfusion_cli.distill.datasets import open_source
from linfusion_cli.errors import UsageError


def contents(place: Path) -> dict[str, int]:
    """Caption -> level of the image's first pixel."""
    source = open_source(str(place), 64, 0)
    assert source.skipped == ()
    pairs = [source.read(index) for index in range(sum(source.blocks))]
    return {caption: int(np.asarray(image)[0, 0, 0]) for image, caption in pairs}


@pytest.mark.parametrize("kind", ["folder", "shards", "parquet"])
def test_every_container_gives_the_same(kind: str, request: pytest.FixtureRequest) -> None:
    assert contents(request.getfixturevalue(kind)) == {f"shade {shade}": shade for shade in range(0, 240, 40)}


def test_one_tar_is_enough(shards: Path) -> None:
    assert set(contents(shards / "1.tar")) == {"shade 120", "shade 160", "shade 200"}


def test_a_folder_with_missing_and_broken_files_is_used_without_them(folder: Path) -> None:
    (folder / "deeper" / "000.txt").unlink()
    (folder / "deeper" / "040.txt").write_text(" \n")
    (folder / "deeper" / "080.png").write_bytes(b"no image")
    (folder / "deeper" / "120.txt").write_bytes(b"\xff\xfe\xff")
    source = open_source(str(folder), 64, 0)
    assert source.blocks == (2,)
    reasons = {line.partition(": ")[0][-7:]: line.partition(": ")[2] for line in source.skipped}
    assert reasons["000.png"] == "it has no .txt caption"
    assert reasons["040.png"] == "its caption is empty"
    assert reasons["080.png"].startswith("it is no image")
    assert reasons["120.png"].startswith("its caption can't be read")


def test_nothing_usable_is_an_error_that_names_the_first(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"no image with a caption can be read(.|\n)*000\.png: it is no image"):
        open_source(str(folder), 64, 0)


@pytest.mark.parametrize("name", ["missing", "text.csv"])
def test_what_is_no_data_says_what_is(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.csv").write_text("")
    with pytest.raises(UsageError, match=r"\.tar or \.parquet"):
        open_source(str(tmp_path / name), 64, 0)


def test_a_broken_tar_gives_what_comes_before_the_damage(shards: Path) -> None:
    data = (shards / "0.tar").read_bytes()
    (shards / "0.tar").write_bytes(data[: 4 * 1024])  # two images with their captions, 512-byte headers each
    source = open_source(str(shards), 64, 0)
    assert 3 <= sum(source.blocks) < 6


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


def test_scenes_are_the_same_for_the_same_number() -> None:
    first, second = (open_source("scenes", 32, 4).read(17) for _ in range(2))
    assert first[1] == second[1]
    assert np.array_equal(np.asarray(first[0]), np.asarray(second[0]))
    assert first[0].size == (32, 32)
