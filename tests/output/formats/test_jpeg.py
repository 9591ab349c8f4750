"""A JPEG of strips has the very bytes that Pillow writes for the whole image, whatever the pieces."""

import io

from format_samples import TEXTS, image_of, in_pieces, settings_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from linfusion_cli.geometry import Size
from linfusion_cli.output.formats.colour import icc_profile
from linfusion_cli.output.formats.exif_xmp import exif_of, xmp_packet
from linfusion_cli.output.formats.jpeg import jpeg_bytes, write_jpeg


@given(st.integers(1, 150), st.integers(1, 300), st.lists(st.integers(1, 90), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_strips_join_into_what_pillow_writes(width: int, height: int, heights: list[int]) -> None:
    size = Size(width, height)
    image, chosen, sink = image_of(size), settings_of("jpeg", size, quality=90, dpi=72), io.BytesIO()
    write_jpeg(sink, size, chosen, TEXTS, in_pieces(image, tuple(heights)))
    whole = io.BytesIO()
    Image.fromarray(image).save(
        whole, "JPEG", quality=90, subsampling=0, restart_marker_rows=1, dpi=(72, 72), xmp=xmp_packet(TEXTS),
        exif=exif_of(TEXTS, 72).tobytes(), icc_profile=icc_profile("srgb"),
    )  # fmt: skip
    assert sink.getvalue() == whole.getvalue()


def test_a_tile_is_a_small_jpeg() -> None:
    with Image.open(io.BytesIO(jpeg_bytes(image_of(Size(20, 10)), settings_of("jpeg", Size(20, 10))))) as image:
        assert image.size == (20, 10)
