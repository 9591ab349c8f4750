"""One image of many: thumbnails in rows and columns, with a label at each row and column or below each thumbnail."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linfusion_cli.errors import UsageError
from linfusion_cli.geometry import Size
from linfusion_cli.output.atomic_file import AtomicFile

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

LARGEST_SHEET_PX = 400_000_000
BACKGROUND, INK, NO_IMAGE = "white", "black", "#e0e0e0"
GAP_PX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What stands where.

    rows: the files of the thumbnails, row by row; None leaves a cell grey. columns, lines: labels above the columns and
    beside the rows, () for none. names: labels below the thumbnails, as `rows`, () for none.
    cell_px: the longer side of a thumbnail.
    """

    rows: Sequence[Sequence[Path | None]]
    columns: Sequence[str] = ()
    lines: Sequence[str] = ()
    names: Sequence[Sequence[str]] = ()
    cell_px: int = 512


def in_rows(paths: Sequence[Path]) -> list[list[Path | None]]:
    """The paths in about as many rows as columns."""
    columns = max(1, math.ceil(math.sqrt(len(paths))))
    padded: list[Path | None] = [*paths, *[None] * (-len(paths) % columns)]
    return [padded[start : start + columns] for start in range(0, len(padded), columns)]


def check_area(columns: int, lines: int, cell: Size) -> None:
    """Raises UsageError for a sheet of so many thumbnails of this size in pixels that would be too large."""
    width_px, height_px = columns * (cell.width + GAP_PX), lines * (cell.height + GAP_PX)
    if width_px * height_px > LARGEST_SHEET_PX:
        raise UsageError(f"the sheet would have {width_px}x{height_px} pixels: give fewer images or a smaller cell")


def write_sheet(sheet: Sheet, path: Path, make_thumbnail: Callable[[Path, int], Any], *, overwrite: bool) -> None:
    """Draws the sheet and writes it as a PNG, whole or not at all.

    make_thumbnail: the image of a file in RGB, its longer side at most so many pixels
    Raises UsageError for a thumbnail that can't be read and for a sheet that is too large, OutputError.
    """
    from PIL import Image, ImageDraw, ImageFont

    thumbnails = {file: make_thumbnail(file, sheet.cell_px) for row in sheet.rows for file in row if file is not None}
    if not thumbnails:
        raise UsageError("there is no image to show")
    wide = max(thumbnail.width for thumbnail in thumbnails.values())
    high = max(thumbnail.height for thumbnail in thumbnails.values())
    letter_px = max(12, sheet.cell_px // 20)
    font = ImageFont.load_default(letter_px)
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    line_px = int(letter_px * 1.6)
    left = max((int(measure.textlength(label, font=font)) + 2 * GAP_PX for label in sheet.lines), default=GAP_PX)
    top = line_px if sheet.columns else GAP_PX
    below = line_px if sheet.names else 0
    step_x, step_y = wide + GAP_PX, high + GAP_PX + below
    columns = max(len(row) for row in sheet.rows)
    check_area(columns, len(sheet.rows), Size(wide, high))
    size = (left + columns * step_x, top + len(sheet.rows) * step_y)
    image = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(image)
    for number, label in enumerate(sheet.columns):
        _label(draw, font, label, left + number * step_x, 0, wide, line_px)
    for row_number, row in enumerate(sheet.rows):
        y = top + row_number * step_y
        if sheet.lines:
            draw.text((GAP_PX, y + high // 2), sheet.lines[row_number], fill=INK, font=font, anchor="lm")
        for column, file in enumerate(row):
            x = left + column * step_x
            if file is None:
                if not sheet.names:
                    draw.rectangle((x, y, x + wide - 1, y + high - 1), fill=NO_IMAGE)
                continue
            thumbnail = thumbnails[file]
            image.paste(thumbnail, (x + (wide - thumbnail.width) // 2, y + (high - thumbnail.height) // 2))
            if sheet.names:
                _label(draw, font, sheet.names[row_number][column], x, y + high, wide, line_px)
    _write(image, path, overwrite=overwrite)


def _label(draw: ImageDraw, font: Any, text: str, x: int, y: int, wide: int, line_px: int) -> None:
    """A text in the middle of a cell's width, cut where it is wider."""
    while len(text) > 4 and draw.textlength(text, font=font) > wide:
        text = f"{text[:-4]}..."
    draw.text((x + wide // 2, y + line_px // 2), text, fill=INK, font=font, anchor="mm")


def _write(image: Any, path: Path, *, overwrite: bool) -> None:
    data = io.BytesIO()
    image.save(data, "PNG")
    with AtomicFile(path, data.getbuffer().nbytes, overwrite=overwrite) as file:
        file.write(data.getvalue())
        file.commit()
