"""Rows of pixels as they come from the decoder, cut anew into strips of a fixed height."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from linfusion_cli.file_formats import CHANNELS
from linfusion_cli.geometry import Size

Rows = npt.NDArray[Any]  # uint8 or uint16, (rows, width, 3)


def checked_rows(rows: Iterator[Rows], size: Size, bits: int) -> Iterator[Rows]:
    """The same rows. Raises ValueError for another type or shape, for too many of them, and at the end for too few."""
    dtype, taken = np.dtype(np.uint16 if bits == 16 else np.uint8), 0
    for piece in rows:
        if piece.dtype != dtype or piece.ndim != 3 or piece.shape[1:] != (size.width, CHANNELS):
            expected = f"rows must be {dtype} (rows, {size.width}, {CHANNELS})"
            raise ValueError(f"{expected}, not {piece.dtype} {piece.shape}")
        taken += len(piece)
        if taken > size.height:
            raise ValueError(f"the image has {size.height} rows, {taken} were given")
        yield piece
    if taken < size.height:
        raise ValueError(f"the image has {size.height} rows, only {taken} were written")


def strips_of(rows: Iterator[Rows], height: int) -> Iterator[Rows]:
    """The rows in strips of `height` rows of their own memory; the last may be lower."""
    strip: Rows | None = None
    filled = 0
    for piece in rows:
        while len(piece):
            if strip is None:
                strip, filled = np.empty((height, *piece.shape[1:]), piece.dtype), 0
            count = min(len(piece), height - filled)
            strip[filled : filled + count] = piece[:count]
            filled, piece = filled + count, piece[count:]
            if filled == height:
                yield strip
                strip = None
    if strip is not None:
        yield strip[:filled]


def halved(rows: Rows) -> Rows:
    """Half as many rows and columns, rounded up: the mean of each 2x2 pixels; what lacks at an edge is repeated."""
    if rows.shape[0] % 2 or rows.shape[1] % 2:
        rows = np.pad(rows, ((0, rows.shape[0] % 2), (0, rows.shape[1] % 2), (0, 0)), mode="edge")
    wide = np.uint32 if rows.dtype == np.uint16 else np.uint16
    total: npt.NDArray[np.uint32] = rows[::2, ::2].astype(wide)
    for part in (rows[::2, 1::2], rows[1::2, ::2], rows[1::2, 1::2]):
        np.add(total, part, out=total)
    means: Rows = (total + np.array(2, wide)) >> np.array(2, wide)
    return means.astype(rows.dtype)
