"""Opens image files with Pillow by what they hold, whatever their names say; decodes nothing."""

from __future__ import annotations

import importlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from linfusion_cli.images.deep_tiff import SEPARATE, DeepTiff, open_deep_tiff
from linfusion_cli.images.errors import DECODER_ERRORS, ImageError
from linfusion_cli.images.kinds import ALLOWED, FORMATS, HEAD_BYTES, PLUGINS, format_of, name_of
from linfusion_cli.png_chunks import chunks_of, whole
from linfusion_cli.system.process_setup import lift_pixel_limit

LARGEST_PIXELS = 512_000_000  # a limit of our own against decompression bombs; Pillow's is below a 16K image
ORIENTATION = 0x0112
BITS, PLANAR = 258, 284  # tags of TIFF 6.0
TURNED = (5, 6, 7, 8)  # orientations that exchange width and height
EXIF_BYTES = 16 << 20  # of a PNG's EXIF data that are read
JPEG_END = b"\xff\xd9"
TAIL_BYTES = 1 << 16


@contextmanager
def opened(path: Path, filler: bytes = b"") -> Iterator[Any]:
    """The image in a regular file, not decoded yet, with our own limit on its pixels instead of Pillow's.

    A JPEG without an end marker gets one, behind `filler`. Raises ImageError for what is no image that can be read,
    FileNotFoundError and PermissionError as they are.
    """
    from PIL import Image

    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    _check_kind(head)
    lift_pixel_limit()
    source: Any = io.BytesIO(path.read_bytes() + filler + JPEG_END) if lacks_jpeg_end(path) else path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about odd metadata
            image = Image.open(source, formats=_formats(format_of(head)))
    except Image.DecompressionBombError as error:  # of a host process that keeps Pillow's limit
        limit = f"Pillow's limit in this process, {Image.MAX_IMAGE_PIXELS} pixels (PIL.Image.MAX_IMAGE_PIXELS)"
        raise ImageError(f"is larger than twice {limit}") from error
    except DECODER_ERRORS as error:
        if deep := open_deep_tiff(path) if format_of(head) == "TIFF" else None:
            _check_size(deep)
            yield deep
            return
        raise ImageError(_unreadable(head)) from error
    with image, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _check_size(image)
        if _has_deep_planes(image) and (deep := open_deep_tiff(path)):
            yield deep
            return
        _keep_from_mapping(image)
        yield image


def _has_deep_planes(image: Any) -> bool:
    """Whether a TIFF has each channel apart, of more than 8 bits: Pillow opens it, and reads it wrongly."""
    if image.format != "TIFF" or image.tag_v2.get(PLANAR) != SEPARATE:
        return False
    return bool(max(image.tag_v2.get(BITS, (1,))) > 8)


def _keep_from_mapping(image: Any) -> None:
    """Pillow (13.0) maps uncompressed TIFF images of one strip with the size that they have once turned: garbled.

    Without a file name it reads them instead.
    """
    if image.format == "TIFF" and image.tag_v2.get(ORIENTATION) in TURNED:
        image.filename = ""


def _formats(name: str) -> tuple[str, ...]:
    return ("JPEG", "MPO") if name == "JPEG" else (name,)


def _check_kind(head: bytes) -> None:
    """Raises ImageError unless it is a format that is read and whose plugin is here."""
    name = format_of(head)
    if name not in FORMATS:
        raise ImageError(f"is {name_of(head)}. Allowed: {ALLOWED}")
    if name in PLUGINS:
        _register(name)


def _register(name: str) -> None:
    module, extra = PLUGINS[name]
    try:
        plugin = importlib.import_module(module)
    except ImportError as error:
        what = name_of({"HEIF": b"\0\0\0\x0cftypheic", "JXL": b"\xff\x0a"}[name])
        raise ImageError(f'is {what}, which needs a plugin: pip install "linfusion-cli[{extra}]"') from error
    if name == "HEIF":
        plugin.register_heif_opener()


def _unreadable(head: bytes) -> str:
    name = format_of(head)
    if name == "TIFF":
        if importlib.util.find_spec("tifffile") is None:
            advice = 'Float colours need: pip install "linfusion-cli[tiff]"; or save it as'
        else:
            advice = "Save it as"
        return (
            f"is a TIFF image of a layout that is not read, or damaged. {advice} RGB or grey, 8 or 16 bits per channel"
        )
    return f"begins as {name_of(head)}, but is damaged"


def _check_size(image: Any) -> None:
    if not image.width or not image.height:
        raise ImageError("has no pixels")
    if image.width * image.height > LARGEST_PIXELS:
        limit = f"at most {LARGEST_PIXELS // 1_000_000} megapixels are read"
        raise ImageError(f"says it has {image.width}x{image.height} pixels; {limit}. Make it smaller first")


def lacks_jpeg_end(path: Path) -> bool:
    """Whether a file begins as a JPEG and has no end marker in its last bytes."""
    with path.open("rb") as file:
        if file.read(3) != b"\xff\xd8\xff":
            return False
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return JPEG_END not in file.read()


def orientation_of(image: Any, path: Path) -> int:
    """The EXIF orientation, 1 to 8, that decoding does not apply by itself.

    Pillow turns the TIFF images that it opens when it decodes them, and the plugins turn HEIC and JPEG XL. A PNG's
    chunks are walked: Pillow would decode the whole image to find an eXIf chunk behind the pixels.
    """
    if isinstance(image, DeepTiff):
        return image.orientation if 1 <= image.orientation <= 8 else 1
    if image.format in ("TIFF", "HEIF", "JXL"):
        return 1
    with suppress(*DECODER_ERRORS):  # damaged tags turn nothing
        found = int(_exif(image, path).get(ORIENTATION, 1))
        return found if 1 <= found <= 8 else 1
    return 1


def _exif(image: Any, path: Path) -> Any:
    from PIL import Image

    if image.format != "PNG" or "exif" in image.info:
        return image.getexif()
    exif = Image.Exif()
    with path.open("rb") as file:
        found = next((chunk for chunk in chunks_of(file) if chunk.kind == b"eXIf"), None)
        if found:
            exif.load(whole(file, found, EXIF_BYTES))
    return exif


def has_alpha(image: Any) -> bool:
    """Whether any pixel may be transparent."""
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
