"""A small version of an image of any size, in bounded memory where its format is read by rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from linfusion_cli.errors import UsageError
from linfusion_cli.images.errors import DECODER_ERRORS, ImageError
from linfusion_cli.images.opening import opened
from linfusion_cli.viewer.source import Rows, open_source

BLOCK_ROWS = 16  # that are averaged at a time


def thumbnail(path: Path, side_px: int, tell: Callable[[str], None] = lambda text: None) -> Any:
    """The image as a Pillow image in RGB, its longer side at most side_px.

    A JPEG is decoded at a half, a quarter or an eighth of its size; of other formats squares of pixels are averaged
    row by row, until some two pixels of theirs are left for each of the thumbnail.

    tell: is called where much memory is needed, because the format is decoded whole
    Raises UsageError for a file that can't be read, or takes more memory than is free.
    """
    from PIL import Image

    try:
        with opened(path) as image:
            if image.format in ("JPEG", "MPO"):
                image.draft("RGB", (2 * side_px, 2 * side_px))
                image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
                return image.convert("RGB")
    except (ImageError, OSError, *DECODER_ERRORS) as error:
        raise UsageError(f"{str(path)!r} can't be shown: {error}") from error
    source = open_source(path)
    if source.note:
        tell(f"{path}: {source.note}")
    factor = max(1, max(source.size.width, source.size.height) // (2 * side_px))
    small = Image.fromarray(np.concatenate(list(averaged(source.rows(), factor))))
    small.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return small


def averaged(rows: Iterator[Rows], factor: int) -> Iterator[Rows]:
    """The rows of the image whose pixels are the means of factor x factor pixels, fewer at the right and lower edge."""
    waiting: Rows | None = None
    for piece in rows:
        joined = piece if waiting is None else np.concatenate([waiting, piece])
        whole = len(joined) // factor * factor
        step = -(-BLOCK_ROWS // factor) * factor  # sums take four times the bytes of the rows
        for top in range(0, whole, step):
            yield _averaged(joined[top : min(top + step, whole)], factor)
        waiting = joined[whole:]
    if waiting is not None and len(waiting):
        yield _averaged(waiting, factor)


def _averaged(rows: Rows, factor: int) -> Rows:
    """rows: (height, width, 3); one row of the result where the height is below factor."""
    if factor == 1:
        return rows
    tops, lefts = np.arange(0, len(rows), factor), np.arange(0, rows.shape[1], factor)
    sums = np.add.reduceat(np.add.reduceat(rows, tops, axis=0, dtype=np.uint32), lefts, axis=1)
    heights, widths = (np.diff([*starts, end]) for starts, end in ((tops, len(rows)), (lefts, rows.shape[1])))
    counts = (heights[:, None] * widths[None, :])[..., None]
    means: Rows = ((sums + counts // 2) // counts).astype(np.uint8)
    return means
