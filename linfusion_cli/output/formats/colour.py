"""The colours of the pixels of a file: sRGB as they are made, or converted to Display P3; and their ICC profiles."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt

from linfusion_cli.file_formats import ColorProfile, FileSettings
from linfusion_cli.images.exact_colour import decoded, encoded
from linfusion_cli.images.icc import DISPLAY_P3, GAMMA_SRGB, SRGB, colorants, matrix_profile
from linfusion_cli.output.formats.strips import Rows

ROWS_AT_ONCE = 16
LARGEST_16 = 65535


def in_profile(rows: Iterator[Rows], settings: FileSettings) -> Iterator[Rows]:
    """Rows of settings.row_bits in sRGB as rows of settings.bits in the file's colours."""
    for piece in rows:
        if settings.color_profile == "srgb":
            yield piece
        else:
            for top in range(0, len(piece), ROWS_AT_ONCE):
                yield with_bits(to_display_p3(piece[top : top + ROWS_AT_ONCE]), settings.bits)


def to_display_p3(rows: Rows) -> Rows:
    """uint16 sRGB as uint16 Display P3, which holds all of its colours."""
    linear = _linear_levels()[rows] @ _srgb_to_p3().T
    levels: Rows = (encoded(linear) * LARGEST_16).round().astype(np.uint16)
    return levels


def with_bits(rows: Rows, bits: int) -> Rows:
    """uint16 as it is, or as uint8, rounded."""
    return rows if bits == 16 else ((rows.astype(np.uint32) + 128) // 257).astype(np.uint8)


@cache
def icc_profile(name: ColorProfile) -> bytes:
    """The ICC profile of a colour space."""
    if name == "display-p3":
        return matrix_profile(DISPLAY_P3, GAMMA_SRGB, "Display P3")
    return matrix_profile(SRGB, GAMMA_SRGB, "sRGB")


@cache
def _linear_levels() -> npt.NDArray[np.float32]:
    """Linear light, 0 to 1, of each of the 65,536 levels (IEC 61966-2-1)."""
    linear: npt.NDArray[np.float32] = decoded(np.arange(LARGEST_16 + 1) / LARGEST_16).astype(np.float32)
    return linear


@cache
def _srgb_to_p3() -> npt.NDArray[np.float32]:
    """Linear sRGB to linear Display P3; both have the white D65."""
    matrix = np.linalg.solve(np.array(colorants(DISPLAY_P3)).T, np.array(colorants(SRGB)).T)
    return matrix.astype(np.float32)
