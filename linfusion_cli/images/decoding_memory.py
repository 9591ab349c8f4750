"""What it takes to read an image file whole, and a check that this is free."""

from __future__ import annotations

from linfusion_cli.geometry import Size
from linfusion_cli.images.errors import ImageError
from linfusion_cli.system.device import ram_bytes

DECODED_BYTES = 8  # of Pillow's per pixel: four as decoded, four more while it is turned
CODEC_BYTES = {"WEBP": 20, "JXL": 15, "AVIF": 11, "HEIF": 15}  # per pixel, where the decoder holds more: docs/log.md


def reading_bytes(format_name: str, number_bytes: int, size: Size) -> int:
    """The memory that reading an image takes, its pixels of three numbers among it.

    format_name: Pillow's; number_bytes: of each number once it is read; size: in pixels
    """
    decoding = max(DECODED_BYTES * number_bytes, CODEC_BYTES.get(format_name, 0))
    return (3 * number_bytes + decoding) * size.area


def check_free(format_name: str, number_bytes: int, size: Size) -> None:
    """Raises ImageError for an image that takes more memory than is free on this machine, or in its container."""
    needed, free = reading_bytes(format_name, number_bytes, size), ram_bytes()[1]
    if needed > free:
        raise ImageError(
            f"has {size} pixels; {format_name} is decoded whole, which takes {needed / 1e9:.1f} GB of memory, and "
            f"{free / 1e9:.1f} GB are free. Save it as JPEG, TIFF or PNG, which are read by rows"
        )
