"""Colours that a file names by code points (ITU-T H.273): PNG's cICP chunk, the nclx box of AVIF and HEIC."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from linfusion_cli.images.errors import ImageError
from linfusion_cli.images.icc import D65, DISPLAY_P3, GAMMA_SRGB, SRGB, Chromaticities
from linfusion_cli.png_chunks import chunks_of, whole

UNSPECIFIED = 2
PRIMARIES = {  # table 2: ColourPrimaries
    1: ("BT.709", SRGB),
    UNSPECIFIED: ("BT.709", SRGB),
    5: ("BT.601 (625 lines)", Chromaticities(D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06))),
    6: ("BT.601 (525 lines)", Chromaticities(D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070))),
    7: ("BT.601 (525 lines)", Chromaticities(D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070))),
    9: ("BT.2020", Chromaticities(D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046))),
    12: ("Display P3", DISPLAY_P3),
}
# Table 3: TransferCharacteristics. Those of video are a camera's curve, which displays show by the one of BT.1886.
VIDEO = (1, 6, 14, 15)
CURVES = {
    **dict.fromkeys(VIDEO, ("BT.1886", 2.4)),
    UNSPECIFIED: ("sRGB", GAMMA_SRGB),
    4: ("gamma 2.2", 2.2),
    5: ("gamma 2.8", 2.8),
    8: ("linear", 1.0),
    13: ("sRGB", GAMMA_SRGB),
}
HDR = {16: "PQ (SMPTE ST 2084)", 18: "HLG (BT.2100)"}
LARGEST_META_BYTES = 1 << 20
DEEPEST_BOX = (b"meta", b"iprp", b"ipco")  # where AVIF keeps its properties (ISO/IEC 23008-12)


@dataclass(frozen=True, slots=True)
class CodedColours:
    """Code points of H.273. where: the chunk or box that says them, for messages."""

    where: str
    primaries: int
    transfer: int
    matrix: int
    full_range: bool

    @property
    def name(self) -> str:
        """Of colours that are known: "Display P3"."""
        (primaries, _), (curve, _) = PRIMARIES[self.primaries], CURVES[self.transfer]
        if (primaries, curve) == ("BT.709", "sRGB"):
            return "sRGB"
        return primaries if primaries == "Display P3" and curve == "sRGB" else f"{primaries}, {curve} curve"

    def display(self) -> tuple[Chromaticities, float] | None:
        """Primaries and curve; None for code points that are not known. Raises ImageError for PQ, HLG and video range.

        AVIF and HEIC are decoded from any matrix and range; a PNG holds its colours as they are.
        """
        if self.transfer in HDR:
            raise ImageError(f"is an HDR image: {HDR[self.transfer]} by its {self.where}. Save it as SDR first: sRGB")
        if self.where == "cICP" and not self.full_range:
            raise ImageError("is a PNG of video range (cICP), whose black is not 0. Save it with the full range")
        if self.primaries not in PRIMARIES or self.transfer not in CURVES or (self.where == "cICP" and self.matrix):
            return None
        return PRIMARIES[self.primaries][1], CURVES[self.transfer][1]


def coded_colours_of(image: Any, path: Path) -> CodedColours | None:
    """What an opened PNG, AVIF or HEIC says of its colours by code points; None if it says nothing.

    Encoders of AVIF and HEIC write the curve of video for pixels that are sRGB, and browsers show them so.
    """
    if image.format == "PNG":
        with path.open("rb") as file:
            data = _of_png(file)
        return CodedColours("cICP", data[0], data[1], data[2], bool(data[3])) if data else None
    if image.format == "HEIF":
        found = image.info.get("nclx_profile") or {}
        keys = ("color_primaries", "transfer_characteristics", "matrix_coefficients")
        points = tuple(int(found.get(key, UNSPECIFIED)) for key in keys)
    elif image.format == "AVIF":
        with path.open("rb") as file:
            points = _of_avif(file)
    else:
        return None
    primaries, transfer, matrix = points
    return CodedColours("nclx box", primaries, 13 if transfer in VIDEO else transfer, matrix, True)


def _of_png(file: BinaryIO) -> tuple[int, ...] | None:
    """The four bytes of cICP, which stands before the pixels (PNG, third edition, 11.3.2.6)."""
    try:
        for chunk in chunks_of(file):
            if chunk.kind == b"IDAT":
                break
            if chunk.kind == b"cICP" and chunk.length == 4:
                return tuple(whole(file, chunk, 4))
    except ValueError:  # found and told when the pixels are read
        pass
    return None


def _of_avif(file: BinaryIO) -> tuple[int, ...]:
    """The three code points of the first nclx box among the properties of a file's items."""
    data = file.read(LARGEST_META_BYTES)
    for name in DEEPEST_BOX:
        data = next((body for kind, body in _boxes(data) if kind == name), b"")
        data = data[4:] if name == b"meta" else data  # a full box: version and flags come first
    body = next((body for kind, body in _boxes(data) if kind == b"colr" and body.startswith(b"nclx")), b"")
    return struct.unpack_from(">3H", body, 4) if len(body) >= 10 else (UNSPECIFIED,) * 3


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes side by side in some bytes (ISO/IEC 14496-12), those with a size of 64 bits left out."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8:
            return
        yield kind, data[at + 8 : at + size]
        at += size
