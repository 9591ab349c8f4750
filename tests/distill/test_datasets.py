"""Where images come from: every container gives the same ones, and what can't be used is counted and named."""

from pathlib import Path

import numpy as np
import pytest

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
    assert reasons["080.png"].startswith("it is not an image")
    assert reasons["120.png"].startswith("its caption can't be read")


def test_nothing_usable_is_an_error_that_names_the_first(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"no image with a caption could be read(.|\n)*000\.png: it is not an image"):
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


def test_scenes_are_the_same_for_the_same_number() -> None:
    first, second = (open_source("scenes", 32, 4).read(17) for _ in range(2))
    assert first[1] == second[1]
    assert np.array_equal(np.asarray(first[0]), np.asarray(second[0]))
    assert first[0].size == (32, 32)
