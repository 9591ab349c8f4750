"""The pixels of a user's image: what is read, and how a file that went wrong since the plan is named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.errors import UsageError
from linfusion_cli.geometry import Size
from linfusion_cli.images.decoding_memory import DECODED_BYTES
from linfusion_cli.images.input_image import InputImage, read_pixels


def saved(path: Path, colour: tuple[int, int, int] = (9, 8, 7)) -> InputImage:
    import hashlib

    Image.new("RGB", (6, 4), colour).save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return InputImage(path=path, sha256=digest, size=Size(6, 4), number_bytes=1, notes=())


def test_the_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    pixels = read_pixels(saved(tmp_path / "a.png"), "ip_images")
    assert (pixels.shape, pixels.dtype) == ((4, 6, 3), np.uint8)
    assert (pixels == (9, 8, 7)).all()


@pytest.mark.parametrize("number_bytes", [1, 2, 4])
def test_reading_takes_its_pixels_and_the_decoder(tmp_path: Path, number_bytes: int) -> None:
    image = replace(saved(tmp_path / "a.png"), number_bytes=number_bytes)
    assert image.held_bytes == 3 * 24 * number_bytes
    assert image.reading_bytes == (3 + DECODED_BYTES) * 24 * number_bytes


def test_a_file_that_changed_is_named(tmp_path: Path) -> None:
    image = saved(tmp_path / "a.png")
    saved(image.path, (1, 2, 3))
    with pytest.raises(UsageError, match=r"a\.png changed since the job was made") as caught:
        read_pixels(image, "control_images")
    assert str(caught.value).startswith("control_images ")


def test_a_file_that_is_gone_or_damaged_is_named(tmp_path: Path) -> None:
    image = saved(tmp_path / "a.png")
    image.path.write_bytes(image.path.read_bytes()[:60])
    with pytest.raises(UsageError, match=r"a\.png"):
        read_pixels(image, "ip_images")
    image.path.unlink()
    with pytest.raises(UsageError, match=r"a\.png: there is no such file"):
        read_pixels(image, "ip_images")
