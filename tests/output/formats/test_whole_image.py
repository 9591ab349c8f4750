"""Formats whose encoders need the whole image say how much memory that takes."""

import io

import numpy as np
import pytest
from format_samples import TEXTS, image_of, in_pieces, settings_of
from PIL import Image

from linfusion_cli.geometry import Size
from linfusion_cli.output.formats.whole_image import write_whole


@pytest.mark.parametrize("quality", [50, 95])
@pytest.mark.parametrize("name", ["webp", "avif"])
def test_quality_is_used(name: str, quality: int) -> None:
    size = Size(64, 48)
    sink, image = io.BytesIO(), image_of(size)
    write_whole(sink, size, settings_of(name, size, quality=quality), TEXTS, in_pieces(image))
    with Image.open(io.BytesIO(sink.getvalue())) as found:
        error = np.abs(np.asarray(found.convert("RGB")).astype(int) - image).mean()
    assert (error <= 2) if quality == 95 else (error > 0.5)


def test_memory_grows_with_the_area() -> None:
    small, large = Size(1024, 1024), Size(2048, 1024)
    for name in ("webp", "avif", "jxl"):
        settings = settings_of(name, small)
        assert settings.held_bytes(large) > settings.held_bytes(small) > 4 * small.area
    assert settings_of("jpeg", small).held_bytes(large) == 0
