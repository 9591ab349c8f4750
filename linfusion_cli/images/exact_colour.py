"""Converts numbers of any precision by ICC profiles that are curves and a matrix (ICC.1:2022, 8.3 and F.3).

LittleCMS through Pillow gives 8 bits a channel. These profiles say their whole transform in closed form: a curve for
each channel, and the XYZ of full red, green and blue. Colours outside of sRGB are clipped, as LittleCMS does.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from linfusion_cli.images.icc import GAMMA_SRGB, SRGB, Chromaticities, colorants

Curve = Callable[[Any], Any]  # numbers in [0, 1] as linear light
MOST_TAGS = 100
MOST_POINTS = 1 << 16
TABLES = (b"A2B0", b"A2B1", b"D2B0", b"D2B1")  # which LittleCMS takes before the curves
PARAMETERS = (1, 3, 4, 5, 7)  # how many numbers a parametric curve of type 0 to 4 has


@dataclass(frozen=True, slots=True)
class ExactTransform:
    """Curves of the channels, and the matrix from their light to that of sRGB; one curve and no matrix for grey."""

    curves: tuple[Curve, ...]
    matrix: Any = None

    def apply(self, numbers: Any) -> Any:
        """Float numbers in [0, 1], (rows, width, 1 or 3), as float32 of sRGB in [0, 1], (rows, width, 3)."""
        import numpy as np

        channels = [numbers[:, :, min(i, numbers.shape[2] - 1)] for i in range(len(self.curves))]
        light = np.stack([curve(channel) for curve, channel in zip(self.curves, channels, strict=True)], axis=-1)
        light = light @ self.matrix.T if self.matrix is not None else np.repeat(light, 3, axis=2)
        return encoded(light).astype(np.float32)


def decoded(numbers: Any) -> Any:
    """Numbers of sRGB in [0, 1] as linear light (IEC 61966-2-1)."""
    import numpy as np

    return np.where(numbers <= 0.04045, numbers / 12.92, ((numbers + 0.055) / 1.055) ** 2.4)


def encoded(light: Any) -> Any:
    """Linear light as sRGB (IEC 61966-2-1), clipped to [0, 1]."""
    import numpy as np

    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)


def exact_transform(profile: bytes, mode: str) -> ExactTransform | None:
    """The transform of a profile for "RGB" or "L"; None for one that is a table, or that is damaged."""
    import numpy as np

    try:
        tags = tags_of(profile)
        if any(name in tags for name in TABLES):
            return None
        if mode == "L":
            return ExactTransform((_grey_curve(tags[b"kTRC"], profile[20:24]),))
        if mode != "RGB" or profile[20:24] != b"XYZ ":
            return None
        columns = [_xyz(tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
        curves = tuple(curve_of(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC"))
        matrix = np.linalg.solve(np.array(colorants(SRGB)).T, np.array(columns).T)
        return ExactTransform(curves, matrix)
    except (KeyError, ValueError, struct.error):
        return None


def display_transform(chromaticities: Chromaticities, curve: float) -> ExactTransform:
    """The transform of a display, as matrix_profile describes it, without the rounding of a profile's numbers."""
    import numpy as np

    tone = decoded if curve == GAMMA_SRGB else (lambda numbers: numbers**curve)
    matrix = np.linalg.solve(np.array(colorants(SRGB)).T, np.array(colorants(chromaticities)).T)
    return ExactTransform((tone,) * 3, matrix)


def tags_of(profile: bytes) -> dict[bytes, bytes]:
    """The data of each tag. Raises ValueError or struct.error for a profile that is damaged."""
    (count,) = struct.unpack_from(">I", profile, 128)
    if count > MOST_TAGS:
        raise ValueError(f"{count} tags")
    found = {}
    for i in range(count):
        name, start, length = struct.unpack_from(">4sII", profile, 132 + 12 * i)
        found[name] = profile[start : start + length]
    return found


def curve_of(tag: bytes) -> Curve:
    """A curve of the types "curv" and "para". Raises ValueError or struct.error for others."""
    match tag[:4]:
        case b"curv":
            return _table(tag)
        case b"para":
            return _parametric(tag)
    raise ValueError(f"a curve of type {tag[:4]!r}")


def _table(tag: bytes) -> Curve:
    import numpy as np

    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return lambda numbers: numbers
    if count == 1:
        exponent = struct.unpack_from(">H", tag, 12)[0] / 256
        return lambda numbers: numbers**exponent
    if count > MOST_POINTS:
        raise ValueError(f"{count} points")
    points = np.array(struct.unpack_from(f">{count}H", tag, 12)) / 65535
    inputs = np.linspace(0, 1, count)
    return lambda numbers: np.interp(numbers, inputs, points)


def _parametric(tag: bytes) -> Curve:
    """Y = (aX + b)^g + e where X >= d, else cX + f; the types 0 to 3 leave some of them out (table 68)."""
    import numpy as np

    (kind,) = struct.unpack_from(">H", tag, 8)
    if kind >= len(PARAMETERS):
        raise ValueError(f"a parametric curve of type {kind}")
    numbers = [number / 65536 for number in struct.unpack_from(f">{PARAMETERS[kind]}i", tag, 12)]
    g, a, b, c, d, e, f = _seven(kind, numbers)
    if g <= 0 or (kind in (1, 2) and a == 0):
        raise ValueError("an impossible curve")

    def curve(x: Any) -> Any:
        return np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f).clip(0, 1)

    return curve


def _seven(kind: int, numbers: list[float]) -> tuple[float, ...]:
    """The numbers of a curve of any type as those of type 4."""
    match kind, numbers:
        case 0, [g]:
            return (g, 1, 0, 0, 0, 0, 0)
        case 1, [g, a, b]:
            return (g, a, b, 0, -b / a if a else 0, 0, 0)
        case 2, [g, a, b, c]:
            return (g, a, b, 0, -b / a if a else 0, c, c)
        case 3, [g, a, b, c, d]:
            return (g, a, b, c, d, 0, 0)
    return tuple(numbers)


def _grey_curve(tag: bytes, connection: bytes) -> Curve:
    """Of a grey profile: linear light, or lightness where it connects through CIELAB."""
    import numpy as np

    curve = curve_of(tag)
    if connection != b"Lab ":
        return curve

    def light(numbers: Any) -> Any:
        lightness = 100 * curve(numbers)
        return np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness * 27 / 24389)

    return light


def _xyz(tag: bytes) -> tuple[float, ...]:
    return tuple(number / 65536 for number in struct.unpack_from(">3i", tag, 8))
