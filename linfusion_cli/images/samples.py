"""How an image file stores its samples: their bits and format by its header, never by looking at the data."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal

from linfusion_cli.images.deep_tiff import DeepTiff
from linfusion_cli.images.errors import ImageError
from linfusion_cli.images.opening import has_alpha

BITS, COMPRESSION, PHOTOMETRIC, PLANAR, EXTRA, SAMPLE_FORMAT = 258, 259, 262, 284, 338, 339  # TIFF 6.0 tags
SUBFILE, DNG_VERSION = 254, 50706
MIN_IS_WHITE, CMYK = 0, 5
CAMERA_PHOTOMETRICS = (32803, 34892)  # colour filter array and linear raw, of the DNG specification
SIGNED, FLOAT = 2, 3  # of SampleFormat
Alpha = Literal["", "straight", "associated", "key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The samples of an image file.

    number: "level" of at most 8 bits, "whole" number of more bits, or "float"
    white: the number that is white: 255, 65535, ...; 1 for "float"
    inverted: 0 is white and `white` is black
    swapped: the bytes of 32-bit numbers are in the other order once Pillow has decoded them
    raw_modes: Pillow's raw modes of the decodings that give the upper and the lower bytes of 16-bit channels; () where
        one decoding in Pillow's own mode gives everything
    alpha: of "whole" samples with raw_modes; "key": one value is transparent, as PNG's tRNS says
    lost_bits: how many bits per channel the file has, where only the upper 8 are read; else 0
    number_bytes: of each of a pixel's three numbers once it is read
    """

    number: Literal["level", "whole", "float"]
    white: float = 255
    inverted: bool = False
    signed: bool = True
    swapped: bool = False
    raw_modes: tuple[str, ...] = ()
    alpha: Alpha = ""
    lost_bits: int = 0
    number_bytes: int = 1


def samples_of(image: Any) -> Samples:
    """The samples of an opened image. Raises ImageError for a layout that would be read wrongly."""
    if isinstance(image, DeepTiff):
        kind: Literal["float", "whole"] = "float" if image.dtype.startswith("float") else "whole"
        white = 1.0 if kind == "float" else 65535.0
        number_bytes = 2 if image.dtype == "uint16" else 4
        return Samples(number=kind, white=white, inverted=image.inverted, alpha=image.alpha, number_bytes=number_bytes)
    if image.format == "TIFF":
        return _of_tiff(image)
    raw_mode = _raw_mode(image)
    if image.format == "PNG" and ";16" in raw_mode and not image.mode.startswith("I"):
        return _of_deep_png(image, raw_mode)
    if image.mode.startswith("I"):
        return Samples(number="whole", white=65535, number_bytes=2, alpha="key" if has_alpha(image) else "")
    if image.mode == "F":
        return Samples(number="float", white=1, number_bytes=4)
    return Samples(number="level")


def unread_channels(image: Any) -> int:
    """How many channels of a TIFF stand behind its colours and its alpha; no decoder here reads them."""
    if isinstance(image, DeepTiff) or image.format != "TIFF":
        return 0
    extra = image.tag_v2.get(EXTRA, ())
    return len(extra) - has_alpha(image) if extra else 0


def _raw_mode(image: Any) -> str:
    arguments = image.tile[0][3] if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _of_deep_png(image: Any, raw_mode: str) -> Samples:
    if raw_mode == "LA;16B":  # four bytes a pixel: both of grey, both of alpha
        return Samples(number="whole", white=65535, number_bytes=2, raw_modes=("RGBA",), alpha="straight")
    modes = (raw_mode, raw_mode.replace(";16B", ";16L"))
    alpha: Alpha = "straight" if image.mode == "RGBA" else "key" if has_alpha(image) else ""
    return Samples(number="whole", white=65535, number_bytes=2, raw_modes=modes, alpha=alpha)


def _of_tiff(image: Any) -> Samples:
    tags = image.tag_v2
    bits, photometric = max(tags.get(BITS, (1,))), tags.get(PHOTOMETRIC, 0)
    kind = max(tags.get(SAMPLE_FORMAT, (1,)))
    _refuse_raw(tags, photometric)
    if bits <= 8 and kind == SIGNED:
        raise ImageError("is a TIFF of signed 8-bit numbers. Save it as unsigned ones")
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        raw_mode = _raw_mode(image)
        # libtiff gives numbers in the machine's order, which Pillow takes for the file's.
        swapped = image.tile[0][0] == "libtiff" and "B" in raw_mode and sys.byteorder == "little"
        if swapped and raw_mode == "I;16BS":
            raise ImageError("is a compressed TIFF of signed 16-bit numbers in big-endian order. Save it uncompressed")
        white = 1.0 if kind == FLOAT else 4095.0 if bits == 12 else 65535.0
        return Samples(
            number="float" if kind == FLOAT else "whole",
            white=white,
            inverted=photometric == MIN_IS_WHITE,
            signed=kind == SIGNED,
            swapped=swapped and ";32" in raw_mode,
            number_bytes=2 if image.mode.startswith("I;16") and bits == 16 else 4,
        )
    return _of_deep_colour(image, tags) if bits > 8 else Samples(number="level")


def _refuse_raw(tags: Any, photometric: int) -> None:
    if photometric in CAMERA_PHOTOMETRICS or DNG_VERSION in tags or tags.get(SUBFILE, 0) & 1:
        raise ImageError("is a RAW photo of a camera, of which only a preview could be read. Develop it to TIFF first")


def _of_deep_colour(image: Any, tags: Any) -> Samples:
    raw_mode = _raw_mode(image)
    if tags.get(PLANAR, 1) != 1:
        raise ImageError(
            "is a TIFF of 16 bits with each channel apart (PlanarConfiguration 2). Save it interleaved; if it is RGB: "
            'pip install "linfusion-cli[tiff]"'
        )
    if image.mode not in ("RGB", "RGBA"):
        return Samples(number="level", lost_bits=16)
    little = raw_mode.endswith("L") or (raw_mode.endswith("N") and sys.byteorder == "little")
    kind = raw_mode.partition(";")[0]
    alpha: Alpha = "associated" if kind == "RGBa" else "straight" if kind == "RGBA" else ""
    upper, lower = ("L", "B") if little else ("B", "L")
    read = kind.replace("a", "A")
    return Samples(
        number="whole", white=65535, number_bytes=2, raw_modes=(f"{read};16{upper}", f"{read};16{lower}"), alpha=alpha
    )
