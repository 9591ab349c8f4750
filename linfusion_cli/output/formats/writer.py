"""Writes an image in any format: the one way from rows of pixels to a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from linfusion_cli.errors import OutputError, option
from linfusion_cli.file_formats import FileSettings
from linfusion_cli.geometry import Size
from linfusion_cli.output.atomic_file import AtomicFile, check_writable
from linfusion_cli.output.formats.colour import icc_profile, in_profile
from linfusion_cli.output.formats.deep_zoom import finish, is_leftover, tiles_folder, write_deep_zoom
from linfusion_cli.output.formats.exif_xmp import check_segments
from linfusion_cli.output.formats.jpeg import write_jpeg
from linfusion_cli.output.formats.strips import Rows, checked_rows
from linfusion_cli.output.formats.tiff import write_tiff
from linfusion_cli.output.formats.whole_image import write_whole
from linfusion_cli.output.png_writer import PngOptions, PngWriter, largest_bytes

# A writer reads the rows, uint8 or uint16 (rows, width, 3) of settings.bits, from the top, and returns when the file
# is complete but for commit(). It holds no more of the image than FileSettings.held_bytes says.
Write = Callable[[AtomicFile, Size, FileSettings, Mapping[str, str], Iterator[Rows]], None]


def write_image(
    path: Path, size: Size, settings: FileSettings, texts: Mapping[str, str], rows: Iterator[Rows], *, overwrite: bool
) -> None:
    """Writes rows of settings.row_bits, sRGB, with the record's texts; the file appears whole or not at all.

    Raises OutputError (DiskFullError) where it can't be written, and ValueError for rows of another number or shape.
    """
    whole = in_profile(checked_rows(rows, size, settings.row_bits), settings)
    with AtomicFile(path, _reserved_bytes(size, settings), overwrite=overwrite) as file:
        _WRITERS[settings.format.name](file, size, settings, texts, whole)
        try:
            file.commit()
        finally:
            if settings.format.name == "dzi":
                finish(path)


def check_destination(path: Path, size: Size, settings: FileSettings, *, overwrite: bool) -> None:
    """Finds, before any work, what would stop the file from being written. Raises OutputError (DiskFullError)."""
    check_writable(path, bytes_on_disk(size, settings), overwrite=overwrite)
    if settings.format.name == "dzi" and not overwrite and tiles_folder(path).exists() and not is_leftover(path):
        raise OutputError(
            f"{str(tiles_folder(path))!r} already exists; use ", option("overwrite"), " or another ", option("output")
        )


def check_texts(texts: Mapping[str, str], settings: FileSettings) -> None:
    """Finds, before any work, texts that the format can't hold. Raises UsageError."""
    if settings.format.name == "jpeg":
        check_segments(texts)


def bytes_on_disk(size: Size, settings: FileSettings) -> int:
    """The most bytes that the image may take there."""
    return largest_bytes(size, settings.bits) if settings.format.name == "png" else settings.largest_bytes(size)


def _reserved_bytes(size: Size, settings: FileSettings) -> int:
    """Of the file itself; the tiles of a deep zoom are files of their own."""
    return 0 if settings.format.name == "dzi" else bytes_on_disk(size, settings)


def _write_png(
    file: AtomicFile, size: Size, settings: FileSettings, texts: Mapping[str, str], rows: Iterator[Rows]
) -> None:
    icc = b"" if settings.color_profile == "srgb" else icc_profile(settings.color_profile)
    with PngWriter(file, size, texts, options=PngOptions(settings.bits, settings.dpi, icc)) as png:
        for piece in rows:
            png.write_rows(piece)


_WRITERS: Mapping[str, Write] = {
    "png": _write_png,
    "jpeg": write_jpeg,
    "tiff": write_tiff,
    "webp": write_whole,
    "avif": write_whole,
    "jxl": write_whole,
    "dzi": write_deep_zoom,
}
