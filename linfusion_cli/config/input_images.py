"""Reads an image that a user brings: what it is before any work, and its pixels. No torch."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linfusion_cli.errors import Message, UsageError, option
from linfusion_cli.geometry import Size, bands
from linfusion_cli.png_chunks import chunks_of, whole
from linfusion_cli.system.process_setup import lift_pixel_limit

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
LARGEST_PIXELS = 512_000_000  # a limit of our own against decompression bombs; Pillow's is below an 16K image
ORIENTATION = 0x0112
EXIF_BYTES = 16 << 20  # of a PNG's EXIF data that are read
TURNED = (5, 6, 7, 8)  # orientations that exchange width and height
DECODED_BYTES = 8  # of Pillow's per pixel: four as decoded, four more while it is turned
STRIP_ROWS = 64  # that are converted at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class InputImage:
    """An image on disk: its hash, its size in pixels as seen (after its EXIF orientation), what is done to it.

    number_bytes: of each of a pixel's three numbers once it is read
    """

    path: Path
    sha256: str
    size: Size
    number_bytes: int
    notes: tuple[str, ...]

    @property
    def held_bytes(self) -> int:
        """What its pixels take in memory."""
        return 3 * self.number_bytes * self.size.area

    @property
    def reading_bytes(self) -> int:
        """What reading it takes, its pixels among it."""
        return self.held_bytes + DECODED_BYTES * self.size.area


def inspect_image(path: Path, parameter: str) -> InputImage:
    """Looks at an image's header and hashes the file; decodes nothing.

    Raises UsageError, naming the option `parameter`, for what can't be read, another format, and images beyond
    LARGEST_PIXELS.
    """
    with _opened(path, parameter) as image:
        turned = _orientation(image, path) in TURNED
        size = Size(image.height, image.width) if turned else Size(image.width, image.height)
        named = (option(parameter), f" {path.name}: ")
        notes = [Message(*named, "its transparency is laid on white")] if _has_alpha(image) else []
        if getattr(image, "n_frames", 1) > 1:
            notes.append(Message(*named, f"the first of its {image.n_frames} images is taken"))
        if _loses_depth(image):
            notes.append(Message(*named, "its 16 bits per channel are read as 8"))
        number_bytes = 4 if _is_deep(image) else 1
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return InputImage(path=path, sha256=digest, size=size, number_bytes=number_bytes, notes=tuple(notes))


def fitting_note(image: InputImage, parameter: str, size: Size) -> str:
    """How an image of another aspect is fitted, "" if its aspect is the same to one part in a hundred."""
    ratio = image.size.width * size.height / (image.size.height * size.width)
    if abs(ratio - 1) < 0.01:
        return ""
    sides = "left and right" if ratio > 1 else "top and bottom"
    lost = 100 * (1 - min(ratio, 1 / ratio))
    cut = f"cutting off {lost:.0f} % at {sides}"
    return Message(option(parameter), f" {image.path.name}: {image.size} is fitted to the shape of {size} by {cut}")


def read_pixels(image: InputImage, parameter: str) -> Any:
    """The image as numpy (height, width, 3), upright, transparency laid on white.

    Its numbers are uint8, or float32 in [0, 1] for grey of more than 8 bits; colours of 16 bits keep their upper 8.
    Raises UsageError if the file is damaged or has changed since the job was made.
    """
    from PIL import ImageOps

    with _opened(image.path, parameter) as opened:
        try:
            upright: Any = ImageOps.exif_transpose(opened) if _orientation(opened, image.path) != 1 else opened
            upright.load()
            pixels = _grey(upright) if _is_deep(upright) else _levels(upright)
        except (OSError, SyntaxError, ValueError) as error:
            raise UsageError(f"{image.path}: the image is damaged ({error})", parameter=parameter) from error
    with image.path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != image.sha256:
            raise UsageError(f"{image.path}: the file changed since the job was made. Start again", parameter=parameter)
    return pixels


def _grey(image: Any) -> Any:
    """Grey of more than 8 bits, in three equal channels."""
    import numpy as np

    grey = np.asarray(image, dtype=np.float32)
    grey = grey / (1.0 if image.mode == "F" and grey.max(initial=0) <= 1 else 65535.0)
    return np.repeat(grey[:, :, None].clip(0, 1), 3, axis=2)


def _levels(image: Any) -> Any:
    """Whole levels of red, green and blue, strip by strip: Pillow's conversions make copies."""
    import numpy as np

    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    for strip in bands(image.height, STRIP_ROWS):
        pixels[strip.rows] = _on_white(image.crop((0, strip.top, image.width, strip.bottom)))
    return pixels


def _on_white(image: Any) -> Any:
    from PIL import Image

    if _has_alpha(image):
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image.convert("RGBA"))
    return image.convert("RGB")


def _is_deep(image: Any) -> bool:
    """Whether an image is grey in more than 8 bits, which are kept."""
    return str(image.mode).startswith("I") or image.mode == "F"


def _orientation(image: Any, path: Path) -> int:
    """The EXIF orientation, 1 to 8.

    A PNG's chunks are walked: Pillow would decode the whole image to find an eXIf chunk behind the pixels.
    """
    from PIL import Image

    try:
        exif = image.getexif() if image.format != "PNG" or "exif" in image.info else Image.Exif()
        if image.format == "PNG" and "exif" not in image.info and (data := _png_chunk(path, b"eXIf")):
            exif.load(data)
        return int(exif.get(ORIENTATION, 1))
    except (SyntaxError, TypeError, ValueError):  # damaged tags turn nothing
        return 1


def _png_chunk(path: Path, kind: bytes) -> bytes:
    """The data of a PNG's first chunk of a kind, b"" if there is none. Raises ValueError if the chunks are broken."""
    with path.open("rb") as file:
        found = next((chunk for chunk in chunks_of(file) if chunk.kind == kind), None)
        return whole(file, found, EXIF_BYTES) if found else b""


def _loses_depth(image: Any) -> bool:
    """Whether Pillow gives only the upper 8 of a file's 16 bits per channel: colour, or grey with transparency."""
    return not _is_deep(image) and any(";16" in str(tile[3]) for tile in image.tile)


def _has_alpha(image: Any) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


@contextmanager
def _opened(path: Path, parameter: str) -> Iterator[Any]:
    """The image, not decoded yet, with our own limit instead of Pillow's."""
    from PIL import Image, UnidentifiedImageError

    lift_pixel_limit()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about odd metadata
            image = Image.open(path, formats=FORMATS)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such file", parameter=parameter) from error
    except Image.DecompressionBombError as error:  # of a host process that keeps Pillow's limit
        limit = f"Pillow's limit in this process, {Image.MAX_IMAGE_PIXELS} pixels (PIL.Image.MAX_IMAGE_PIXELS)"
        raise UsageError(f"{path}: larger than twice {limit}", parameter=parameter) from error
    except UnidentifiedImageError as error:
        raise UsageError(
            f"{path}: not an image that can be read. Allowed: {', '.join(FORMATS)}", parameter=parameter
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UsageError(
            f"{path}: can't be read ({getattr(error, 'strerror', None) or error})", parameter=parameter
        ) from error
    else:
        with image:
            if image.width * image.height > LARGEST_PIXELS:
                limit = f"at most {LARGEST_PIXELS // 1_000_000} megapixels are read"
                raise UsageError(
                    f"{path}: says it has {image.width}x{image.height} pixels; {limit}. Make it smaller first",
                    parameter=parameter,
                )
            yield image
