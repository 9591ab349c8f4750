"""Makes ICC profiles of displays from their primaries and their tone curve (ICC.1:2022, three-component matrix)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

D50 = (0.9642, 1.0, 0.8249)
GAMMA_SRGB = 0.0  # in place of an exponent: the curve of sRGB
BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # g, a, b, c, d of parametric curve type 3


@dataclass(frozen=True, slots=True)
class Chromaticities:
    """CIE 1931 (x, y) of the white point and the three primaries of a display."""

    white: tuple[float, float]
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]

    @property
    def numbers(self) -> tuple[float, ...]:
        """The eight numbers, in the order of PNG's cHRM."""
        return (*self.white, *self.red, *self.green, *self.blue)

    @staticmethod
    def of(numbers: Any) -> Chromaticities | None:
        """From the eight numbers of PNG's cHRM; None for those that span no colours."""
        pairs = [(float(numbers[i]), float(numbers[i + 1])) for i in range(0, 8, 2)]
        found = Chromaticities(*pairs)
        (rx, ry), (gx, gy), (bx, by) = found.red, found.green, found.blue
        area = abs((gx - rx) * (by - ry) - (bx - rx) * (gy - ry))
        possible = all(0 <= x <= 1 and 0 < y <= 1 for x, y in pairs)
        return found if possible and area > 0.001 else None


D65 = (0.3127, 0.3290)
SRGB = Chromaticities(D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3 = Chromaticities(D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060))  # SMPTE EG 432-1 with white D65
ADOBE = Chromaticities(D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))


def matrix_profile(chromaticities: Chromaticities, curve: float, description: str = "") -> bytes:
    """The bytes of a display profile. curve: the exponent of its gamma, or GAMMA_SRGB.

    description: its name for people, with which it has every tag that the standard requires
    """
    columns = colorants(chromaticities)
    if curve == GAMMA_SRGB:
        tone = b"para\0\0\0\0\0\3\0\0" + b"".join(_fixed(number) for number in _SRGB_CURVE)
    else:
        tone = b"para\0\0\0\0\0\0\0\0" + _fixed(curve)
    tags = [(b"wtpt", _xyz(D50))]
    tags += [(name, _xyz(column)) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)]
    tags += [(name, tone) for name in (b"rTRC", b"gTRC", b"bTRC")]
    if description:
        tags += [(b"desc", _text(description)), (b"cprt", _text("No copyright, use freely"))]
    return _profile(tags)


def colorants(chromaticities: Chromaticities) -> tuple[tuple[float, ...], ...]:
    """XYZ of full red, green and blue, adapted from the white point to D50 by Bradford's transform."""
    import numpy as np

    xyz = np.array(
        [[x / y, 1, (1 - x - y) / y] for x, y in (chromaticities.red, chromaticities.green, chromaticities.blue)]
    )
    x, y = chromaticities.white
    white = np.array([x / y, 1, (1 - x - y) / y])
    scaled = xyz.T * np.linalg.solve(xyz.T, white)
    cones = np.array(BRADFORD)
    ratio = (cones @ D50) / (cones @ white)
    adapted = np.linalg.inv(cones) @ (ratio[:, None] * (cones @ scaled))
    return tuple(tuple(float(number) for number in adapted[:, i]) for i in range(3))


def _fixed(number: float) -> bytes:
    return struct.pack(">i", max(-(2**31), min(round(number * 65536), 2**31 - 1)))


def _text(text: str) -> bytes:
    """A multi-localized text of one language (ICC.1:2022, 10.15)."""
    data = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(data), 28) + data


def _xyz(numbers: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(_fixed(number) for number in numbers)


def _profile(tags: list[tuple[bytes, bytes]]) -> bytes:
    offset = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, body in tags:
        table += name + struct.pack(">II", offset + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    header = struct.pack(">I4sI4s4s4s", offset + len(data), b"\0\0\0\0", 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + b"".join(_fixed(number) for number in D50)
    return header.ljust(128, b"\0") + table + data
