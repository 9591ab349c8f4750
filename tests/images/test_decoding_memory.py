"""What takes more memory than is free is refused before it is decoded, by format, number and what is free."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from linfusion_cli.config.input_images import inspect_image
from linfusion_cli.geometry import Size
from linfusion_cli.images import decoding_memory
from linfusion_cli.images.decoding_memory import CODEC_BYTES, DECODED_BYTES, check_free, reading_bytes
from linfusion_cli.images.errors import ImageError

SIZE = Size(100, 100)


def test_a_decoder_that_holds_more_counts_with_the_pixels() -> None:
    assert reading_bytes("PNG", 1, SIZE) == (3 + DECODED_BYTES) * SIZE.area
    assert reading_bytes("WEBP", 1, SIZE) == (3 + CODEC_BYTES["WEBP"]) * SIZE.area
    assert reading_bytes("JXL", 4, SIZE) == (12 + 4 * DECODED_BYTES) * SIZE.area


def test_what_is_more_than_free_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = reading_bytes("WEBP", 1, SIZE)
    monkeypatch.setattr(decoding_memory, "ram_bytes", lambda: (10 * needed, needed))
    check_free("WEBP", 1, SIZE)
    monkeypatch.setattr(decoding_memory, "ram_bytes", lambda: (10 * needed, needed - 1))
    with pytest.raises(ImageError, match=r"has 100x100 pixels; WEBP is decoded whole, which takes 0\.0 GB.* are free"):
        check_free("WEBP", 1, SIZE)


@pytest.mark.parametrize("name", ["PNG", "WEBP"])
def test_a_plan_counts_the_decoder_of_the_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    Image.new("RGB", (SIZE.width, SIZE.height)).save(path, name, lossless=True)
    assert inspect_image(path, "init_image").reading_bytes == reading_bytes(name, 1, SIZE)
