"""WebP, AVIF and JPEG XL: their encoders need the whole image; FileFormat says how much memory that is."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from linfusion_cli.file_formats import FileSettings
from linfusion_cli.geometry import Size
from linfusion_cli.output.formats.colour import icc_profile
from linfusion_cli.output.formats.exif_xmp import exif_of, xmp_packet
from linfusion_cli.output.formats.strips import Rows

WEBP_METHOD, WEBP_LOSSLESS_METHOD = 4, 2  # of 6: the best speed for a size within a few percent
AVIF_SPEED = 8  # of 10
JXL_EFFORT, JXL_LOSSLESS_EFFORT = 4, 3  # of 9


def write_whole(sink: Any, size: Size, settings: FileSettings, texts: Mapping[str, str], rows: Iterator[Rows]) -> None:
    """Gathers the rows and writes them in settings.format."""
    from PIL import Image

    image, top = Image.new("RGB", (size.width, size.height)), 0
    for piece in rows:
        image.paste(Image.fromarray(piece), (0, top))
        top += len(piece)
    metadata = {"exif": exif_of(texts, settings.dpi).tobytes(), "xmp": xmp_packet(texts)}
    name, options = _OPTIONS[settings.format.name](settings)
    image.save(sink, name, **options, **metadata)


def _webp(settings: FileSettings) -> tuple[str, dict[str, Any]]:
    icc = {"icc_profile": icc_profile(settings.color_profile)}
    if settings.lossless:
        return "WEBP", {"lossless": True, "exact": True, "method": WEBP_LOSSLESS_METHOD, **icc}
    return "WEBP", {"quality": settings.quality, "method": WEBP_METHOD, **icc}


def _avif(settings: FileSettings) -> tuple[str, dict[str, Any]]:
    icc = {"icc_profile": icc_profile(settings.color_profile)}
    return "AVIF", {"quality": settings.quality, "subsampling": "4:4:4", "speed": AVIF_SPEED, **icc}


def _jxl(settings: FileSettings) -> tuple[str, dict[str, Any]]:
    importlib.import_module("pillow_jxl")  # registers itself with Pillow
    effort = JXL_LOSSLESS_EFFORT if settings.lossless else JXL_EFFORT
    quality = {} if settings.lossless else {"quality": settings.quality}
    return "JXL", {"lossless": settings.lossless, "effort": effort, "use_container": True, **quality}


_OPTIONS: Mapping[str, Callable[[FileSettings], tuple[str, dict[str, Any]]]] = {
    "webp": _webp,
    "avif": _avif,
    "jxl": _jxl,
}
